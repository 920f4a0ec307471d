"""The core: decode, validate, predict, log, encode. No framework, no data frame, no user code."""

import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

import numpy.typing as npt

from steelyard.bundle.guards import UnfitAnswerError
from steelyard.bundle.predictor import Answer
from steelyard.core.answers import Flag
from steelyard.core.ids import row_ids
from steelyard.core.json_text import check_row_count
from steelyard.core.ports import LogWriter
from steelyard.core.validation import BODY
from steelyard.errors import InputError, SteelyardError
from steelyard.serve.answer.answered import PLAIN, Answered, Mark
from steelyard.serve.answer.breaker import Breaker
from steelyard.serve.answer.calls import REASONS, Calls, Flagged, ModelError, Scored, late
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.several import CheckedRows, Pace, Several
from steelyard.serve.answer.terms import USUAL, Terms
from steelyard.serve.answer.version import Entry, LoadedVersion
from steelyard.serve.answer.watch import Watch
from steelyard.serve.observe.metrics import Metrics
from steelyard.serve.observe.tracing import RequestTrace

__all__ = ["AT_ONCE", "LISTED", "Asked", "Checks", "Endpoint", "Outcome", "Steps", "in_rows"]

T = TypeVar("T")
Steps = Generator[Awaitable[Any] | None, Any, T]
"""Work on several rows, parted into steps between which single rows get their turn.

A step may be something to wait for, whose result the next one is given.
"""
Checks = tuple[Sequence[tuple[Any, ...] | InputError], Mapping[str, npt.NDArray[Any]] | None]
"""Each row's values or what is wrong with it; and, where all are good, perhaps the rows packed."""
Outcome = bytes | Answered | SteelyardError
"""What became of a row: the native route's JSON or what another contract needs, or no answer."""

AT_ONCE: Final = 32
"""Rows predicted together: about a third of a millisecond, the longest that others wait for them."""
_LOGGED_AT_ONCE: Final = 128
LISTED: Final = 1_000
"""Errors of one request that are told one by one."""
_MICROSECOND: Final = 1_000
_MILLISECOND: Final = 1_000_000
NEVER: Final = 1 << 62


@dataclass(slots=True)
class Asked:
    """A row that was asked about, checked: its values, when (ns), and by when it wants its answer.

    `body` is its JSON, to be answered in JSON; None where another contract brought the row.
    `prediction_id` is the client's own, where it gave one; `trace` follows a traced request.
    """

    loaded: LoadedVersion
    values: tuple[Any, ...]
    body: bytes | None
    started: int
    decoded: int
    due: int
    prediction_id: str = ""
    trace: RequestTrace | None = None


class _Predicted(NamedTuple):
    answer: Answer
    texts: tuple[str, str]
    mark: Mark


