"""The core: decode, validate, predict, log, encode. No framework, no data frame, no user code."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from steelyard.bundle.predictor import Answer
from steelyard.core.ids import row_ids
from steelyard.core.json_text import check_row_count
from steelyard.core.ports import LogWriter
from steelyard.core.validation import BODY
from steelyard.errors import InputError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.observe.metrics import Metrics

__all__ = ["AT_ONCE", "Asked", "Endpoint", "Outcome", "Steps", "in_rows"]

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work on several rows, parted into steps between which single rows get their turn."""
Outcome = bytes | Answered | InputError
"""What became of a row: the native route's JSON or what another contract needs, or no answer."""

AT_ONCE: Final = 32
"""Rows predicted together: about a third of a millisecond, the longest that others wait for them."""
_LISTED: Final = 1_000
_MICROSECOND: Final = 1_000


@dataclass(slots=True)
class Asked:
    """A row that was asked about, checked: its values, and when (ns).

    `body` is its JSON, to be answered in JSON; None where another contract brought the row.
    `prediction_id` is the client's own, where it gave one.
    """

    loaded: LoadedVersion
    values: tuple[Any, ...]
    body: bytes | None
    started: int
    decoded: int
    prediction_id: str = ""


class _Clock:
    """RFC 3339 times in UTC with microseconds; the seconds' text is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{nanosecond // _MICROSECOND:06d}Z"


class Endpoint:
    """One model behind one name; the version that it serves may be swapped while it answers.

    Used from one thread; `loaded` and `behind` may be set from another.
    """

    def __init__(
        self,
        loaded: LoadedVersion,
        log: LogWriter,
        metrics: Metrics,
        new_id: Callable[[], str],
        *,
        max_rows: int = 10_000,
    ) -> None:
        self.loaded = loaded
        self.model = loaded.predictor.model
        self.max_rows = max_rows
        self.behind = ""
        """Why a newer version could not be taken while the older one answers."""
        self._log = log
        self._metrics = metrics
        self._new_id = new_id
        self._clock = _Clock()

    def ask(self, body: bytes, key: str = "") -> Asked | Steps[bytes]:
        """Read a request: one row, to be answered by `answer`, or `{"rows": [...]}` in steps.

        A `key` is the id of the one row's prediction; ids of several rows are made from it.

        The steps return the answer. Raises, here or in the steps, InputError with every bad field,
        and LogFullError where the log cannot take the record and its policy is to refuse.
        """
        started = time.perf_counter_ns()
        loaded = self.loaded
        try:
            found = loaded.decoder.decode(body, max_rows=self.max_rows)
            if isinstance(found, list):
                return self._encoded(loaded, _all_good(found), started, key)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        return Asked(loaded, found, body, started, time.perf_counter_ns(), key)

    def ask_row(self, loaded: LoadedVersion, row: Mapping[str, Any]) -> Asked:
        """Check the one row that another contract brought, to be answered by `answer`.

        `loaded` is the version by which it was read. Raises InputError with every bad field.
        """
        started = time.perf_counter_ns()
        try:
            values = loaded.decoder.check_one(row)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        return Asked(loaded, values, None, started, time.perf_counter_ns())

    def answer(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Answer rows that were asked one by one of one version; they are in the log already.

        Each answer has the bits that it would have alone. An InputError stands for a row without a
        finite answer. Raises LogFullError where the log takes none of them.
        """
        begun, loaded = time.perf_counter_ns(), asked[0].loaded
        if len(asked) == 1:
            answers = [loaded.predictor.predict_one(asked[0].values)]
        else:
            answers = loaded.predictor.predict_many([one.values for one in asked])
        predicted, at = time.perf_counter_ns(), self._clock.now()
        outcomes: list[Outcome] = []
        records = []
        for one, answer in zip(asked, answers, strict=True):
            try:
                texts = loaded.texts(answer)
            except InputError as error:
                self._metrics.refused(error, loaded.names)
                outcomes.append(error)
                continue
            prediction_id = one.prediction_id or self._new_id()
            if one.body is None:
                outcomes.append(Answered(*answer, prediction_id))
            else:
                outcomes.append(loaded.answer(texts, prediction_id))
            row = loaded.logged_row(one.values, one.body)
            spent = (predicted - one.started) // _MICROSECOND
            records.append(loaded.record(texts, prediction_id, at, spent, row))
        encoded = time.perf_counter_ns()
        self._log.append_many(records)
        times = (begun, predicted, encoded, time.perf_counter_ns())
        asked_at = [(one.started, one.decoded, one.body is not None) for one in asked]
        if len(records) < len(answers):
            pairs = zip(answers, outcomes, strict=True)
            answers = [a for a, outcome in pairs if not isinstance(outcome, InputError)]
        logged = sum(map(len, records))
        self._metrics.answered(loaded.served.version, logged, asked_at, times, answers)
        return outcomes

    def answer_rows(
        self, loaded: LoadedVersion, rows: Sequence[Mapping[str, Any]]
    ) -> Steps[list[Answered]]:
        """Answer rows that another protocol brought as the native route would, log included.

        `loaded` is the version by which the rows were read.
        """
        started = time.perf_counter_ns()
        checked: list[tuple[Any, ...] | InputError] = []
        try:
            check_row_count(len(rows), self.max_rows)
            for i, row in enumerate(rows):
                checked.append(_checked(loaded, row))
                if i % AT_ONCE == AT_ONCE - 1:
                    yield
            values = _all_good(checked)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        answers, _, ids = yield from self._answered(loaded, values, started)
        return [Answered(*answer, i) for answer, i in zip(answers, ids, strict=True)]

    def _encoded(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], started: int, key: str
    ) -> Steps[bytes]:
        _, texts, ids = yield from self._answered(loaded, rows, started, key)
        answers = [loaded.answer(t, i) for t, i in zip(texts, ids, strict=True)]
        return b'{"predictions":[' + b",".join(answers) + b"]}"

    def _answered(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], started: int, key: str = ""
    ) -> Steps[tuple[list[Answer], list[tuple[str, str]], list[str]]]:
        """Predict checked rows, all of them before the first is logged; then log them."""
        answers: list[Answer] = []
        texts: list[tuple[str, str]] = []
        for start in range(0, len(rows), AT_ONCE):
            answers += loaded.predictor.predict_many(rows[start : start + AT_ONCE])
            texts += self._texts(loaded, answers, start)
            yield
        ids: list[str] = []
        new_id = row_ids(key).__next__ if key else self._new_id
        logged = 0
        spent = (time.perf_counter_ns() - started) // _MICROSECOND
        for start in range(0, len(rows), AT_ONCE):
            at, records = self._clock.now(), []
            for i in range(start, min(start + AT_ONCE, len(rows))):
                ids.append(new_id())
                row = loaded.logged_row(rows[i], None)
                records.append(loaded.record(texts[i], ids[i], at, spent, row))
            self._log.append_many(records)
            logged += sum(map(len, records))
            yield
        self._metrics.answered_rows(loaded.served.version, len(rows), logged, started, answers)
        return answers, texts, ids

    def _texts(
        self, loaded: LoadedVersion, answers: Sequence[Answer], start: int
    ) -> list[tuple[str, str]]:
        texts = []
        for i in range(start, len(answers)):
            try:
                texts.append(loaded.texts(answers[i]))
            except InputError as error:
                named = in_rows(i, error)
                self._metrics.refused(named, loaded.names)
                raise named from None
        return texts


def _checked(loaded: LoadedVersion, row: Mapping[str, Any]) -> tuple[Any, ...] | InputError:
    try:
        return loaded.decoder.check_one(row)
    except InputError as error:
        return error


def in_rows(place: int, error: InputError) -> InputError:
    """Return what is wrong with one of a request's rows, its fields named `rows.N.field`."""
    return InputError({**e, "field": f"rows.{place}.{e['field']}"} for e in error.errors)


def _all_good(rows: Sequence[tuple[Any, ...] | InputError]) -> list[tuple[Any, ...]]:
    """Return checked rows; raise with every bad field of every row, named `rows.N.field`."""
    good = [row for row in rows if isinstance(row, tuple)]
    if len(good) == len(rows):
        return good
    errors: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        if isinstance(row, InputError):
            errors += in_rows(i, row).errors
        if len(errors) > _LISTED:
            more = f"and more from row {i + 1} on; only {_LISTED} are listed"
            errors[_LISTED:] = [{"field": BODY, "message": more, "got": None}]
            break
    raise InputError(errors)
