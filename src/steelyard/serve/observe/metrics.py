"""What one worker counts on the request path: plain numbers, cheap to add to and to write down."""

import json
import os
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from steelyard.core.ports import LogWriter
from steelyard.errors import InputError

__all__ = ["BUCKETS", "STAGES", "CountedLog", "Metrics"]

# Seconds; from a fast model alone to a slow one under load.
BUCKETS: Final = (
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4,
    1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
STAGES: Final = ("decode", "predict", "encode", "log", "total", "rows")
"""One row's stages, its share of those that rows asked at the same moment went through together, and
its whole time; and the whole time of a request of several rows."""
_Batch = tuple[int, int, Sequence[tuple[int, int]], tuple[int, int, int, int]]

_NANOSECONDS: Final = tuple(int(bound * 1e9) for bound in BUCKETS)
_OTHER: Final = "(unknown)"
_AT_ONCE: Final = 32


class CountedLog(LogWriter, Protocol):
    """A log that tells how it fares."""

    @property
    def dropped(self) -> int:
        """Records that it could not take where the policy is to answer all the same."""

    @property
    def sync_errors(self) -> int:
        """Groups of records that could not be made durable."""


class Metrics:
    """Counters of one worker; `shared` is the folder where workers leave theirs for each other."""

    def __init__(self, model: str, log: CountedLog, shared: Path | None = None) -> None:
        self.model = model
        self._log = log
        self._shared = shared
        self._written = b""
        self._predictions: Counter[int] = Counter()
        self._responses: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._counts = {"batches": 0, "log_bytes": 0, "swaps_refused": 0}
        self._serving: tuple[int, str] = (0, "")
        self._buckets = {stage: [0] * (len(BUCKETS) + 1) for stage in STAGES}
        self._sums = dict.fromkeys(STAGES, 0)
        self._batches: deque[_Batch] = deque()
        self._lock = threading.Lock()

    def serving(self, version: int, bundle: str) -> None:
        """Note the version that answers from now on."""
        self._serving = (version, bundle)

    def swap_refused(self) -> None:
        """Count a version that was wanted and not fit to be served."""
        self._counts["swaps_refused"] += 1

    def refused(self, error: InputError, fields: Collection[str]) -> None:
        """Count the fields for which a request was refused, once a field.

        Names that clients invent count as one: they must not become labels without end.
        """
        named = {found["field"].rpartition(".")[2] for found in error.errors}
        self._refusals.update({n if n in fields or n in _PLACES else _OTHER for n in named})

    def answered(
        self,
        version: int,
        logged: int,
        asked: Sequence[tuple[int, int]],
        times: tuple[int, int, int, int],
    ) -> None:
        """Count rows that were answered together, and the bytes of their records.

        `asked` holds when (ns) each row came and was decoded, `times` when the model
        was called for all, and when they were predicted, encoded and logged.
        """
        # Summed up some at once: for each alone it would cost twice as much, caches being cold.
        self._batches.append((version, logged, asked, times))
        if len(self._batches) >= _AT_ONCE:
            self.sum_up()

    def sum_up(self) -> None:
        """Add what was noted on the way of requests to the counters."""
        batches, observe = self._batches, self._observe
        with self._lock:
            while batches:
                version, logged, asked, times = batches.popleft()
                begun, predicted, encoded, written = times
                count = len(asked)
                self._predictions[version] += count
                self._counts["log_bytes"] += logged
                self._counts["batches"] += 1
                # A row's share of what was done for all of them, and its own time in all.
                shares = (predicted - begun, encoded - predicted, written - encoded)
                for stage, spent in zip(("predict", "encode", "log"), shares, strict=True):
                    observe(stage, spent // count, count)
                for started, decoded in asked:
                    observe("decode", decoded - started)
                    observe("total", written - started)

    def answered_rows(self, version: int, rows: int, logged: int, started: int) -> None:
        """Count the answered rows of a request that began at `started` (ns)."""
        spent = time.perf_counter_ns() - started
        with self._lock:
            self._predictions[version] += rows
            self._counts["log_bytes"] += logged
            self._observe("rows", spent)

    def _observe(self, stage: str, spent: int, times: int = 1) -> None:
        self._buckets[stage][bisect_left(_NANOSECONDS, spent)] += times
        self._sums[stage] += spent * times

    def responded(self, route: str, status: int) -> None:
        """Count a response."""
        self._responses[route, status] += 1

    def document(self) -> dict[str, Any]:
        """Return all counters as JSON values."""
        self.sum_up()
        return {
            "predictions": list(self._predictions.items()),
            "responses": [[*key, count] for key, count in list(self._responses.items())],
            "refusals": list(self._refusals.items()),
            "buckets": self._buckets,
            "sums": self._sums,
            "serving": self._serving,
            "counts": {
                **self._counts,
                "log_dropped": self._log.dropped,
                "log_sync_errors": self._log.sync_errors,
            },
        }

    def publish(self) -> None:
        """Sum up, and leave this worker's counters where the other workers find them."""
        if self._shared is None:
            self.sum_up()
            return
        data = json.dumps(self.document()).encode()
        if data != self._written:
            # Only readers must never see a half; after a crash of the machine nobody reads it.
            aside = self._shared / f"{os.getpid()}.new"
            aside.write_bytes(data)
            aside.rename(self._shared / f"{os.getpid()}.json")
            self._written = data

    def everyone(self) -> list[dict[str, Any]]:
        """Return the counters of all workers, also of those that died; this one's come first."""
        found = [self.document()]
        if self._shared is not None:
            mine = str(os.getpid())
            others = [path for path in self._shared.glob("*.json") if path.stem != mine]
            found += [json.loads(path.read_bytes()) for path in others]
        return found


_PLACES: Final = frozenset(["body", "rows"])
