"""What the server counts: plain numbers on the request path, Prometheus text when it is scraped."""

import json
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from steelyard.core.files import atomic_write
from steelyard.errors import InputError

__all__ = ["Metrics"]

# Seconds; from a fast model alone to a slow one under load.
_BUCKETS: Final = (
    2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_NANOSECONDS: Final = tuple(int(bound * 1e9) for bound in _BUCKETS)
_STAGES: Final = ("decode", "predict", "log_and_encode", "total")


class Metrics(Collector):
    """Counters of one worker; `shared` is the folder where the workers leave theirs for each other."""

    def __init__(self, model: str, shared: Path | None = None) -> None:
        self.model = model
        self._shared = shared
        self._predictions: Counter[int] = Counter()
        self._responses: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[str] = Counter()
        self._buckets = {stage: [0] * (len(_BUCKETS) + 1) for stage in _STAGES}
        self._sums = dict.fromkeys(_STAGES, 0)

    def refused(self, error: InputError) -> None:
        """Count the fields for which a request was refused."""
        for found in error.errors:
            # Names that clients invent must not become labels without end.
            field = found["field"].rpartition(".")[2]
            known = "unknown field" not in found["message"]
            self._refusals[field if known else "(unknown)"] += 1

    def answered_one(self, version: int, started: int, decoded: int, predicted: int) -> None:
        """Count one answered row and the time of its stages, given as perf_counter_ns."""
        self.answered_many(version, 1, started, decoded, predicted)

    def answered_many(
        self, version: int, rows: int, started: int, decoded: int, predicted: int
    ) -> None:
        """Count the answered rows of a request and the time of its stages."""
        now = time.perf_counter_ns()
        self._predictions[version] += rows
        buckets, sums = self._buckets, self._sums
        for stage, spent in (
            ("decode", decoded - started),
            ("predict", predicted - decoded),
            ("log_and_encode", now - predicted),
            ("total", now - started),
        ):
            buckets[stage][bisect_left(_NANOSECONDS, spent)] += 1
            sums[stage] += spent

    def responded(self, route: str, status: int) -> None:
        """Count a response."""
        self._responses[route, status] += 1

    def _document(self) -> dict[str, Any]:
        return {
            "predictions": list(self._predictions.items()),
            "responses": [[*key, count] for key, count in self._responses.items()],
            "refusals": list(self._refusals.items()),
            "buckets": self._buckets,
            "sums": self._sums,
        }

    def publish(self) -> None:
        """Leave this worker's counters where the other workers find them."""
        if self._shared is not None:
            data = json.dumps(self._document()).encode()
            atomic_write(self._shared / f"{os.getpid()}.json", data)

    def _everyone(self) -> list[dict[str, Any]]:
        found = [self._document()]
        if self._shared is not None:
            for path in self._shared.glob("[0-9]*.json"):
                if path.stem != str(os.getpid()):
                    found.append(json.loads(path.read_bytes()))
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the sum over all workers."""
        workers = self._everyone()
        predictions = CounterMetricFamily(
            "steelyard_predictions", "Answered rows.", labels=["model", "version"]
        )
        for (version,), count in _total(workers, "predictions").items():
            predictions.add_metric([self.model, version], count)
        responses = CounterMetricFamily(
            "steelyard_responses", "HTTP responses.", labels=["route", "status"]
        )
        for key, count in _total(workers, "responses").items():
            responses.add_metric(key, count)
        refusals = CounterMetricFamily(
            "steelyard_refusals",
            "Fields that a request was refused for.",
            labels=["model", "field"],
        )
        for (field,), count in _total(workers, "refusals").items():
            refusals.add_metric([self.model, field], count)
        yield from (predictions, responses, refusals, self._latency(workers))

    def _latency(self, workers: list[dict[str, Any]]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "steelyard_latency_seconds",
            "Time from the body's last byte to the encoded answer.",
            labels=["model", "stage"],
        )
        for stage in _STAGES:
            counts = [sum(c) for c in zip(*(w["buckets"][stage] for w in workers), strict=True)]
            total, cumulative = 0, []
            for bound, count in zip((*_BUCKETS, float("inf")), counts, strict=True):
                total += count
                cumulative.append((str(bound) if bound != float("inf") else "+Inf", total))
            seconds = sum(w["sums"][stage] for w in workers) / 1e9
            family.add_metric([self.model, stage], cumulative, seconds)
        return family

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)


def _total(workers: list[dict[str, Any]], name: str) -> Counter[tuple[str, ...]]:
    """Return labels -> count, summed over the workers; an entry is `[*labels, count]`."""
    totals: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        for *labels, count in worker[name]:
            totals[tuple(str(label) for label in labels)] += count
    return totals
