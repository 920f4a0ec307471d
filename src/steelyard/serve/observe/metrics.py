"""What one worker counts on the request path: plain numbers, cheap to add to and to write down."""

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from time import perf_counter_ns
from typing import Final, Protocol

from steelyard.core.ports import LogWriter
from steelyard.errors import InputError
from steelyard.serve.observe.families import FAMILIES, ROUTES
from steelyard.serve.observe.shared import Counted, Labels, Shared
from steelyard.serve.observe.tallies import (
    Output,
    OutputProfile,
    OutputTally,
    Row,
    RowTally,
    Times,
)

__all__ = ["CountedLog", "Metrics"]

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 128
"""Rows summed up together: a microsecond each, in a tenth of a millisecond in which none is answered."""
_BREAKER: Final = ("closed", "open")
_OTHER: Final = "(unknown)"
_PLACES: Final = frozenset(["body", "rows"])
_STATUSES: Final = (200, 422, 500, 503)
_VERSIONS: Final = 4
"""The last ones are told; a server lives through more of them than a scrape can hold."""
_Noted = tuple[int, int, Sequence[Row], Times, Sequence[Output]]


class CountedLog(LogWriter, Protocol):
    """A log that tells how it fares."""

    @property
    def dropped(self) -> int:
        """Records that it could not take where the policy is to answer all the same."""

    @property
    def sync_errors(self) -> int:
        """Groups of records that could not be made durable."""


