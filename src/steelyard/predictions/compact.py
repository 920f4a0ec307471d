"""Compaction: segments that nobody writes any more become Parquet by day."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from heapq import merge
from itertools import groupby
from pathlib import Path
from time import time

import msgspec

from steelyard.core.files import atomic_write, fsync_dir, locked, sweep_aside
from steelyard.core.ids import EPOCH, milliseconds_of
from steelyard.errors import StoreError
from steelyard.predictions.parquet import count_rows, write_parquet
from steelyard.predictions.record import latest
from steelyard.predictions.segment import NEW, Damage, start_of
from steelyard.predictions.sources import DAY_MS, Found, Span, sorted_segment

__all__ = ["Compaction", "compact"]

# What one step keeps in memory, and how many files it holds open.
_STEP_BYTES = 128 * 2**20
_STEP_SEGMENTS = 128
_STALE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one call did. `records` counts each id once."""

    segments: int = 0
    records: int = 0
    parquet: tuple[Path, ...] = ()
    dropped_bytes: int = 0
    """Torn tails that killed writers left: records that were never acknowledged."""
    damage: tuple[Damage, ...] = ()
    """Broken stretches; a segment that has one is kept in the folder `damaged`."""

    def __add__(self, other: "Compaction") -> "Compaction":
        return Compaction(
            self.segments + other.segments,
            self.records + other.records,
            self.parquet + other.parquet,
            self.dropped_bytes + other.dropped_bytes,
            self.damage + other.damage,
        )


class _Plan(msgspec.Struct, frozen=True):
    """One step's segments. It outlives a kill, so that the step is repeated as it was meant."""

    segments: list[str]
    damaged: list[str] = []
    written: bool = False


def compact(folder: Path) -> Compaction:
    """Turn the closed segments of one model's log into Parquet files, a folder a day.

    A segment is closed when its writer let go of it or died. Servers may write and readers may
    read meanwhile; a second compaction waits for the first. Killed at any point, it loses
    nothing and doubles nothing, and the next call finishes its work.

    Raises:
        UsageError: polars is not installed.
        StoreError: A segment has another format, or Parquet was not written as it should.
    """
    done = Compaction()
    if not (folder / "segments").is_dir():
        return done
    work = folder / "compacting"
    with locked(work / "lock"):
        _sweep(folder)
        for path in sorted(work.glob("*.json")):
            plan = msgspec.json.decode(path.read_bytes(), type=_Plan)
            done += _carry_out(folder, path, plan)
        for names in _batches(folder / "segments"):
            path = work / f"{_digest(names)}.json"
            plan = _Plan(names)
            atomic_write(path, msgspec.json.encode(plan))
            done += _carry_out(folder, path, plan)
    return done


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]


def _sweep(folder: Path) -> None:
    """Remove what killed compactions and writers left unfinished."""
    sweep_aside(folder / "compacting")
    for rest in (folder / "compacting").glob("*.parquet"):
        rest.unlink()
    for rest in (folder / "segments").glob(f"*{NEW}"):
        with suppress(FileNotFoundError):
            # A young one may not be locked yet by the writer that is making it.
            if rest.stat().st_mtime < time() - _STALE_SECONDS and _closed(rest) is not None:
                rest.unlink()


def _closed(segment: Path) -> int | None:
    """Return the size of a segment that nobody writes any more, else None."""
    with suppress(FileNotFoundError, BlockingIOError), segment.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(file.fileno())
        # A writer removes its segment as it closes it, if there was nothing to write.
        return state.st_size if state.st_nlink else None
    return None


def _batches(segments: Path) -> Iterator[list[str]]:
    names: list[str] = []
    total = 0
    for path in sorted(segments.glob("*.log")):
        size = None if start_of(path) is None else _closed(path)
        if size is None:
            continue
        names.append(path.name)
        total += size
        if total >= _STEP_BYTES or len(names) == _STEP_SEGMENTS:
            yield names
            names, total = [], 0
    if names:
        yield names


def _carry_out(folder: Path, path: Path, plan: _Plan) -> Compaction:
    """Write a plan's Parquet, then remove its segments; each half may be repeated after a kill."""
    done = Compaction(segments=len(plan.segments))
    if not plan.written:
        done += _write(folder, plan)
        damaged = sorted({damage.path.name for damage in done.damage})
        plan = _Plan(plan.segments, damaged, written=True)
        atomic_write(path, msgspec.json.encode(plan))
    for name in plan.segments:
        segment = folder / "segments" / name
        if name not in plan.damaged:
            segment.unlink(missing_ok=True)
        elif segment.exists():
            (folder / "damaged").mkdir(exist_ok=True)
            segment.replace(folder / "damaged" / name)
            fsync_dir(folder / "damaged")
    fsync_dir(folder / "segments")
    path.unlink()
    return done


def _write(folder: Path, plan: _Plan) -> Compaction:
    damage: list[Damage] = []
    paths = [folder / "segments" / name for name in plan.segments]
    found = merge(
        *(sorted_segment(path, Span(), damage.append) for path in paths if path.exists()),
        key=lambda record: record[0],
    )
    files, count = [], 0
    for day, records in groupby(
        _distinct(found), key=lambda one: milliseconds_of(one[0]) // DAY_MS
    ):
        date = (EPOCH + timedelta(days=day)).date()
        target = folder / "parquet" / f"day={date}" / f"{_digest(plan.segments)}.parquet"
        count += _write_day(folder / "compacting" / f"{date}.parquet", target, records)
        files.append(target)
    torn = sum(one.length for one in damage if one.reason == "torn")
    broken = tuple(one for one in damage if one.reason != "torn")
    return Compaction(0, count, tuple(files), torn, broken)


def _distinct(records: Iterable[Found]) -> Iterator[Found]:
    for _, group in groupby(records, key=lambda record: record[0]):
        same = list(group)
        kept = latest(record for _, _, record in same)
        yield next(one for one in same if one[2] is kept)


def _write_day(aside: Path, target: Path, records: Iterator[Found]) -> int:
    """Write one day's file outside of the folders that others scan, and move it in whole."""
    count = write_parquet(aside, ((record, payload) for _, payload, record in records))
    # The segments are about to go: do not take the writer's word for it.
    if (readable := count_rows(aside)) != count:
        raise StoreError(f"{aside} holds {readable} records, expected {count}")
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    new = [folder for folder in (target.parent, target.parents[1]) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    aside.replace(target)
    fsync_dir(target.parent)
    for folder in new:
        fsync_dir(folder.parent)
    return count