class _Spell(NamedTuple):
    """When a request of several rows came, by when it wants its answer (ns), its key and trace."""

    started: int
    due: int
    key: str
    trace: RequestTrace | None

    @classmethod
    def of(cls, started: int, terms: Terms) -> Self:
        wait = terms.timeout_ms * _MILLISECOND if terms.timeout_ms else NEVER
        return cls(started, started + wait, terms.key, terms.trace)


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
        limits: Limits,
    ) -> None:
        self.loaded = loaded
        self.model = loaded.predictor.model
        self.limits = limits
        self.calls = Calls(Breaker(), metrics.breaker)
        self.behind = ""
        """Why a newer version could not be taken while the older one answers."""
        self.watch = Watch(lambda: self.loaded, metrics)
        self._log = log
        self._metrics = metrics
        self._new_id = new_id
        self._clock = _Clock()
        self._time = limits.timeout_ms * _MILLISECOND or NEVER
        for reason in REASONS:
            metrics.count("failures", reason, by=0)
            metrics.fell_back(reason, 0)

    def ask(self, body: bytes, terms: Terms = USUAL) -> Asked | Steps[bytes]:
        """Read a request: one row, to be answered by `answer`, or `{"rows": [...]}` in steps.

        The steps return the answer. Raises, here or in the steps, InputError with every bad field,
        and LogFullError where the log cannot take the record and its policy is to refuse.
        """
        started = time.perf_counter_ns()
        loaded = self.loaded
        try:
            found = loaded.decoder.decode(body, max_rows=self.limits.rows)
            if isinstance(found, list):
                return self._encoded(loaded, _all_good(found), _Spell.of(started, terms))
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        decoded, due = self._times(started, terms)
        return Asked(loaded, found, body, started, decoded, due, terms.key, terms.trace)

    def ask_row(self, loaded: LoadedVersion, row: Mapping[str, Any], terms: Terms = USUAL) -> Asked:
        """Check the one row that another contract brought, to be answered by `answer`.

        `loaded` is the version by which it was read. Raises InputError with every bad field.
        """
        started = time.perf_counter_ns()
        try:
            values = loaded.decoder.check_one(row)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        decoded, due = self._times(started, terms)
        return Asked(loaded, values, None, started, decoded, due, terms.key, terms.trace)

    def _times(self, started: int, terms: Terms) -> tuple[int, int]:
        """Return now, and when the answer to a row is due."""
        wait = terms.timeout_ms * _MILLISECOND if terms.timeout_ms else self._time
        return time.perf_counter_ns(), started + wait

    def answer(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Answer rows that were asked one by one of one version, calling the model in place.

        Raises what `finish` raises.
        """
        begun = time.perf_counter_ns()
        scored = self.calls.now(asked[0].loaded, [one.values for one in asked])
        return self.finish(asked, scored, begun)

    def finish(self, asked: Sequence[Asked], scored: Sequence[Scored], begun: int) -> list[Outcome]:
        """Make answers of what the model, called at `begun`, says of rows; they are then logged.

        Each answer has the bits that it would have alone. Where the model says nothing of use in
        time, the fallback answers; where there is none, an error stands for the row. Raises
        LogFullError where the log takes none of them.
        """
        predicted, at, loaded = time.perf_counter_ns(), self._clock.now(), asked[0].loaded
        outcomes: list[Outcome] = []
        records, answers, rows, traced = [], [], [], []
        for one, found in zip(asked, scored, strict=True):
            try:
                # What comes too late is of no use, however good.
                used = found if predicted <= one.due else late()
                answer, texts, mark = self._predicted(loaded, one.values, used)
            except SteelyardError as error:
                outcomes.append(error)
                continue
            prediction_id = one.prediction_id or self._new_id()
            if one.body is None:
                outcomes.append(Answered.of(answer, prediction_id, mark))
            else:
                outcomes.append(loaded.answer(texts, prediction_id, mark))
            row = loaded.logged_row(one.values, one.body)
            spent = (predicted - one.started) // _MICROSECOND
            record = loaded.record(texts, Entry(prediction_id, at, spent, mark), row)
            if one.trace is not None:
                record = one.trace.named(record)
                traced.append((one, one.trace, prediction_id, mark))
            records.append(record)
            if mark.source == "model":
                answers.append(answer)
                rows.append(one.values)
        encoded = time.perf_counter_ns()
        self._log.append_many(records)
        times = (begun, predicted, encoded, time.perf_counter_ns())
        asked_at = [(one.started, one.decoded, one.body is not None) for one in asked]
        logged = sum(map(len, records))
        self._metrics.answered(loaded.served.version, logged, asked_at, times, answers)
        self.watch.note(loaded, answers, rows)
        for one, trace, prediction_id, mark in traced:
            trace.row(loaded.served, prediction_id, mark)
            trace.stages((one.started, one.decoded, *times), len(asked))
        return outcomes

    def _predicted(
        self, loaded: LoadedVersion, values: tuple[Any, ...], found: Scored
    ) -> _Predicted:
        """Return an answer, its texts and mark; the fallback's where the model's cannot be given.

        Raises what the model's own trouble is where there is no fallback, and InputError where a
        guard refuses the row.
        """
        flags: tuple[Flag, ...] = ()
        if isinstance(found, (Flagged, UnfitAnswerError)):
            flags = found.flags
            for flag in flags:
                self._metrics.flagged(flag.field, flag.rule)
        answer = found.answer if isinstance(found, Flagged) else found
        if isinstance(answer, tuple) and not _is_finite(answer):
            # The guards have seen to it; but what is no JSON may not leave, whatever slipped by.
            found = UnfitAnswerError.not_finite(flags)
        if isinstance(found, (UnfitAnswerError, ModelError)):
            self._metrics.count("failures", found.reason)
            spare = None if loaded.fallback is None else loaded.fallback(values)
            if spare is not None:
                self._metrics.fell_back(found.reason)
                mark = Mark("fallback", found.reason, flags)
                return _Predicted(spare, loaded.texts(spare), mark)
        if isinstance(found, InputError):
            self._metrics.refused(found, loaded.names)
        if isinstance(found, SteelyardError):
            raise found
        assert isinstance(answer, tuple)
        mark = Mark("model", "", flags) if flags else PLAIN
        return _Predicted(answer, loaded.texts(answer), mark)

    def answer_rows(
        self,
        loaded: LoadedVersion,
        rows: Sequence[Mapping[str, Any]],
        terms: Terms = USUAL,
    ) -> Steps[list[Answered]]:
        """Answer rows that another protocol brought as the native route would, log included.

        `loaded` is the version by which the rows were read.
        """
        started = time.perf_counter_ns()
        checked: list[tuple[Any, ...] | InputError] = []
        try:
            check_row_count(len(rows), self.limits.rows)
            for i, row in enumerate(rows):
                checked.append(_checked(loaded, row))
                if i % AT_ONCE == AT_ONCE - 1:
                    yield None
            values = _all_good(checked)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        several = yield from self._answered(loaded, CheckedRows(values), _Spell.of(started, terms))
        return several.answered()

    def answer_table(
        self, loaded: LoadedVersion, check: Steps[Checks], terms: Terms = USUAL
    ) -> Steps[Several]:
        """Answer the rows of a table, which `check` reads and checks in steps, log included."""
        started = time.perf_counter_ns()
        try:
            checked, feeds = yield from check
            rows = CheckedRows(_all_good(checked), feeds)
        except InputError as error:
            self._metrics.refused(error, loaded.names)
            raise
        return (yield from self._answered(loaded, rows, _Spell.of(started, terms)))

    def _encoded(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], spell: _Spell
    ) -> Steps[bytes]:
        return (yield from self._answered(loaded, CheckedRows(rows), spell)).json()

    def _answered(self, loaded: LoadedVersion, rows: CheckedRows, spell: _Spell) -> Steps[Several]:
        """Predict checked rows, all of them before the first is logged; then log them."""
        several, pace = Several(loaded), Pace()
        for start in range(0, len(rows), AT_ONCE):
            some = rows.part(start, start + AT_ONCE)
            scored = yield from self._scored(loaded, some, spell.due)
            if not several.add_plain(scored):
                for values, found in zip(some.values, scored, strict=True):
                    try:
                        answer, _, mark = self._predicted(loaded, values, found)
                    except InputError as error:
                        raise in_rows(len(several.answers), error) from None
                    several.add(answer, mark)
            if pace.due:
                yield None
        new_id = row_ids(spell.key).__next__ if spell.key else self._new_id
        logged = 0
        spent = (time.perf_counter_ns() - spell.started) // _MICROSECOND
        for start in range(0, len(rows), _LOGGED_AT_ONCE):
            some = rows.part(start, start + _LOGGED_AT_ONCE)
            several.ids += [new_id() for _ in some.values]
            records = several.records(start, self._clock.now(), spent, some.values)
            if spell.trace is not None:
                records = list(map(spell.trace.named, records))
            self._log.append_many(records)
            logged += sum(map(len, records))
            if pace.due:
                yield None
        version, answers = loaded.served.version, several.by_model()
        self._metrics.answered_rows(version, len(rows), logged, spell.started, answers)
        mixed, of = several.mixed(rows.values)
        for start in range(0, len(mixed), _LOGGED_AT_ONCE):
            end = start + _LOGGED_AT_ONCE
            self.watch.note(loaded, mixed[start:end], of[start:end])
            if pace.due:
                yield None
        if spell.trace is not None:
            spell.trace.rows(loaded.served, len(rows), several.marks or ())
        return several

    def _scored(
        self, loaded: LoadedVersion, rows: CheckedRows, due: int
    ) -> Steps[Sequence[Scored]]:
        """Return what the model says of some rows, by the end of the request's time."""
        now = time.perf_counter_ns()
        if now > due:
            return [late()] * len(rows)
        if not self.calls.slow:
            return self.calls.now(loaded, rows.values, rows.feeds)
        # As long as a single row may take, where the request itself leaves as much.
        seconds = min(due - now, self._time) / 1e9
        scored: Sequence[Scored] = yield self.calls.in_time(loaded, rows.values, seconds)
        return scored


def _is_finite(answer: Answer) -> bool:
    prediction, scores = answer
    return isfinite(cast(float, prediction) if scores is None else sum(scores))


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
        if len(errors) > LISTED:
            more = f"and more from row {i + 1} on; only {LISTED} are listed"
            errors[LISTED:] = [{"field": BODY, "message": more, "got": None}]
            break
    raise InputError(errors)
