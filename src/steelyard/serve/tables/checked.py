"""Columns checked against a row's fields: what is surely right by whole columns, the rest by rows.

The rules are those of `RowDecoder`. Here only what cannot be wrong is taken; any value that is not
surely right is given to it with its row, and it says what is wrong, in the words of a JSON body.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import INT64_MAX
from steelyard.core.json_text import field_error
from steelyard.core.validation import RowDecoder
from steelyard.core.values import ValueCheck, WrongValueError
from steelyard.errors import InputError
from steelyard.features.columns import NULL_TIME
from steelyard.serve.tables.schema import Kind, Schema
from steelyard.serve.tables.stored import Part, Words
from steelyard.serve.tables.stream import Batch

__all__ = ["Checked", "TableCheck", "TableChecks"]

Array = npt.NDArray[Any]
Row = tuple[Any, ...]

_REMEMBERED: Final = 64
_FEW_WORDS: Final = 1_024
_DAY_MS: Final = 86_400_000
_DAY_US: Final = 86_400_000_000
# The years 1 to 9999, which Python's dates and JSON's texts have.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_FIRST_US, _LAST_US = _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1
_TO_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NONE: Final[frozenset[int]] = frozenset()


@dataclass(slots=True)
class Checked:
    """Values [N] of a field in Python's types, and the places of those that may be wrong.

    `wire` holds them as a column of the graph's, where that is at hand; `part` a dictionary's
    places and words, where all its words are right.
    """

    values: Sequence[Any]
    bad: "frozenset[int] | set[int]" = _NONE
    wire: Array | None = None
    part: Part | None = None


@dataclass(slots=True)
class _Seen:
    """Texts that one table held so far: what they stand for, and those that are wrong."""

    good: dict[str | None, Any]
    wrong: set[str | None]


class ColumnCheck:
    """The check of one field's columns."""

    def __init__(self, check: ValueCheck) -> None:
        field = check.field
        self.field = field
        self.expected = check.expected
        self._check = check
        self._low, self._high = field.int_bounds
        if field.ge is not None:
            self._low = max(self._low, math.ceil(field.ge))
        if field.gt is not None:
            self._low = max(self._low, math.floor(field.gt) + 1)
        if field.le is not None:
            self._high = min(self._high, math.floor(field.le))
        if field.lt is not None:
            self._high = min(self._high, math.ceil(field.lt) - 1)
        self._null: dict[str | None, Any] = {None: None} if field.optional else {}
        self._choices = self._null | {c: c for c in field.choices or () if isinstance(c, str)}

    def seen(self) -> _Seen:
        """Return the memory of a new table. There are only so many choices to be shared by all."""
        good = self._choices if self.field.choices else dict(self._null)
        return _Seen(good, set() if self.field.optional else {None})

    def read(self, kind: Kind, part: Part, rows: int, seen: _Seen) -> Checked:
        """Return N values of a column of this field's."""
        if part.values is None:
            return Checked([None] * rows, _NONE if self.field.optional else set(range(rows)))
        reader = _READERS.get((kind.form, self.field.kind))
        if reader is None:
            return Checked([None] * rows, set(range(rows)))
        return reader(self, kind, part, seen)

    def _floats(self, _kind: Kind, part: Part, _seen: _Seen) -> Checked:
        found, field = part.values.astype(np.float64), self.field
        bad = ~np.isfinite(found)
        if field.ge is not None:
            bad |= found < field.ge
        if field.gt is not None:
            bad |= found <= field.gt
        if field.le is not None:
            bad |= found > field.le
        if field.lt is not None:
            bad |= found >= field.lt
        if field.multiple_of is not None:
            bad[:] = True
        return self._with_nulls(part, found, found.tolist(), np.nan, bad)

    def _ints(self, _kind: Kind, part: Part, _seen: _Seen) -> Checked:
        found, field = part.values, self.field
        if found.dtype.kind == "f":
            whole = np.isfinite(found) & (np.abs(found) < 2.0**63)
            found = np.where(whole, found, 0)
            bad = ~(whole & (found == np.trunc(found)))
        else:
            bad = found > INT64_MAX if found.dtype == np.uint64 else np.zeros(len(found), np.bool_)
        found = found.astype(np.int64)
        bad |= (found < self._low) | (found > self._high)
        if field.choices is not None:
            bad |= ~np.isin(found, field.choices)
        if field.multiple_of is not None:
            bad[:] = True
        return self._with_nulls(part, found, found.tolist(), np.nan, bad)

    def _bools(self, _kind: Kind, part: Part, _seen: _Seen) -> Checked:
        return self._with_nulls(part, part.values, part.values.tolist(), np.nan)

    def _times(self, kind: Kind, part: Part, _seen: _Seen) -> Checked:
        field, raw = self.field, part.values
        if kind.aware != field.aware:
            return Checked([None] * len(raw), set(range(len(raw))))
        if kind.form == "time":
            found, bad = _microseconds(kind, raw)
            objects = found.astype("datetime64[us]").tolist()
            if field.aware:
                objects = [value.replace(tzinfo=UTC) for value in objects]
        else:
            found = raw.astype(np.int64) if kind.unit == "D" else raw // _DAY_MS
            bad = (found < _FIRST_DAY) | (found > _LAST_DAY)
            if kind.unit != "D":
                bad |= raw % _DAY_MS != 0
            objects = np.where(bad, 0, found).astype("datetime64[D]").tolist()
        return self._with_nulls(part, found, objects, NULL_TIME, bad)

    def _midnights(self, kind: Kind, part: Part, _seen: _Seen) -> Checked:
        """Take midnight for its day, as some table types have no dates."""
        found, bad = _microseconds(kind, part.values)
        bad |= found % _DAY_US != 0 if not kind.aware else True
        days = found // _DAY_US
        return self._with_nulls(part, days, days.astype("datetime64[D]").tolist(), NULL_TIME, bad)

    def _texts(self, _kind: Kind, part: Part, seen: _Seen) -> Checked:
        texts: list[str | None] = part.values
        if part.words is not None and part.valid is None and self._all_right(part.words):
            return Checked(texts, part=part)
        if part.valid is not None:
            texts = [t if v else None for t, v in zip(texts, part.valid.tolist(), strict=True)]
        good, wrong = seen.good, seen.wrong
        distinct = set(texts)
        for text in distinct.difference(good):
            if text not in wrong:
                try:
                    good[text] = self._check.from_python(text)
                except WrongValueError:
                    wrong.add(text)
        bad = _NONE if wrong.isdisjoint(distinct) else {
            i for i, text in enumerate(texts) if text in wrong
        }  # fmt: skip
        if self.field.kind != "str":
            return Checked([good.get(text) for text in texts], bad)
        return Checked(texts, bad)

    def _all_right(self, words: Words) -> bool:
        """Return whether no word of a dictionary needs a look, or a change."""
        known: bool | None = words.notes.get(self)
        if known is None:
            known = self.field.kind == "str" and len(words.texts) <= _FEW_WORDS
            good = self.seen().good
            for text in words.texts if known else ():
                if text not in good:
                    try:
                        self._check.from_python(text)
                    except WrongValueError:
                        known = False
            words.notes[self] = known
        return known

    def _with_nulls(
        self, part: Part, wire: Array, values: list[Any], null: float, bad: Array | None = None
    ) -> Checked:
        """Put None, and on the wire `null`, in the place of nulls."""
        if part.valid is None:
            if self.field.optional and not self.field.temporal:
                wire = wire.astype(np.float64)
            return Checked(values, self._bad(part, bad), wire)
        for i in np.flatnonzero(~part.valid).tolist():
            values[i] = None
        if self.field.optional:
            wire = np.where(part.valid, wire, null)
        return Checked(values, self._bad(part, bad), wire)

    def _bad(self, part: Part, bad: Array | None) -> "frozenset[int] | set[int]":
        if part.valid is not None:
            bad = np.zeros(len(part.valid), np.bool_) if bad is None else bad & part.valid
            if not self.field.optional:
                bad |= ~part.valid
        if bad is None or not bad.any():
            return _NONE
        return set(np.flatnonzero(bad).tolist())


