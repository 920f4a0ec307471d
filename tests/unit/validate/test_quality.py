"""The quality gate: limits on any scikit-learn scorer or metric, from the bundle's answers."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import steelyard as sy
from steelyard.validate.candidate import Candidate
from steelyard.validate.quality import check_quality

Make = Callable[..., Candidate]


def test_limits_hold_both_ways(make: Make) -> None:
    gates = (
        sy.AtLeast("roc_auc", 0.7),
        sy.AtLeast("roc_auc", 0.99),
        sy.AtMost("log_loss", 0.66),
        sy.AtMost("log_loss", 0.1),
        sy.AtLeast("neg_log_loss", -0.66),
    )
    made = make(gates=gates)
    checks = list(check_quality(made))
    assert [check.passed for check in checks] == [True, False, True, False, True]
    truth = made.test.label == "yes"
    positive = made.scores.probabilities[:, 1]  # type: ignore[index]
    assert checks[0].value == pytest.approx(roc_auc_score(truth, positive))
    assert checks[2].value == pytest.approx(log_loss(truth, positive))
    assert checks[4].value == pytest.approx(-log_loss(truth, positive))
    assert checks[1].name == "roc_auc >= 0.99"
    assert checks[1].threshold == 0.99
    assert "at least 0.99 is asked" in checks[1].evidence["message"]


def test_weights_count(make: Make, with_part: Callable[..., Candidate]) -> None:
    weight = np.random.default_rng(0).uniform(0.1, 5, 500)
    made = with_part(make(gates=(sy.AtLeast("accuracy", 0.5),)), "test", weight=weight)
    (found,) = check_quality(made)
    expected = accuracy_score(
        made.test.label.tolist(), made.scores.prediction.tolist(), sample_weight=weight
    )
    assert found.value == pytest.approx(expected)


def test_without_limits_the_usual_metrics_are_told(good: Candidate) -> None:
    (found,) = check_quality(good)
    assert found.passed
    assert {"roc_auc", "log_loss", "f1", "brier"} <= set(found.evidence["metrics"])


def test_a_metric_without_a_value_fails_with_its_reason(
    make: Make, with_part: Callable[..., Candidate]
) -> None:
    made = make(gates=(sy.AtLeast("roc_auc", 0.5),))
    made = with_part(made, "test", label=np.full(500, "no", dtype=object))
    (found,) = check_quality(made)
    assert not found.passed
    assert found.value is None
    assert "every class" in found.evidence["message"]
