"""The reading side of the log: records in time order, from segments and compacted Parquet."""

import heapq
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path

import msgspec

from steelyard.errors import UsageError
from steelyard.predictions.ids import EPOCH, floor_of, is_uuid7, milliseconds_of, time_of
from steelyard.predictions.parquet import first_and_last, read_parquet
from steelyard.predictions.record import Record, decode_identity, decode_record, earliest
from steelyard.predictions.segment import Damage, read_segment, start_of

__all__ = ["parse_since", "read"]

_log = logging.getLogger(__name__)

_HOUR_MS = 3_600_000
DAY_MS = 24 * _HOUR_MS
# How much older an id may be than the segment that its record went to, and how far clocks may
# step: an answer is logged within a minute of getting its id.
_LATENESS_MS = 60_000
_FIRST, _LAST = "", "g"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")

OnDamage = Callable[[Damage], None]
Found = tuple[str, bytes, Record]


@dataclass(frozen=True, slots=True)
class Span:
    """The ids from `low` to before `high`, as texts that sort like ids."""

    low: str = _FIRST
    high: str = _LAST

    def __contains__(self, prediction_id: str) -> bool:
        return self.low <= prediction_id < self.high

    def meets(self, first_ms: int, end_ms: int) -> bool:
        """Say whether ids made in [first_ms, end_ms) can lie in the span."""
        return floor_of(first_ms) < self.high and floor_of(end_ms) > self.low


@dataclass(frozen=True, slots=True)
class _Source:
    """A file; `records` opens it when first asked; no id in it was made before `first_ms`."""

    path: Path
    first_ms: int
    records: Iterator[tuple[str, Record]]


def parse_since(text: str, *, now: datetime | None = None) -> datetime:
    """Return the time that an age (`30m`, `1h`, `2d`) or an ISO 8601 date or time means, in UTC.

    A time without an offset is taken as UTC, as the log shows it.

    >>> parse_since("2026-11-24T12:00:00+01:00").isoformat()
    '2026-11-24T11:00:00+00:00'

    Raises:
        UsageError: The text is neither.
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            unit = _UNITS[age[2]]
            return (now or datetime.now(UTC)) - timedelta(**{unit: int(age[1])})
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"expected an age or a time, got {text[:60]!r}",
            fix="Write 45s, 30m, 1h, 2d or 1w, or a time such as 2026-11-24T15:00:00+01:00.",
        ) from None


def read(
    folder: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    prediction_id: str | None = None,
    limit: int | None = None,
    on_damage: OnDamage | None = None,
) -> Iterator[Record]:
    """Give the logged predictions of one model in the order of their ids, each id once.

    `since` is inclusive, `until` exclusive, both to the millisecond; `limit` keeps the first so
    many. Writers and compaction may work on the folder meanwhile. What is broken in a segment
    is passed over and told to `on_damage`, by default as a logged warning.

    Raises:
        UsageError: A time has no offset, the id is no UUIDv7, the limit is negative, or Parquet
            files must be read and polars is not installed.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"limit is a number of records from 0, got {limit}")
    low = _FIRST if since is None else floor_of(_milliseconds(since, "since"))
    high = _LAST if until is None else floor_of(_milliseconds(until, "until"))
    report = on_damage or _warn
    if prediction_id is not None:
        time_of(prediction_id)
        span = Span(max(low, prediction_id), min(high, _next(prediction_id)))
        records = _read_one(folder, prediction_id, span, report)
    else:
        records = _read_span(folder, Span(low, high), report)
    return islice(records, limit)


def _warn(damage: Damage) -> None:
    _log.warning("%s", damage)


def _milliseconds(moment: datetime, name: str) -> int:
    if moment.tzinfo is None:
        raise UsageError(
            f"{name} needs a time zone, got {moment.isoformat()}",
            fix=f"Pass {name}=moment.replace(tzinfo=datetime.UTC) if it is in UTC.",
        )
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _next(prediction_id: str) -> str:
    # The blank sorts before every character of an id: nothing fits between the two.
    return prediction_id + " "


def _read_one(folder: Path, prediction_id: str, span: Span, report: OnDamage) -> Iterator[Record]:
    if prediction_id not in span:
        return
    found = False
    for record in _read_span(folder, span, report):
        found = True
        yield record
    if not found:
        # Beyond the time that names promise: a clock that was set, an id that waited for hours.
        yield from _read_span(folder, span, report, every_segment=True)


