"""The workers' counters in Prometheus' text format; made only when it is asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from steelyard.serve.observe.metrics import BUCKETS, STAGES, Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["exposition"]


def exposition(metrics: Metrics) -> bytes:
    """Return the sums over all workers, and the process metrics of the one that was asked."""
    # A tenth of a second to import: paid at the first scrape, not before the first answer.
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector

    class Workers(Collector):
        def collect(self) -> Iterator["Metric"]:
            yield from _families(metrics.model, metrics.everyone())

    registry = CollectorRegistry()
    registry.register(Workers())
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _families(model: str, workers: Sequence[dict[str, Any]]) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, help_text, labels in (
        ("predictions", "Answered rows.", ["version"]),
        ("responses", "HTTP responses.", ["route", "status"]),
        ("refusals", "Requests refused for a field.", ["field"]),
    ):
        family = CounterMetricFamily(f"steelyard_{name}", help_text, labels=["model", *labels])
        for key, count in _total(workers, name).items():
            family.add_metric([model, *key], count)
        yield family
    for name, help_text in (
        ("batches", "Calls of the model for rows that were asked one by one."),
        ("log_bytes", "Bytes of records that the prediction log took."),
        ("log_dropped", "Answers that the prediction log could not take."),
        ("log_sync_errors", "Groups of records that could not be made durable."),
        ("swaps_refused", "Versions that were wanted and not fit to be served."),
    ):
        family = CounterMetricFamily(f"steelyard_{name}", help_text, labels=["model"])
        family.add_metric([model], sum(worker["counts"][name] for worker in workers))
        yield family
    serving = GaugeMetricFamily(
        "steelyard_serving", "The version that answers.", labels=["model", "version", "bundle"]
    )
    version, bundle = workers[0]["serving"]
    serving.add_metric([model, str(version), bundle], 1)
    yield serving
    yield _latency(model, workers)


def _latency(model: str, workers: Sequence[dict[str, Any]]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "steelyard_latency_seconds",
        "A row by stage, from the body's last byte on; rows: a request of several.",
        labels=["model", "stage"],
    )
    bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
    for stage in STAGES:
        counts = [sum(c) for c in zip(*(w["buckets"][stage] for w in workers), strict=True)]
        total, cumulative = 0, []
        for bound, count in zip(bounds, counts, strict=True):
            total += count
            cumulative.append((bound, total))
        seconds = sum(worker["sums"][stage] for worker in workers) / 1e9
        family.add_metric([model, stage], cumulative, seconds)
    return family


def _total(workers: Sequence[dict[str, Any]], name: str) -> Counter[tuple[str, ...]]:
    """Return labels -> count, summed over the workers; an entry is `[*labels, count]`."""
    totals: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        for *labels, count in worker[name]:
            totals[tuple(str(label) for label in labels)] += count
    return totals
