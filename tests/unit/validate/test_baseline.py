"""The baseline gate: better than a constant, and not worse than a linear model by what matters."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.core.records import Check
from steelyard.features.parts import Scores
from steelyard.validate.baseline import check_baseline
from steelyard.validate.candidate import Candidate
from steelyard.validate.linear_model import constant_scores, linear_scores

Make = Callable[..., Candidate]


def checks(candidate: Candidate) -> tuple[Check, Check]:
    first, second = check_baseline(candidate)
    return first, second


def answered(candidate: Candidate, positive: Any) -> Candidate:
    """Give a binary candidate other probabilities of its positive class."""
    table = np.column_stack([1 - positive, positive])
    prediction = np.where(positive >= 0.5, "yes", "no").astype(object)
    return replace(candidate, scores=Scores(prediction, table, ("no", "yes")))


def test_a_good_model_is_better_than_both(good: Candidate) -> None:
    constant, linear = checks(good)
    assert constant.passed
    assert linear.passed
    assert constant.evidence["interval"][1] < 0
    assert constant.evidence["resamples"] == 2000
    assert linear.evidence["fitted"]["model"] == "LogisticRegression"


def test_noise_is_no_better_than_constant(good: Candidate) -> None:
    shuffled = np.random.default_rng(0).permutation(good.scores.probabilities[:, 1])  # type: ignore[index]
    constant, linear = checks(answered(good, shuffled))
    assert not constant.passed
    assert "worse than constant" in constant.evidence["message"]
    assert not linear.passed
    assert "worse" in linear.evidence["message"]


def test_a_handful_of_rows_shows_nothing(good: Candidate) -> None:
    rows = np.arange(8)
    few = replace(good, test=good.test.take(rows), scores=good.packed(good.test.take(rows).columns))
    constant, _ = checks(few)
    assert not constant.passed
    assert "not shown to be better" in constant.evidence["message"]


def test_a_little_worse_than_linear_passes_and_is_flagged_where_it_is_sure(good: Candidate) -> None:
    classes = good.scores.classes
    simple, _ = linear_scores(good.train, good.test, good.model_features, classes)
    assert simple.probabilities is not None
    positive = simple.probabilities[:, 1]
    truth = good.test.label == "yes"
    # Surely worse on every row, by three thousandths of the loss.
    worse = np.where(truth, positive * 0.998, 1 - (1 - positive) * 0.998)
    _, linear = checks(answered(good, worse))
    assert linear.evidence["interval"][0] > 0
    assert linear.passed
    assert linear.flagged
    much = np.where(truth, positive * 0.95, 1 - (1 - positive) * 0.95)
    _, linear = checks(answered(good, much))
    assert not linear.passed


def test_bent_probabilities_are_explained(make: Make) -> None:
    made = make()
    made.definition.estimator.set_params(class_weight="balanced")
    constant, _ = checks(answered(made, np.where(made.test.label == "yes", 0.02, 0.98)))
    assert "class_weight" in constant.evidence["message"]


def test_another_metric_may_be_named(make: Make) -> None:
    made = make(gates=(sy.Baseline("roc_auc"),))
    # Badly calibrated, well ordered.
    made = answered(made, made.scores.probabilities[:, 1] * 0.01)  # type: ignore[index]
    constant, linear = checks(made)
    assert constant.passed
    assert linear.passed
    assert constant.evidence["metric"] == "roc_auc"
    assert constant.threshold == 0.5
    unnamed, _ = checks(replace(made, definition=make().definition))
    assert not unnamed.passed


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_both_ways(make: Make, task: str) -> None:
    made = make(task)
    assert all(check.passed for check in checks(made))
    order = np.random.default_rng(0).permutation(len(made.test))
    scores = made.scores
    table = None if scores.probabilities is None else scores.probabilities[order]
    noise = replace(made, scores=Scores(scores.prediction[order], table, scores.classes))
    assert not any(check.passed for check in checks(noise))


def test_weights_count(good: Candidate, with_part: Callable[..., Candidate]) -> None:
    right = (good.scores.prediction == good.test.label).astype(float)
    heavy = with_part(good, "test", weight=np.where(right > 0, 1e-3, 1.0))
    constant, _ = checks(heavy)
    assert not constant.passed  # where only its errors weigh, the model is worse than constant


def test_the_constant_is_the_weighted_share_or_mean(
    good: Candidate, make: Make, with_part: Callable[..., Candidate]
) -> None:
    yes = good.train.label == "yes"
    weighted = with_part(good, "train", weight=np.where(yes, 3.0, 1.0))
    found = constant_scores(weighted.train, 2, ("no", "yes")).probabilities
    assert found is not None
    share = 3 * yes.sum() / (3 * yes.sum() + (~yes).sum())
    assert found[:, 1] == pytest.approx([share, share])
    number = make("regression").train
    assert constant_scores(number, 1, None).prediction[0] == pytest.approx(number.label.mean())


def test_the_linear_model_stands_extremes_and_empty_columns(good: Candidate) -> None:
    train, test = good.train, good.test
    odd = {"huge": 1.7e308, "null": np.nan, "infinite": np.inf}
    learned = {n: np.full(len(train), v) for n, v in odd.items()}
    learned["huge"][::2] = -1.7e308
    asked = {n: np.full(len(test), v) for n, v in odd.items()}
    names = (*good.model_features, *odd)
    scores, how = linear_scores(
        replace(train, features={**train.features, **learned}),
        replace(test, features={**test.features, **asked}),
        names,
        ("no", "yes"),
    )
    assert np.isfinite(scores.probabilities).all()  # type: ignore[arg-type]
    assert how["trained_on"] == len(train)