def _read_span(
    folder: Path, span: Span, report: OnDamage, *, every_segment: bool = False
) -> Iterator[Record]:
    reported: set[Damage] = set()

    def report_once(damage: Damage) -> None:
        # A torn tail is what a living writer is writing, or what a killed one never answered.
        if damage.reason != "torn" and damage not in reported:
            reported.add(damage)
            report(damage)

    before: list[Path] = []
    while True:
        sources = [*_segments(folder, span, report_once, every_segment), *_compacted(folder, span)]
        paths = [source.path for source in sources]
        try:
            for prediction_id, same in groupby(_merged(sources), attrgetter("prediction_id")):
                yield earliest(same)
                span = Span(_next(prediction_id), span.high)
            return
        except FileNotFoundError:
            # Compacted after it was listed; its records are in Parquet by now. Where nothing
            # has changed since the last try, something else is wrong with the folder.
            if paths == before:
                raise
            before = paths


def _segments(folder: Path, span: Span, report: OnDamage, every: bool) -> Iterator[_Source]:
    # Listed before the Parquet files: compaction puts those in place before it removes
    # a segment, so that what is missed here is seen there.
    for path in sorted(folder.glob("segments/*.log")):
        start = start_of(path)
        if start is None:
            continue
        first, end = start - _LATENESS_MS, (start // _HOUR_MS + 1) * _HOUR_MS + _LATENESS_MS
        if every or span.meets(first, end):
            found = sorted_segment(path, span, report)
            yield _Source(path, first, ((one, record) for one, _, record in found))


def _compacted(folder: Path, span: Span) -> Iterator[_Source]:
    for path in sorted(folder.glob("parquet/day=*/*.parquet")):
        try:
            day = date.fromisoformat(path.parent.name.removeprefix("day="))
        except ValueError:
            continue
        first = (day - EPOCH.date()).days * DAY_MS
        if not span.meets(first, first + DAY_MS):
            continue
        ends = first_and_last(path)
        if ends and ends[0] < span.high and ends[1] >= span.low:
            records = read_parquet(path, span.low, span.high)
            yield _Source(path, milliseconds_of(ends[0]), records)


def _merged(sources: list[_Source]) -> Iterator[Record]:
    """Merge sorted sources into one order; open each only when its time comes."""
    waiting = sorted(sources, key=lambda source: source.first_ms, reverse=True)
    heap: list[tuple[str, int, Record, Iterator[tuple[str, Record]]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[-1].first_ms <= milliseconds_of(heap[0][0])):
            source = waiting.pop()
            if first := next(source.records, None):
                heapq.heappush(heap, (first[0], -len(waiting), first[1], source.records))
        if not heap:
            continue
        _, order, record, records = heap[0]
        if following := next(records, None):
            heapq.heapreplace(heap, (following[0], order, following[1], records))
        else:
            heapq.heappop(heap)
        yield record


def sorted_segment(path: Path, span: Span, report: OnDamage) -> Iterator[Found]:
    """Give id, payload and record of a segment's records in the span, in the order of ids.

    Holds an id and an offset a record in memory, not the payloads.
    """
    # Held open before the scan: compaction may take the name away, not the bytes.
    with path.open("rb") as file:
        only = span.low.encode() if span.high == _next(span.low) else None
        if only is not None and only not in file.read():
            return
        reader = read_segment(path)
        entries: list[tuple[str, int, int]] = []
        for payload in reader:
            if only is not None and only not in payload:
                continue
            prediction_id = _identify(payload)
            if prediction_id is None:
                report(Damage(path, reader.offset, len(payload), "unreadable"))
            elif prediction_id in span:
                entries.append((prediction_id, reader.offset, len(payload)))
        for damage in reader.damage:
            report(damage)
        entries.sort()
        for prediction_id, offset, length in entries:
            file.seek(offset)
            payload = file.read(length)
            try:
                yield prediction_id, payload, decode_record(payload)
            except msgspec.MsgspecError:
                report(Damage(path, offset, length, "unreadable"))


def _identify(payload: bytes) -> str | None:
    try:
        prediction_id = decode_identity(payload).prediction_id
    except msgspec.MsgspecError:
        return None
    return prediction_id if is_uuid7(prediction_id) else None
