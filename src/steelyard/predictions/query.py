"""The reading side of the log: records in the order of their ids, whatever file holds them."""

import heapq
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path

from steelyard.core.ids import EPOCH, floor_of, number_of, time_of
from steelyard.errors import UsageError
from steelyard.predictions.record import Record, latest
from steelyard.predictions.segment import Damage
from steelyard.predictions.sources import OnDamage, Source, Span, just_after, list_sources

__all__ = ["parse_since", "read"]

_log = logging.getLogger(__name__)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")


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
    newest_first: bool = False,
    on_damage: OnDamage | None = None,
) -> Iterator[Record]:
    """Give the logged predictions of one model in the order of their ids, each id once.

    `since` is inclusive, `until` exclusive, both to the millisecond; `limit` keeps the first so
    many, with `newest_first` the latest. Writers and compaction may work on the folder meanwhile.
    What is broken in a segment is passed over and told to `on_damage`, by default as a logged
    warning.

    Raises:
        UsageError: A time has no offset, the id is no UUIDv7, the limit is negative, or Parquet
            files must be read and polars is not installed.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"limit is a number of records from 0, got {limit}")
    span = Span()
    if since is not None:
        span = Span(_floor(since, "since"), span.high)
    if until is not None:
        span = Span(span.low, _floor(until, "until"))
    report = on_damage or _warn
    if prediction_id is None:
        return islice(_read_span(folder, span, report, newest_first), limit)
    time_of(prediction_id)
    return islice(_read_one(folder, prediction_id, span, report), limit)


def _warn(damage: Damage) -> None:
    _log.warning("%s", damage)


def _floor(moment: datetime, name: str) -> str:
    if moment.tzinfo is None:
        raise UsageError(
            f"{name} needs a time zone, got {moment.isoformat()}",
            fix=f"Pass {name}=moment.replace(tzinfo=datetime.UTC) if it is in UTC.",
        )
    return floor_of((moment - EPOCH) // timedelta(milliseconds=1))


def _read_one(folder: Path, prediction_id: str, span: Span, report: OnDamage) -> Iterator[Record]:
    if prediction_id not in span:
        return
    only = Span(prediction_id, just_after(prediction_id))
    found = False
    for record in _read_span(folder, only, report):
        found = True
        yield record
    if not found:
        # Beyond the time that names promise: a clock that was set, an id that waited for hours.
        yield from _read_span(folder, only, report, every_segment=True)


def _read_span(
    folder: Path,
    span: Span,
    report: OnDamage,
    newest_first: bool = False,
    *,
    every_segment: bool = False,
) -> Iterator[Record]:
    reported: set[Damage] = set()

    def report_once(damage: Damage) -> None:
        # A torn tail is what a living writer is writing, or what a killed one never answered.
        if damage.reason != "torn" and damage not in reported:
            reported.add(damage)
            report(damage)

    before: list[Path] = []
    while True:
        paths: list[Path] = []
        try:
            sources = list_sources(folder, span, report_once, every_segment)
            paths = [source.path for source in sources]
            records = _merged(sources, newest_first)
            for prediction_id, same in groupby(records, attrgetter("prediction_id")):
                yield latest(same)
                if newest_first:
                    span = Span(span.low, prediction_id)
                else:
                    span = Span(just_after(prediction_id), span.high)
            return
        except FileNotFoundError:
            # Compacted after it was listed; its records are in Parquet by now. Where nothing
            # has changed since the last try, something else is wrong with the folder.
            if paths and paths == before:
                raise
            before = paths


def _merged(sources: list[Source], newest_first: bool) -> Iterator[Record]:
    """Merge sorted sources into one order; open each only when its time comes."""
    sign = -1 if newest_first else 1

    def edge(source: Source) -> int:
        return sign * number_of(floor_of(source.end_ms if newest_first else source.first_ms))

    waiting = sorted(sources, key=edge, reverse=True)
    heap: list[tuple[int, int, Record, Iterator[Record]]] = []
    while waiting or heap:
        while waiting and (not heap or edge(waiting[-1]) <= heap[0][0]):
            records = waiting.pop().records(newest_first)
            if first := next(records, None):
                place = sign * number_of(first.prediction_id)
                heapq.heappush(heap, (place, len(waiting), first, records))
        if not heap:
            continue
        _, order, record, records = heap[0]
        if following := next(records, None):
            place = sign * number_of(following.prediction_id)
            heapq.heapreplace(heap, (place, order, following, records))
        else:
            heapq.heappop(heap)
        yield record
