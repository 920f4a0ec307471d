"""What one worker counts on the request path: plain numbers, cheap to add to and to write down."""

import json
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
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
"""The stages of one row and their sum; and the whole of a request of several rows."""

_NANOSECONDS: Final = tuple(int(bound * 1e9) for bound in BUCKETS)
_OTHER: Final = "(unknown)"


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
        self._counts = {"log_bytes": 0, "swaps_refused": 0}
        self._serving: tuple[int, str] = (0, "")
        self._buckets = {stage: [0] * (len(BUCKETS) + 1) for stage in STAGES}
        self._sums = dict.fromkeys(STAGES, 0)
        self._single = [(self._buckets[stage], stage) for stage in STAGES[:4]]

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

    def answered(self, version: int, logged: int, times: tuple[int, int, int, int, int]) -> None:
        """Count an answered row, the bytes of its record, and the times (ns) between its stages."""
        self._predictions[version] += 1
        self._counts["log_bytes"] += logged
        sums, last = self._sums, times[0]
        for (buckets, stage), now in zip(self._single, times[1:], strict=True):
            spent = now - last
            buckets[bisect_left(_NANOSECONDS, spent)] += 1
            sums[stage] += spent
            last = now
        self._observe("total", last - times[0])

    def answered_rows(self, version: int, rows: int, logged: int, started: int) -> None:
        """Count the answered rows of a request that began at `started` (ns)."""
        self._predictions[version] += rows
        self._counts["log_bytes"] += logged
        self._observe("rows", time.perf_counter_ns() - started)

    def _observe(self, stage: str, spent: int) -> None:
        self._buckets[stage][bisect_left(_NANOSECONDS, spent)] += 1
        self._sums[stage] += spent

    def responded(self, route: str, status: int) -> None:
        """Count a response."""
        self._responses[route, status] += 1

    def document(self) -> dict[str, Any]:
        """Return all counters as JSON values."""
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
        """Leave this worker's counters where the other workers find them."""
        if self._shared is None:
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
