"""The files of a log: which of them can hold a span of ids, and their records in order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import msgspec

from steelyard.core.ids import CLOCK_TOLERANCE_MS, EPOCH, floor_of, is_uuid7, milliseconds_of
from steelyard.predictions.parquet import first_and_last, read_parquet
from steelyard.predictions.record import Record, decode_identity, decode_record
from steelyard.predictions.segment import Damage, read_segment, start_of

__all__ = ["Source", "Span", "list_sources", "sorted_segment"]

_HOUR_MS = 3_600_000
DAY_MS = 24 * _HOUR_MS
# How much older an id may be than the segment that its record went to: an answer is logged within
# a minute of getting its id, and a client that makes ids has its own clock. How much a file
# server's clock may lag behind the writer's.
_LATENESS_MS = CLOCK_TOLERANCE_MS + 60_000
_SKEW_MS = 600_000
_FIRST, _LAST = "", "g"

OnDamage = Callable[[Damage], None]
Found = tuple[str, bytes, Record]


@dataclass(frozen=True, slots=True)
class Span:
    """The ids from `low` to before `high`, as texts that sort like ids."""

    low: str = _FIRST
    high: str = _LAST

    def __contains__(self, prediction_id: str) -> bool:
        return self.low <= prediction_id < self.high

    @property
    def only(self) -> str | None:
        """The one id that the span has room for, if it is so narrow."""
        return self.low if self.high == just_after(self.low) else None

    def meets(self, first_ms: int, end_ms: int) -> bool:
        """Say whether ids made in [first_ms, end_ms) can lie in the span."""
        return floor_of(first_ms) < self.high and floor_of(end_ms) > self.low


def just_after(prediction_id: str) -> str:
    """Return a text between an id and the next one."""
    # The blank sorts before every character of an id.
    return prediction_id + " "


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose ids were made in [first_ms, end_ms); `records` opens it, ascending or not."""

    path: Path
    first_ms: int
    end_ms: int
    records: Callable[[bool], Iterator[Record]]


def list_sources(folder: Path, span: Span, report: OnDamage, every_segment: bool) -> list[Source]:
    """Return the files that may hold ids of the span; `every_segment` trusts no name.

    Segments are listed before Parquet files: compaction puts those in place before it removes a
    segment, so that what is missed here is seen there.
    """
    segments = list(_segments(folder, span, report, every_segment))
    return segments + list(_compacted(folder, span))


def _segments(folder: Path, span: Span, report: OnDamage, every: bool) -> Iterator[Source]:
    for path in sorted(folder.glob("segments/*.log")):
        start = start_of(path)
        if start is None:
            continue
        first = start - _LATENESS_MS
        # A writer leaves its segment when the hour ends, and maybe long before.
        written = max(start, int(path.lstat().st_mtime * 1000)) + _SKEW_MS
        end = min((start // _HOUR_MS + 1) * _HOUR_MS + _LATENESS_MS, written)
        if every or span.meets(first, end):
            yield Source(path, first, end, partial(_records_of, path, span, report))


def _records_of(path: Path, span: Span, report: OnDamage, newest_first: bool) -> Iterator[Record]:
    for _, _, record in sorted_segment(path, span, report, newest_first=newest_first):
        yield record


def _compacted(folder: Path, span: Span) -> Iterator[Source]:
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
            start, end = milliseconds_of(ends[0]), milliseconds_of(ends[1]) + 1
            yield Source(path, start, end, partial(read_parquet, path, span.low, span.high))


def sorted_segment(
    path: Path, span: Span, report: OnDamage, *, newest_first: bool = False
) -> Iterator[Found]:
    """Give id, payload and record of a segment's records in the span, in the order of ids.

    Holds an id and an offset a record in memory, not the payloads.
    """
    # Held open before the scan: compaction may take the name away, not the bytes.
    with path.open("rb") as file:
        if span.only is not None and span.only.encode() not in file.read():
            return
        entries = sorted(_entries(path, span, report), reverse=newest_first)
        for prediction_id, offset, length in entries:
            file.seek(offset)
            payload = file.read(length)
            try:
                yield prediction_id, payload, decode_record(payload)
            except msgspec.MsgspecError:
                report(Damage(path, offset, length, "unreadable"))


def _entries(path: Path, span: Span, report: OnDamage) -> Iterable[tuple[str, int, int]]:
    """Give id, offset and length of a segment's payloads in the span; report what is broken."""
    mention = (span.only or "").encode()
    reader = read_segment(path)
    for payload in reader:
        if mention not in payload:
            continue
        try:
            prediction_id = decode_identity(payload).prediction_id
        except msgspec.MsgspecError:
            prediction_id = ""
        if not is_uuid7(prediction_id):
            report(Damage(path, reader.offset, len(payload), "unreadable"))
        elif prediction_id in span:
            yield prediction_id, reader.offset, len(payload)
    for damage in reader.damage:
        report(damage)
