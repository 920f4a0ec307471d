"""Gate quality: the metrics that the definition asks for, on the held-out rows."""

from collections.abc import Iterator

from steelyard.core.gates import AtLeast, AtMost
from steelyard.core.records import Check
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found
from steelyard.validate.metrics import Undefined, evaluate, standard_metrics
from steelyard.validate.settings import Settings

__all__ = ["check_quality"]


def check_quality(candidate: Candidate) -> Iterator[Check]:
    """Judge each `AtLeast` and `AtMost`; without one, tell the usual metrics."""
    limits = Settings.of(candidate.definition).quality
    test = candidate.test
    if not limits:
        metrics = standard_metrics(test.label, candidate.scores, test.weight)
        yield found(
            "quality",
            "usual metrics",
            True,
            "The definition sets no limit; add AtLeast or AtMost for the metric that matters.",
            metrics=metrics,
            rows=len(test),
        )
    for limit in limits:
        yield _judge(candidate, limit)


def _judge(candidate: Candidate, limit: AtLeast | AtMost) -> Check:
    test = candidate.test
    least = isinstance(limit, AtLeast)
    sign, words = (">=", "at least") if least else ("<=", "at most")
    name = f"{limit.metric} {sign} {limit.value:g}"
    try:
        value = evaluate(limit.metric, test.label, candidate.scores, test.weight)
    except Undefined as error:
        told = f"{error}; the limit cannot be judged. Hold out rows of every class."
        return found("quality", name, False, told, threshold=limit.value, rows=len(test))
    passed = value >= limit.value if least else value <= limit.value
    told = f"{limit.metric} is {value:.5g} on {len(test)} held-out rows; {words} {limit.value:g} is asked."
    if not passed:
        told += " Better features or settings, or another limit."
    return found(
        "quality",
        name,
        passed,
        told,
        value=value,
        threshold=limit.value,
        metric=limit.metric,
        rows=len(test),
        metrics=standard_metrics(test.label, candidate.scores, test.weight),
    )
