"""Adding up many rows at once: how long each stage took, and what the model gave."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.answers import class_keys
from steelyard.serve.observe.families import FAMILIES, ROUTES, STAGES
from steelyard.serve.observe.shared import Histogram, Labels

__all__ = ["Output", "OutputProfile", "OutputTally", "Row", "RowTally", "Times"]

_NANO: Final = 1e-9
_LABELS: Final = 100
_OTHERS: Final = "(others)"
_Ints = npt.NDArray[np.int64]

Output = tuple[str | int | bool | float, list[float] | None]
"""A prediction and its probabilities."""
Times = tuple[int, int, int, int]
"""When (ns) the model was called for rows, and when they were predicted, encoded and logged."""
Row = tuple[int, int, bool]
"""When (ns) a row came and was decoded, and whether it is a request of the native route."""


class _Counts:
    """Counts between the bounds of a family, and the sum of what was counted."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = np.array(bounds, dtype=np.float64)
        self.counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self.sum = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        places = self.bounds.searchsorted(values)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.sum += float(values.sum())

    def histogram(self, unit: float = 1.0, bounds: Sequence[float] = ()) -> Histogram:
        return Histogram(self.counts.tolist(), self.sum * unit, list(bounds))


def _table(rows: Iterable[Iterable[int]], width: int) -> _Ints:
    """Return numbers [N, width]; from an iterator, which is faster than from tuples."""
    return np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, width)


def _nanoseconds(name: str) -> tuple[float, ...]:
    return tuple(round(bound / _NANO) for bound in FAMILIES[name].bounds or ())


class RowTally:
    """How long rows and requests took, and how many rows were answered together."""

    def __init__(self) -> None:
        self._stages = {stage: _Counts(_nanoseconds("latency_seconds")) for stage in STAGES}
        self._requests = {route: _Counts(_nanoseconds("request_seconds")) for route in ROUTES}
        self._batches = _Counts(FAMILIES["batch_rows"].bounds or ())

    def add(self, asked: Sequence[Sequence[Row]], ended: Sequence[Times]) -> None:
        """Add rows that were asked alone: those answered together, and their common times."""
        sizes = np.array([len(rows) for rows in asked])
        rows = _table(chain.from_iterable(asked), 3)
        # A row's share of what was done for all of them, and its own time in all.
        times = _table(ended, 4)
        shares = (np.diff(times, axis=1) // sizes[:, None]).repeat(sizes, axis=0)
        started, decoded, native = rows.T
        begun, written = times[:, (0, 3)].repeat(sizes, axis=0).T
        own = (decoded - started, begun - decoded, *shares.T, written - started)
        for stage, spent in zip(STAGES[:-1], own, strict=True):
            self._stages[stage].add(spent)
        self._requests[ROUTES[0]].add(own[-1][native > 0])
        self._batches.add(sizes)

    def several(self, spent: int) -> None:
        """Add a request of several rows, and the nanoseconds that it took."""
        self._stages["rows"].add(np.array([spent]))

    def requests(self, route: str, spent: Sequence[int]) -> None:
        """Add requests of another kind, and the nanoseconds that each took."""
        if route not in self._requests:
            self._requests[route] = _Counts(_nanoseconds("request_seconds"))
        self._requests[route].add(np.array(spent))

    def histograms(self) -> dict[str, list[tuple[Labels, Histogram]]]:
        """Return all series."""
        stages, requests = self._stages.items(), self._requests.items()
        return {
            "latency_seconds": [((stage,), found.histogram(_NANO)) for stage, found in stages],
            "request_seconds": [((route,), found.histogram(_NANO)) for route, found in requests],
            "batch_rows": [((), self._batches.histogram())],
        }


@dataclass(frozen=True, slots=True)
class OutputProfile:
    """What a version can answer: its labels, and the edges of its number at training.

    `place` is that of the number among the scores: None where it is the prediction itself.
    """

    labels: Mapping[Any, str]
    edges: tuple[float, ...]
    place: int | None = None

    @classmethod
    def of(cls, classes: Sequence[Any] | None, baseline: Mapping[str, Any]) -> "OutputProfile":
        """Return the profile by the labels in the order of probabilities, and the baseline.

        >>> trained = {"outputs": {"prediction": {"edges": [1.0, 2.0, 2.0]}}}
        >>> OutputProfile.of(None, trained).edges
        (1.0, 2.0)
        """
        if classes is None:
            return cls({}, _edges(baseline, "prediction"))
        keys = class_keys(classes)
        shown = dict(zip(classes, keys, strict=True))
        if len(classes) != 2:
            return cls(shown, ())
        return cls(shown, _edges(baseline, f"probability {classes[1]}"), 1)


def _edges(baseline: Mapping[str, Any], output: str) -> tuple[float, ...]:
    return tuple(sorted(set(baseline["outputs"].get(output, {}).get("edges", ()))))


class OutputTally:
    """What one version gave: rows by label, and by where their number lies."""

    def __init__(self, profile: OutputProfile) -> None:
        self._profile = profile
        self._counts = _Counts(profile.edges)
        self._labels: Counter[Any] = Counter(dict.fromkeys(list(profile.labels)[:_LABELS], 0))

    def add(self, answers: Sequence[Output]) -> None:
        """Add what the model gave for some rows: the prediction, and its scores."""
        place = self._profile.place
        if self._profile.labels:
            self._labels.update([label for label, _ in answers])
        if not self._profile.edges:
            return
        if place is None:
            numbers: list[Any] = [prediction for prediction, _ in answers]
        else:
            numbers = [scores[place] for _, scores in answers if scores]
        self._counts.add(np.array(numbers, dtype=np.float64))

    @property
    def labels(self) -> list[tuple[str, int]]:
        """Rows by label; of very many labels those beyond the first are one."""
        shown = self._profile.labels
        found: Counter[str] = Counter()
        for i, (label, count) in enumerate(list(self._labels.items())):
            found[shown.get(label, _OTHERS) if i < _LABELS else _OTHERS] += count
        return list(found.items())

    @property
    def histogram(self) -> Histogram | None:
        """Rows by where their number lies; None where the version has no such number."""
        edges = self._profile.edges
        return self._counts.histogram(bounds=edges) if edges else None