_READERS: Final[dict[tuple[str, str], Callable[[ColumnCheck, Kind, Part, _Seen], Checked]]] = {
    ("int", "int"): ColumnCheck._ints,
    ("float", "int"): ColumnCheck._ints,
    ("int", "float"): ColumnCheck._floats,
    ("float", "float"): ColumnCheck._floats,
    ("bool", "bool"): ColumnCheck._bools,
    ("text", "str"): ColumnCheck._texts,
    ("text", "date"): ColumnCheck._texts,
    ("text", "datetime"): ColumnCheck._texts,
    ("date", "date"): ColumnCheck._times,
    ("time", "date"): ColumnCheck._midnights,
    ("time", "datetime"): ColumnCheck._times,
}
"""By what a column holds and what its field wants; whatever else there is, is left to the rows."""


class _Plan:
    """How the columns of a schema stand to the fields of a row; the same for every such table."""

    def __init__(self, schema: Schema, decoder: RowDecoder, checks: Sequence[ColumnCheck]) -> None:
        self.columns = schema.columns
        self.decoder = decoder
        self.checks = checks
        names = [column.name for column in schema.columns]
        self.places = {name: i for i, name in enumerate(names)}
        self.repeated: list[str] = []
        if len(self.places) < len(names):
            counts = Counter(names)
            self.repeated = [name for name in self.places if counts[name] > 1]
        known = {one.field.name for one in checks}
        self.doubtful = bool(
            self.repeated
            or any(one.field.required and one.field.name not in self.places for one in checks)
            or not (decoder.allow_unknown or known.issuperset(names))
        )
        """Whether no row can be right, or must be looked at to tell."""
        self.errors = []
        for one in checks:
            place = self.places.get(one.field.name)
            if place is not None and schema.columns[place].kind.form == "other":
                self.errors.append(_refused(one, schema.columns[place].kind))
        # What is ignored is not read either.
        self.read = [not decoder.allow_unknown or name in known for name in names]


