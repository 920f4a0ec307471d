"""Metrics by scikit-learn's names: values, signs, classes of any type, and what is refused."""

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from steelyard.errors import DefinitionError
from steelyard.features.parts import Scores, Task
from steelyard.validate.metrics import (
    Undefined,
    evaluate,
    find_metric,
    require_metric,
    standard_metrics,
)

RNG = np.random.default_rng(0)
ROWS = 300
CLASSES: dict[str, tuple[Any, ...]] = {
    "strings": ("no", "yes"),
    "reversed": ("yes", "no"),
    "booleans": (False, True),
    "numbers": (3, 7),
}


def binary(classes: tuple[Any, ...]) -> tuple[Any, Scores, Any, Any]:
    truth = RNG.integers(0, 2, ROWS)
    positive = np.clip(0.3 * truth + RNG.random(ROWS) * 0.7, 0.01, 0.99)
    names = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    answered = (positive >= 0.5).astype(int)
    scores = Scores(names[answered], np.column_stack([1 - positive, positive]), classes)
    return names[truth], scores, truth, positive


@pytest.mark.parametrize("kind", CLASSES)
def test_the_second_class_is_positive_whatever_its_type(kind: str) -> None:
    label, scores, truth, positive = binary(CLASSES[kind])
    answered = (positive >= 0.5).astype(int)
    expected = {
        "roc_auc": sk.roc_auc_score(truth, positive),
        "roc_auc_score": sk.roc_auc_score(truth, positive),
        "average_precision": sk.average_precision_score(truth, positive),
        "neg_log_loss": -sk.log_loss(truth, positive),
        "log_loss": sk.log_loss(truth, positive),
        "brier": sk.brier_score_loss(truth, positive),
        "neg_brier_score": -sk.brier_score_loss(truth, positive),
        "f1": sk.f1_score(truth, answered),
        "precision": sk.precision_score(truth, answered),
        "recall": sk.recall_score(truth, answered),
        "f1_macro": sk.f1_score(truth, answered, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, answered),
        "matthews_corrcoef": sk.matthews_corrcoef(truth, answered),
        "zero_one_loss": sk.zero_one_loss(truth, answered),
    }
    for name, value in expected.items():
        assert evaluate(name, label, scores) == pytest.approx(value), name


def test_multiclass_metrics_know_classes_that_are_not_held_out() -> None:
    truth = RNG.integers(0, 2, ROWS)  # the third class does not occur
    table = RNG.dirichlet([1, 1, 1], ROWS)
    scores = Scores(
        np.array(["a", "b", "c"], dtype=object)[table.argmax(axis=1)], table, ("a", "b", "c")
    )
    label = np.array(["a", "b"], dtype=object)[truth]
    expected = sk.log_loss(truth, table, labels=[0, 1, 2])
    assert evaluate("log_loss", label, scores) == pytest.approx(expected)
    assert evaluate("top_k_accuracy", label, scores) > 0.5
    with pytest.raises(Undefined):
        evaluate("roc_auc_ovr", label, scores)


def test_regression_metrics_and_weights() -> None:
    truth, told = RNG.normal(size=ROWS), RNG.normal(size=ROWS)
    weight = RNG.uniform(0.1, 3, ROWS)
    scores = Scores(told, None, None)
    for name, function in (
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("r2", sk.r2_score),
    ):
        assert evaluate(name, truth, scores, weight) == pytest.approx(
            function(truth, told, sample_weight=weight)
        )
    # scikit-learn's largest error knows no weights.
    assert evaluate("neg_max_error", truth, scores, weight) == -sk.max_error(truth, told)


@pytest.mark.parametrize(
    ("name", "higher"),
    [("roc_auc", True), ("neg_log_loss", True), ("log_loss", False), ("rmse", False), ("r2", True),
     ("mean_poisson_deviance", False), ("neg_mean_poisson_deviance", True), ("brier", False)],
)  # fmt: skip
def test_which_way_is_better(name: str, higher: bool) -> None:
    assert find_metric(name).higher_is_better is higher


@pytest.mark.parametrize("name", ["roc_acu", "adjusted_rand_score", "silhouette_score", "auc", ""])
def test_what_is_no_metric_of_answers_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        find_metric(name)
    assert caught.value.field == "gates"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "task"),
    [("rmse", "binary"), ("roc_auc", "regression"), ("f1", "multiclass"), ("roc_auc", "multiclass"),
     ("r2", "multiclass"), ("accuracy", "regression")],
)  # fmt: skip
def test_a_metric_that_does_not_suit_the_task_is_refused_with_others(name: str, task: Task) -> None:
    with pytest.raises(DefinitionError, match=f"{name}.*{task}") as caught:
        require_metric(name, task)
    assert "Use, for example" in (caught.value.fix or "")


def test_a_metric_without_a_value_says_so() -> None:
    label, scores, _, _ = binary(("no", "yes"))
    one = np.full(ROWS, "no", dtype=object)
    for name in ("roc_auc", "average_precision"):
        with pytest.raises(Undefined):
            evaluate(name, one, scores)
    never = Scores(one, scores.probabilities, scores.classes)
    with pytest.raises(Undefined):
        evaluate("precision", label, never)
    with pytest.raises(Undefined):
        evaluate("accuracy", np.full(ROWS, "maybe", dtype=object), scores)
    assert "roc_auc" not in standard_metrics(one, scores)
    assert "log_loss" in standard_metrics(one, scores)
