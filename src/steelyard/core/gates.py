"""What a model must show. Declarations only: judging is the validate stage's work."""

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.errors import DefinitionError

__all__ = [
    "GATE_NAMES",
    "AtLeast",
    "AtMost",
    "Baseline",
    "Champion",
    "GateSetting",
    "Latency",
    "Leakage",
    "Schema",
    "SlicesAtLeast",
    "SlicesAtMost",
    "Waiver",
    "waive",
]

GATE_NAMES = (
    "schema",
    "split",
    "leakage",
    "baseline",
    "quality",
    "slices",
    "champion",
    "parity",
    "latency",
)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Quality: a scikit-learn metric or scorer on the held-out rows is at least `value`."""

    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """Quality: a scikit-learn metric or scorer on the held-out rows is at most `value`."""

    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class SlicesAtLeast:
    """Slices: the metric is at least `value` within each value of each column in `by`.

    Slices with fewer than `min_rows` held-out rows are listed but not judged.
    """

    metric: str
    value: float
    by: Sequence[str]
    min_rows: int = 100


@dataclass(frozen=True, slots=True)
class SlicesAtMost:
    """Slices: the metric is at most `value` within each value of each column in `by`."""

    metric: str
    value: float
    by: Sequence[str]
    min_rows: int = 100


@dataclass(frozen=True, slots=True)
class Schema:
    """Tighten the schema gate: the largest share of bad rows, .001 by default."""

    max_bad: float = 0.001


@dataclass(frozen=True, slots=True)
class Leakage:
    """Tighten the leakage gate: what a single feature may score on held-out rows."""

    auc: float = 0.98
    r2: float = 0.98


@dataclass(frozen=True, slots=True)
class Baseline:
    """Name the metric of the baseline gate instead of log-loss or RMSE."""

    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Champion:
    """Name the champion gate's metric, and how much worse (in its units) is still accepted."""

    metric: str | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Tighten the latency gate: p99 of one row through a started server, in milliseconds."""

    p99_ms: float = 10.0


@dataclass(frozen=True, slots=True)
class Waiver:
    """A gate that is turned off, and why. Recorded with who and when; shown with the version."""

    gate: str
    reason: str


def waive(gate: str, *, reason: str) -> Waiver:
    """Turn a gate off for a stated reason; the waiver shows wherever the version shows.

    >>> waive("latency", reason="offline use only").gate
    'latency'
    """
    if gate not in GATE_NAMES:
        raise DefinitionError(
            f"there is no gate {gate!r}.", field="gates", fix=f"Gates: {', '.join(GATE_NAMES)}."
        )
    if len(reason.strip()) < 3:
        raise DefinitionError(
            "a waiver needs a reason that others can judge.",
            field="gates",
            fix='Write waive("latency", reason="scored nightly in batch, never served").',
        )
    return Waiver(gate, reason.strip())


GateSetting = (
    AtLeast
    | AtMost
    | SlicesAtLeast
    | SlicesAtMost
    | Schema
    | Leakage
    | Baseline
    | Champion
    | Latency
    | Waiver
)