class TableChecks:
    """The checks of the tables of one row's fields."""

    def __init__(self, decoder: RowDecoder) -> None:
        self.decoder = decoder
        self._checks = [ColumnCheck(check) for check in decoder.checks]
        self._plans: dict[int, tuple[Schema, _Plan]] = {}

    def of(self, schema: Schema) -> "TableCheck":
        """Return the check of one table.

        Raises InputError where a column is of a type that no value of its field can have.
        """
        known = self._plans.get(id(schema))
        if known is None or known[0] is not schema:
            known = schema, _Plan(schema, self.decoder, self._checks)
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[id(schema)] = known
        if known[1].errors:
            raise InputError(known[1].errors)
        return TableCheck(known[1])


class TableCheck:
    """The check of one table, whose rows are given in parts, one after the other."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._seen = [one.seen() for one in plan.checks]
        self.nbytes = 0
        """Size of what was checked, were it written out value by value."""

    def rows(
        self, batch: Batch, start: int, end: int
    ) -> tuple[list[Row | InputError], Mapping[str, Checked] | None]:
        """Return the values of each row of a batch from `start` up to `end`, or what is wrong.

        Beside them the columns as they were checked, where they hold all rows as they are.
        """
        plan, count = self._plan, end - start
        parts: dict[int, Part] = {}
        found: dict[str, Checked] = {}
        bad: set[int] = set(range(count)) if plan.doubtful else set()
        for one, seen in zip(plan.checks, self._seen, strict=True):
            place = plan.places.get(one.field.name)
            if place is None:
                found[one.field.name] = Checked([one.field.absent] * count)
                continue
            part = parts[place] = batch.column(place).part(start, end)
            self.nbytes += part.nbytes
            checked = one.read(plan.columns[place].kind, part, count, seen)
            found[one.field.name] = checked
            bad |= checked.bad
        rows: list[Row | InputError] = list(zip(*(c.values for c in found.values()), strict=True))
        if not bad:
            return rows, found
        for place in range(len(plan.columns)):
            if place not in parts and plan.read[place]:
                parts[place] = batch.column(place).part(start, end)
        for i in sorted(bad):
            rows[i] = self._row(parts, found, i)
        return rows, None

    def _row(
        self, parts: Mapping[int, Part], found: Mapping[str, Checked], i: int
    ) -> Row | InputError:
        row = {}
        for place, part in sorted(parts.items()):
            column = self._plan.columns[place]
            checked = found.get(column.name)
            if checked is None or i in checked.bad:
                row[column.name] = _raw(column.kind, part, i)
            else:
                row[column.name] = checked.values[i]
        try:
            return self._plan.decoder.check_one(row, self._plan.repeated)
        except InputError as error:
            return error


def _microseconds(kind: Kind, raw: Array) -> tuple[Array, Array]:
    """Return times in microseconds since 1970, and which of them no date can hold."""
    if kind.unit == "ns":
        found = (raw // 1_000) + (raw % 1_000 >= 500)  # as JSON's texts are rounded
        return found, np.zeros(len(raw), np.bool_)
    factor = _TO_US[kind.unit]
    bad = (raw < _FIRST_US // factor) | (raw > _LAST_US // factor)
    return np.where(bad, 0, raw) * factor, bad


def _raw(kind: Kind, part: Part, i: int) -> Any:
    """Return a value as JSON would hold it."""
    if kind.form == "other":
        return f"a value of type {kind.name}"
    if part.values is None or (part.valid is not None and not part.valid[i]):
        return None
    value = part.values[i]
    if kind.form not in ("date", "time"):
        return value if isinstance(value, str) else value.item()
    text = str(value.astype(f"datetime64[{kind.unit}]"))
    whole, _, rest = text.partition(".")
    if not rest.strip("0"):
        text = whole.removesuffix("T00:00:00") if kind.form == "date" else whole
    return f"{text}Z" if kind.aware else text


def _refused(one: ColumnCheck, kind: Kind) -> dict[str, Any]:
    hint = "; cast it to float64" if kind.name == "decimal" else ""
    message = f"{one.expected}; a column of type {kind.name} is not taken{hint}"
    return field_error(one.field.name, message, kind.name)
