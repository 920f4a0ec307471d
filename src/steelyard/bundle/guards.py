"""Guards of a loaded bundle: rows and answers unlike what training had are flagged or refused.

Nearly all rows are like training, and pass a few comparisons over the packed numbers of the whole
batch; only a row that these find odd is looked at field by field.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from steelyard.bundle.packing import Packing
from steelyard.core.answers import Flag
from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.core.json_text import BODY, field_error
from steelyard.core.values import shown
from steelyard.errors import InputError
from steelyard.features.columns import from_wire, to_wire

__all__ = ["Checked", "Guard", "UnfitAnswerError"]

Row = Sequence[Any]
Checked = tuple[Flag, ...] | InputError
"""What is odd about a row or an answer, mostly nothing; or why it is refused."""

_MAX: Final = float(np.finfo(np.float64).max)
_ODD: Final = b"\1"
_NOT_FINITE: Final = field_error(
    BODY, "expected values for which the model has a finite answer", None
)


class UnfitAnswerError(InputError):
    """A model's answer to a row cannot be used: `reason` is not_finite or out_of_range.

    `flags` are those of the row. It is the row's error where no fallback answers.
    """

    def __init__(
        self, errors: Iterable[Mapping[str, Any]], reason: str, flags: tuple[Flag, ...] = ()
    ) -> None:
        super().__init__(errors)
        self.reason = reason
        self.flags = flags

    @classmethod
    def not_finite(cls, flags: tuple[Flag, ...] = ()) -> Self:
        """Return that an answer is not finite."""
        return cls([_NOT_FINITE], "not_finite", flags)


@dataclass(frozen=True, slots=True)
class _Limits:
    """The rules of one field: what it may not be, and what is said where it is."""

    place: int
    field: FieldSpec
    flags: Mapping[str, Flag]
    refused: frozenset[str]
    seen: frozenset[Any] | None
    low: float | None
    high: float | None

    def broken(self, value: Any) -> str | None:
        """Return the rule that a validated value breaks."""
        if value is None:
            return "null" if "null" in self.flags else None
        if self.seen is not None:
            return None if value in self.seen else "unseen"
        if "range" not in self.flags:
            return None
        if self.low is None or self.high is None:  # training had nothing but nulls
            return "range"
        # As the packed row holds it, so that a row is judged as its batch is.
        return None if self.low <= float(to_wire(self.field, value)) <= self.high else "range"

    def passes(self) -> Callable[[Any], bool]:
        """Return a quick test that no value passes which breaks a rule."""
        if self.seen is not None:
            return (self.seen if "null" in self.flags else self.seen | {None}).__contains__
        if self.field.temporal and self.low is not None and self.high is not None:
            first, last = from_wire(self.field, self.low), from_wire(self.field, self.high)
            null = "null" not in self.flags
            return lambda value: null if value is None else first <= value <= last
        return lambda value: self.broken(value) is None


class Guard:
    """The guards of a bundle, compiled from `guards.json` at load. Threads may share one."""

    def __init__(
        self, document: Mapping[str, Any], fields: Sequence[FieldSpec], packing: Packing
    ) -> None:
        rules: Mapping[str, Any] = document.get("fields", {})
        codes = packing.codes or {}
        self._limits = [
            _limits(i, field, rules[field.name], codes.get(field.name, {}))
            for i, field in enumerate(fields)
            if field.name in rules
        ]
        self._batch = _Batch(packing, {one.field.name: one for one in self._limits})
        self._alone = [
            (one.place, one.passes())
            for one in self._limits
            if one.field.name not in self._batch.covered
        ]
        empty = document.get("empty")
        self._most_nulls: int | None = None if empty is None else empty["nulls"]
        self._empty = Flag(
            BODY, "empty", f"expected at most {self._most_nulls} of {len(fields)} values null"
        )
        self._empty_refused = empty is not None and empty["action"] == "refuse"
        output = document.get("output") or {"action": "flag", "low": -_MAX, "high": _MAX}
        self._low, self._high = float(output["low"]), float(output["high"])
        self._output = Flag("prediction", "output", _span(self._low, self._high))
        self._output_refused = output["action"] == "refuse"

    def check(
        self, rows: Sequence[Row], feeds: Mapping[str, npt.NDArray[Any]]
    ) -> list[Checked] | None:
        """Return what is odd about each of N rows; None where nothing is odd about any.

        `rows` are validated values in field order and `feeds` their packed form. An InputError
        stands for a row that is refused, and names each field that a guard refused.
        """
        odd = self._batch.odd(feeds)
        for place, passes in self._alone:
            odd += [n for n, row in enumerate(rows) if not passes(row[place])]
        if self._most_nulls is not None:
            most = self._most_nulls
            odd += [n for n, row in enumerate(rows) if row.count(None) > most]
        if not odd:
            return None
        found: list[Checked] = [()] * len(rows)
        for n in odd:
            found[n] = self._checked(rows[n])
        return found if any(found) else None

    def check_answers(
        self, answers: Sequence[tuple[Any, Sequence[float] | None]]
    ) -> list[Checked] | None:
        """Return what is odd about each of N answers; None where nothing is odd about any.

        An UnfitAnswerError stands for an answer that is not finite, or that the rule `output`
        refuses.
        """
        low, high = self._low, self._high
        for prediction, scores in answers:
            if not (low <= prediction <= high if scores is None else math.isfinite(sum(scores))):
                break
        else:
            return None
        return [self._checked_answer(*answer) for answer in answers]

    def _checked(self, row: Row) -> Checked:
        flags: list[Flag] = []
        refused: list[dict[str, Any]] = []
        if self._most_nulls is not None and row.count(None) > self._most_nulls:
            flags.append(self._empty)
            if self._empty_refused:
                refused.append(field_error(BODY, self._empty.message, row.count(None)))
        for one in self._limits:
            rule = one.broken(row[one.place])
            if rule is None:
                continue
            flag = one.flags[rule]
            flags.append(flag)
            if rule in one.refused:
                refused.append(field_error(flag.field, flag.message, shown(row[one.place])))
        return InputError(refused) if refused else tuple(flags)

    def _checked_answer(self, prediction: Any, scores: Sequence[float] | None) -> Checked:
        numbers = [prediction] if scores is None else scores
        if not all(map(math.isfinite, numbers)):
            return UnfitAnswerError.not_finite()
        if scores is not None or self._low <= prediction <= self._high:
            return ()
        if self._output_refused:
            error = field_error("prediction", self._output.message, prediction)
            return UnfitAnswerError([error], "out_of_range")
        return (self._output,)


class _Batch:
    """The comparisons over the packed numbers [N, D] of a batch, all columns at once.

    `covered` are the fields of which these find every value that breaks a rule.
    """

    def __init__(self, packing: Packing, limits: Mapping[str, _Limits]) -> None:
        width = len(packing.numbers)
        self._low, self._high = np.full(width, -_MAX), np.full(width, np.inf)
        # What takes the place of NaN: itself where it is like training, else less than any limit.
        self._nan = np.full(width, np.nan)
        self.covered: set[str] = set()
        for j, name in enumerate(packing.numbers):
            one = limits.get(name)
            if one is None:
                continue
            codes = (packing.codes or {}).get(name)
            if codes is not None:
                self._cover_codes(j, one, codes, (packing.unseen or {})[name])
            elif one.seen is None and not (one.field.temporal and one.field.optional):
                self.covered.add(name)
                if "range" in one.flags:
                    self._low[j] = np.inf if one.low is None else one.low
                    self._high[j] = np.inf if one.high is None else one.high
                if "null" in one.flags:
                    self._nan[j] = -np.inf
        self._nans = bool(np.isinf(self._nan).any())

    def _cover_codes(
        self, j: int, one: _Limits, codes: Mapping[str, float], unseen: float | None
    ) -> None:
        if "unseen" not in one.flags:
            return
        if not ("null" in one.flags and NULL_STRING in codes):
            self.covered.add(one.field.name)
        self._low[j], self._high[j] = 0, max(codes.values(), default=-1)
        if unseen is None:
            self._nan[j] = -np.inf

    def odd(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[int]:
        """Return the places of rows that may break a rule."""
        if not self.covered:
            return []
        numbers = feeds["numbers"]
        if self._nans:
            numbers = np.fmax(numbers, self._nan)
        below, above = np.less(numbers, self._low), np.greater(numbers, self._high)
        # A search of bytes is several times quicker than a reduction of so few values.
        if _ODD not in below.tobytes() and _ODD not in above.tobytes():
            return []
        found: list[int] = np.flatnonzero((below | above).any(axis=1)).tolist()
        return found


def _limits(
    place: int, field: FieldSpec, rules: Mapping[str, Any], codes: Mapping[str, float]
) -> _Limits:
    unseen, span = rules.get("unseen"), rules.get("range", {})
    seen = None
    if unseen is not None:
        seen = frozenset(unseen["seen"] if "seen" in unseen else set(codes) - {NULL_STRING})
    messages = {
        "unseen": "expected a value that training had",
        "null": "expected a value, as nearly always in training",
    }
    low, high = span.get("low"), span.get("high")
    messages["range"] = _range_message(field, low, high)
    flags = {rule: Flag(field.name, rule, messages[rule]) for rule in rules}
    refused = frozenset(rule for rule, found in rules.items() if found["action"] == "refuse")
    return _Limits(place, field, flags, refused, seen, low, high)


def _range_message(field: FieldSpec, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "expected null, as always in training"
    if field.private:
        return "expected a value in the range of training"
    if field.temporal:
        first, last = (from_wire(field, end).isoformat() for end in (low, high))
        return f"expected {first} to {last}, as in training"
    return _span(low, high)


def _span(low: float, high: float) -> str:
    return f"expected {low:.6g} to {high:.6g}, as in training"