class Metrics:
    """Counters of one worker, by its place among them; `shared` is the folder of all workers'.

    Counted from the thread that answers; `serving`, `count` and what reads may be called from any.
    """

    def __init__(
        self, model: str, log: CountedLog, shared: Path | None = None, *, place: int = 0
    ) -> None:
        self.model = model
        self.place = place
        self._log = log
        self._shared = Shared(shared) if shared else None
        self._counts: dict[str, Counter[Labels]] = {
            name: Counter({(): 0} if not family.labels else {})
            for name, family in FAMILIES.items()
            if family.kind == "counter"
        }
        # A series that begins with its first event hides that event from every rate.
        self._responses = Counter(dict.fromkeys(product(ROUTES, _STATUSES), 0))
        self._predictions: Counter[int] = Counter()
        self._log_bytes = 0
        self._gauges: dict[str, Callable[[], Mapping[Labels, float]]] = {}
        self._states: dict[str, dict[Labels, float]] = {"breaker": {}, "alarm": {}}
        self.breaker("closed")
        self.alarm("collapse", False)
        self._serving: Labels = ("0", "")
        self._rows = RowTally()
        self._outputs: dict[int, OutputTally] = {}
        self._noted: deque[_Noted] = deque()
        self._noted_rows = 0
        self._requests: deque[tuple[str, int]] = deque()
        self._lock = threading.Lock()

    def serving(self, version: int, bundle: str, outputs: OutputProfile | None = None) -> None:
        """Note the version that answers from now on, and what it can answer."""
        with self._lock:
            self._serving = (str(version), bundle)
            self._predictions[version] += 0
            if outputs is not None and version not in self._outputs:
                self._outputs[version] = OutputTally(outputs)
            for old in list(self._predictions)[:-_VERSIONS]:
                del self._predictions[old]
                self._outputs.pop(old, None)

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Count an event of a counter that `FAMILIES` names, with the values of its labels.

        `by=0` shows a series before its first event, so that a rate misses nothing.
        """
        with self._lock:
            self._counts[name][labels] += by

    def fell_back(self, reason: str, rows: int = 1) -> None:
        """Count rows that the fallback answered, by one of few reasons."""
        self.count("fallbacks", reason, by=rows)

    def flagged(self, field: str, flag: str, rows: int = 1) -> None:
        """Count rows that were answered with a guard's flag on a field of the schema."""
        self.count("flags", field, flag, by=rows)

    def breaker(self, state: str) -> None:
        """Note the state of the circuit breaker: closed or open."""
        self._states["breaker"] = {(known,): float(known == state) for known in _BREAKER}

    def alarm(self, name: str, raised: bool) -> None:
        """Note whether an alarm about the model is raised."""
        self._states["alarm"] = {**self._states["alarm"], (name,): float(raised)}

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """Ask for the value of a gauge of `FAMILIES` whenever the counters are read."""
        self._gauges[name] = lambda: {(): value()}

    def refused(self, error: InputError, fields: Collection[str]) -> None:
        """Count the fields for which a request was refused, once a field.

        Names that clients invent count as one: they must not become labels without end.
        """
        named = {found["field"].rpartition(".")[2] for found in error.errors}
        for name in {n if n in fields or n in _PLACES else _OTHER for n in named}:
            self.count("refusals", name)

    def answered(
        self,
        version: int,
        logged: int,
        asked: Sequence[Row],
        times: tuple[int, int, int, int],
        outputs: Sequence[Output] = (),
    ) -> None:
        """Count rows that were answered together, and the bytes of their records.

        `asked` holds when (ns) each row came and was decoded, and whether it is a request of the
        native route; `times` when the model was called for all, and when they were predicted,
        encoded and logged; `outputs` what the model, not a fallback, gave.
        """
        # Summed up many at once: for each alone it would cost fifty times as much.
        self._noted.append((version, logged, asked, times, outputs))
        self._noted_rows += len(asked)
        if self._noted_rows >= _AT_ONCE:
            self._sum_up()

    def answered_rows(
        self, version: int, rows: int, logged: int, started: int, outputs: Sequence[Output] = ()
    ) -> None:
        """Count the answered rows of a request of several that began at `started` (ns).

        `outputs` are those that the model, not a fallback, gave.
        """
        spent = perf_counter_ns() - started
        with self._lock:
            self._rows.several(spent)
            self._add_version(version, rows, logged, outputs)

    def responded(self, route: str, status: int) -> None:
        """Count a response."""
        self._responses[route, status] += 1

    def requested(self, route: str, spent: int) -> None:
        """Count the time (ns) of a request that was answered other than by `answered`."""
        self._requests.append((route, spent))
        if len(self._requests) >= _AT_ONCE:
            self._sum_up()

    def counted(self) -> Counted:
        """Return all that this worker counted."""
        self._sum_up()
        with self._lock:
            counters: dict[str, list[tuple[Labels, float]]] = {
                name: list(found.items()) for name, found in self._counts.items()
            }
            histograms = self._rows.histograms()
            counters["outputs"], histograms["output_value"] = [], []
            for version, tally in self._outputs.items():
                counters["outputs"] += [((str(version), x), n) for x, n in tally.labels]
                if tally.histogram:
                    histograms["output_value"].append(((str(version),), tally.histogram))
            counters["predictions"] = [((str(v),), n) for v, n in self._predictions.items()]
        responses = list(self._responses.items())
        counters["responses"] = [((route, str(status)), n) for (route, status), n in responses]
        counters["log_bytes"] = [((), self._log_bytes)]
        counters["log_dropped"] = [((), self._log.dropped)]
        counters["log_sync_errors"] = [((), self._log.sync_errors)]
        gauges: dict[str, Mapping[Labels, float]] = {
            "workers": {(): 1},
            "serving": {self._serving: 1},
            **self._states,
            **{name: read() for name, read in self._gauges.items()},
        }
        listed = {name: list(found.items()) for name, found in gauges.items()}
        return Counted(counters, listed, histograms, (self.place, os.getpid()))

    def publish(self) -> None:
        """Sum up, and leave this worker's counters where the other workers find them.

        Where the disk does not take them, the others tell what they were told last.
        """
        if self._shared is None:
            self._sum_up()
            return
        try:
            self._shared.write(self.counted())
        except OSError as error:
            _log.warning("Other workers cannot be told what this one counts: %s", error.strerror)

    def everyone(self) -> list[Counted]:
        """Return the counters of all workers, also of those that died; this one's come first."""
        return [self.counted(), *(self._shared.others() if self._shared else ())]

    def _sum_up(self) -> None:
        """Add what was noted on the way of requests to the counters."""
        with self._lock:
            noted = [self._noted.popleft() for _ in range(len(self._noted))]
            self._noted_rows = 0
            requests = [self._requests.popleft() for _ in range(len(self._requests))]
            for route, times in groupby(sorted(requests), itemgetter(0)):
                self._rows.requests(route, [spent for _, spent in times])
            if not noted:
                return
            self._rows.add([one[2] for one in noted], [one[3] for one in noted])
            for version, group in groupby(noted, itemgetter(0)):
                found = list(group)
                rows, logged = sum(len(n[2]) for n in found), sum(n[1] for n in found)
                self._add_version(version, rows, logged, [o for n in found for o in n[4]])

    def _add_version(self, version: int, rows: int, logged: int, outputs: Sequence[Output]) -> None:
        self._predictions[version] += rows
        self._log_bytes += logged
        if outputs and version in self._outputs:
            self._outputs[version].add(outputs)
