"""Gate baseline: the model is better than no model, and no worse than a simple one.

With many rows every difference is significant, so worse than the linear model means: with 95 %
confidence worse by more than matters. What matters is five hundredths of what the linear model gains
over the constant, and at least a thousandth of its loss.
"""

from collections.abc import Iterator
from typing import Any, Final

from steelyard.core.records import Check
from steelyard.core.splits import GroupSplit
from steelyard.features.parts import Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found
from steelyard.validate.linear_model import constant_scores, linear_scores
from steelyard.validate.resampling import Difference, compare_scores
from steelyard.validate.settings import Settings

__all__ = ["check_baseline"]

_MATTERS_OF_GAIN: Final = 0.05
_MATTERS_OF_LOSS: Final = 0.001


def check_baseline(candidate: Candidate) -> Iterator[Check]:
    """Judge against the constant, and against a linear model on the same features."""
    metric = Settings.of(candidate.definition).baseline_metric
    split, test, classes = candidate.definition.split, candidate.test, candidate.scores.classes

    def compare(other: Scores) -> Difference:
        return compare_scores(
            test,
            candidate.scores,
            other,
            metric=metric,
            train_rows=len(candidate.train),
            grouped=isinstance(split, GroupSplit),
        )

    constant = constant_scores(candidate.train, len(test), classes)
    against = compare(constant)
    yield found(
        "baseline",
        "better than constant",
        against.high < 0,
        _constant_message(against, candidate),
        value=against.first,
        threshold=against.second,
        constant=against.second,
        **against.document(),
    )
    simple, how = linear_scores(candidate.train, test, candidate.model_features, classes)
    rival = compare(simple)
    gain = abs(against.second - rival.second)
    matters = max(_MATTERS_OF_GAIN * gain, _MATTERS_OF_LOSS * abs(rival.second))
    yield found(
        "baseline",
        "not worse than linear",
        rival.low <= matters,
        _linear_message(rival, matters, how["model"]),
        value=rival.first,
        threshold=rival.second,
        flagged=0 < rival.low <= matters,
        linear=rival.second,
        matters=matters,
        fitted=how,
        **rival.document(),
    )


def _constant_message(found: Difference, candidate: Candidate) -> str:
    told = (
        f"{found.metric} {found.first:.5g} against {found.second:.5g} of always answering the same"
    )
    if found.high < 0:
        return f"{told}: better."
    if found.low > 0:
        return f"{told}: worse than constant. {_hint(candidate, found)}"
    return (
        f"{told}: with {found.rows} held-out rows it is not shown to be better than constant. Find "
        "features that say more, or hold out more rows."
    )


def _hint(candidate: Candidate, found: Difference) -> str:
    parameters: dict[str, Any] = getattr(candidate.definition.estimator, "get_params", dict)()
    if found.metric == "log_loss" and parameters.get("class_weight"):
        return (
            "class_weight bends the probabilities: drop it and set threshold=, or name what matters "
            'with Baseline("roc_auc").'
        )
    return "Check the features, and the estimator's settings."


def _linear_message(found: Difference, matters: float, model: str) -> str:
    told = f"{found.metric} {found.first:.5g} against {found.second:.5g} of {model} on the features"
    if found.low > matters:
        return f"{told}: worse. Take the linear model, or set the estimator better."
    if found.high < 0:
        return f"{told}: better."
    if found.low > 0:
        return f"{told}: worse, by less than matters."
    return f"{told}: no difference that is sure."
