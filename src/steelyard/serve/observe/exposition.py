"""The workers' counters in a text format of Prometheus; made only when it is asked for."""

import platform
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING

from steelyard.serve.observe.families import FAMILIES, Family
from steelyard.serve.observe.gpus import Gpus
from steelyard.serve.observe.metrics import Metrics
from steelyard.serve.observe.shared import Counted, Histogram, Labels, total
from steelyard.serve.observe.text_format import media_type, written

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["exposition", "families"]


def exposition(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """Return the sums over all workers, and the process metrics of each; and the media type.

    `accept` is the header by which a scraper asks for OpenMetrics.
    """
    form = media_type(accept)
    return written(families(metrics), form), form


def families(metrics: Metrics) -> Iterator["Metric"]:
    """Give all metrics of a server, as the client library has them."""
    workers = metrics.everyone()
    yield from _families(metrics.model, total(workers))
    yield from _processes(workers)
    yield from _gpus()
    yield _build()


def _families(model: str, counted: Counted) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    for name, family in FAMILIES.items():
        if family.kind == "histogram":
            yield _histograms(model, name, family, counted.histograms.get(name, ()))
            continue
        found = kinds[family.kind](
            f"steelyard_{name}", family.help, labels=["model", *family.labels], unit=family.unit
        )
        series = counted.counters if family.kind == "counter" else counted.gauges
        for labels, value in series.get(name, ()):
            found.add_metric([model, *labels], value)
        yield found


def _histograms(
    model: str, name: str, family: Family, series: Sequence[tuple[Labels, Histogram]]
) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    found = HistogramMetricFamily(
        f"steelyard_{name}", family.help, labels=["model", *family.labels], unit=family.unit
    )
    text: Callable[[float], str] = floatToGoString  # as OpenMetrics has it: 1.0, 1e-06
    for labels, histogram in series:
        bounds = [*map(text, family.bounds or histogram.bounds), "+Inf"]
        cumulative = list(zip(bounds, accumulate(histogram.counts), strict=True))
        found.add_metric([model, *labels], cumulative, histogram.sum)
    return found


def _processes(workers: Sequence[Counted]) -> Iterator["Metric"]:
    """Give the process metrics of every worker that lives, told apart by its place."""
    from prometheus_client import ProcessCollector

    found: dict[str, Metric] = {}
    for place, pid in sorted(worker.process for worker in workers if worker.process):
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            samples = [s._replace(labels={"worker": str(place)}) for s in family.samples]
            if family.name in found:
                found[family.name].samples += samples
            else:
                family.samples, found[family.name] = samples, family
    yield from found.values()


@cache
def _cards() -> Gpus:
    return Gpus()


def _gpus() -> Iterator["Metric"]:
    """Give the memory and the load of each graphics card; nothing where there is none."""
    from prometheus_client.core import GaugeMetricFamily

    cards = _cards().latest()
    for name, help_text, unit, values in (
        ("memory_used", "Memory of the card in use.", "bytes", [card.used for card in cards]),
        ("memory_total", "Memory of the card.", "bytes", [card.total for card in cards]),
        ("busy", "Share of the last moment in which it worked.", "ratio", [c.busy for c in cards]),
    ):
        found = GaugeMetricFamily(
            f"steelyard_gpu_{name}", help_text, labels=["gpu", "name"], unit=unit
        )
        for card, value in zip(cards, values, strict=True):
            if value is not None:
                found.add_metric([card.index, card.name], value)
        if found.samples:
            yield found


def _build() -> "Metric":
    from prometheus_client.core import InfoMetricFamily

    return InfoMetricFamily("steelyard_build", "What this server is made of.", _versions())


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import version  # slow, and of no use before the first scrape

    found = {name: version(name) for name in ("steelyard", "onnxruntime", "numpy")}
    return {**found, "python": platform.python_version()}
