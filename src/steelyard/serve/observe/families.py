"""The names, units, labels and meanings of all that a server counts: one line a family."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "ROUTES", "STAGES", "Family"]

# Seconds; from a stage of a fast model alone to a slow one under load.
_STAGE: Final = (
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4,
    1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_REQUEST: Final = (
    2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

STAGES: Final = ("decode", "wait", "predict", "encode", "log", "total", "rows")
"""One row's stages, its share of those that rows asked at the same moment went through together, and
its whole time; and the whole time of a request of several rows."""
ROUTES: Final = ("/predict",)
"""Whose first response or request is worth a series before it comes."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, named without its prefix `steelyard_` and without a counter's `_total`.

    A gauge is summed over the workers that live, a counter or histogram over the dead ones too.
    `bounds` of a histogram are None where each series brings its own.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    bounds: tuple[float, ...] | None = None


FAMILIES: Final[dict[str, Family]] = {
    "predictions": Family("counter", "Answered rows, fallback answers included.", ("version",)),
    "failures": Family("counter", "Rows that the model did not answer.", ("reason",)),
    "fallbacks": Family("counter", "Rows that the fallback answered.", ("reason",)),
    "refusals": Family("counter", "Requests refused for a field, once a field.", ("field",)),
    "flags": Family("counter", "Rows answered with a flag of a guard.", ("field", "flag")),
    "responses": Family("counter", "HTTP responses.", ("route", "status")),
    "outputs": Family("counter", "Rows by the label that the model gave.", ("version", "label")),
    "output_value": Family(
        "histogram",
        "The number that the model gave, or a binary one's probability of the positive label; "
        "between the edges of the training baseline.",
        ("version",),
    ),
    "latency_seconds": Family(
        "histogram",
        "A row by stage, from the body's last byte on; rows: a request of several.",
        ("stage",),
        "seconds",
        _STAGE,
    ),
    "request_seconds": Family(
        "histogram",
        "A request, from its body's last byte (/predict, answered ones) or its head on, to the answer.",
        ("route",),
        "seconds",
        _REQUEST,
    ),
    "batch_rows": Family(
        "histogram", "Rows asked alone that one call of the model answered.", (), "rows", _ROWS
    ),
    "waiting_rows": Family("gauge", "Rows asked alone that wait for the model.", (), "rows"),
    "waiting_requests": Family(
        "gauge", "Requests of several rows under way or in turn.", (), "requests"
    ),
    "connections": Family("gauge", "Open connections.", (), "connections"),
    "workers": Family("gauge", "Workers that live.", (), "workers"),
    "worker_deaths": Family("counter", "Workers that died and were replaced."),
    "serving": Family("gauge", "Workers that answer with a version.", ("version", "bundle")),
    "swaps_refused": Family("counter", "Versions that were wanted and not fit to be served."),
    "breaker": Family("gauge", "Workers by the state of their circuit breaker.", ("state",)),
    "alarm": Family("gauge", "Workers in which an alarm about the model is raised.", ("alarm",)),
    "log_bytes": Family("counter", "Bytes of records that the log took.", (), "bytes"),
    "log_dropped": Family("counter", "Answers that the prediction log could not take."),
    "log_sync_errors": Family("counter", "Groups of records that could not be made durable."),
}
