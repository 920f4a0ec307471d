"""What workers leave for each other in a folder, so that any of them can tell the sum over all."""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Counted", "Histogram", "Labels", "Shared", "bury", "total"]

Labels = tuple[str, ...]
_DEAD: Final = "dead.json"
_REMEMBERED: Final = 16


class Histogram(msgspec.Struct):
    """Counts between bounds, the last above them all; `bounds` are empty where the family's hold."""

    counts: list[int]
    sum: float
    bounds: list[float] = []

    def add(self, other: "Histogram") -> None:
        """Add what another worker counted between the same bounds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Counted(msgspec.Struct):
    """What a worker, or several that died, counted: a family's name -> its series.

    `process` is the worker's place and its process id; None where there is none any more.
    """

    counters: dict[str, list[tuple[Labels, float]]]
    gauges: dict[str, list[tuple[Labels, float]]]
    histograms: dict[str, list[tuple[Labels, Histogram]]]
    process: tuple[int, int] | None = None


class _Dead(msgspec.Struct):
    counted: Counted
    files: list[str]
    """The last ones that were added up; a reader may still have seen them."""


_read: Final = msgspec.json.Decoder(Counted).decode
_read_dead: Final = msgspec.json.Decoder(_Dead).decode


class Shared:
    """One worker's file in the folder of all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A process id may come again; a worker's file may not.
        self._path = folder / f"{os.getpid()}-{time.time_ns()}.json"
        self._written = b""

    def write(self, counted: Counted) -> None:
        """Leave this worker's counters where the others find them."""
        data = msgspec.json.encode(counted)
        if data != self._written:
            _replace(self._path, data)
            self._written = data

    def others(self) -> list[Counted]:
        """Return what the other workers left, and the sum over those that died."""
        found: dict[str, Counted] = {}
        for path in self._folder.glob("*-*.json"):
            if path != self._path:
                try:
                    found[path.name] = _read(path.read_bytes())
                except FileNotFoundError:
                    continue  # it died this moment; the sum over the dead, read below, has it
        dead = _dead_of(self._folder)
        return [*(c for name, c in found.items() if name not in dead.files), dead.counted]


def bury(folder: Path, pid: int) -> None:
    """Add a dead worker's counters to those of all dead ones; only their keeper does so."""
    dead = _dead_of(folder)
    paths = list(folder.glob(f"{pid}-*.json"))
    dead.counted = total([dead.counted, *(_read(path.read_bytes()) for path in paths)])
    deaths = dict(dead.counted.counters.get("worker_deaths", ()))
    dead.counted.counters["worker_deaths"] = [((), deaths.get((), 0) + 1)]
    dead.counted.gauges = {}
    dead.files = [*dead.files, *(path.name for path in paths)][-_REMEMBERED:]
    # In this order no reader misses a worker; one that sees both passes over the worker's own.
    _replace(folder / _DEAD, msgspec.json.encode(dead))
    for path in paths:
        path.unlink()


def total(workers: Iterable[Counted]) -> Counted:
    """Return the sums, series by series.

    >>> one = Counted({"predictions": [(("3",), 2)]}, {}, {})
    >>> total([one, one]).counters
    {'predictions': [(('3',), 4)]}
    """
    workers = list(workers)
    histograms: dict[str, dict[Labels, Histogram]] = {}
    for worker in workers:
        for name, series in worker.histograms.items():
            found = histograms.setdefault(name, {})
            for labels, histogram in series:
                if labels in found:
                    found[labels].add(histogram)
                else:
                    found[labels] = Histogram(histogram.counts, histogram.sum, histogram.bounds)
    return Counted(
        _sums([worker.counters for worker in workers]),
        _sums([worker.gauges for worker in workers]),
        {name: list(found.items()) for name, found in histograms.items()},
    )


def _sums(
    workers: Sequence[dict[str, list[tuple[Labels, float]]]],
) -> dict[str, list[tuple[Labels, float]]]:
    sums: dict[str, dict[Labels, float]] = {}
    for families in workers:
        for name, series in families.items():
            found = sums.setdefault(name, {})
            for labels, value in series:
                found[labels] = found.get(labels, 0) + value
    return {name: list(found.items()) for name, found in sums.items()}


def _dead_of(folder: Path) -> _Dead:
    try:
        return _read_dead((folder / _DEAD).read_bytes())
    except FileNotFoundError:
        return _Dead(Counted({}, {}, {}), [])


def _replace(path: Path, data: bytes) -> None:
    # Only readers must never see a half; after a crash of the machine nobody reads it.
    aside = path.with_suffix(".new")
    aside.write_bytes(data)
    aside.rename(path)
