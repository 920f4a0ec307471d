"""Paired bootstrap: intervals cover, blocks and groups are right, losses are clipped."""

from collections.abc import Callable

import numpy as np
import pytest

from steelyard.features.parts import Part, Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.resampling import clipped_losses, compare_losses, compare_metric


@pytest.mark.parametrize("rows", [800, 40_000])
def test_the_interval_is_that_of_the_mean(rows: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=rows), rng.exponential(size=rows)
    found = compare_losses(first, second, metric="log_loss")
    difference = first - second
    error = difference.std(ddof=1) / np.sqrt(rows)
    assert found.worse_by == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.15 * error)
    assert compare_losses(first, second, metric="log_loss") == found


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        first = rng.normal(size=200) ** 2
        second = first + rng.normal(scale=0.5, size=200)
        found = compare_losses(first, second, metric="log_loss")
        covered += found.low <= 0 <= found.high
    assert 88 <= covered <= 100


def test_rmse_compares_roots_and_weights_count() -> None:
    first, second = np.array([1.0, 9.0] * 50), np.array([4.0, 4.0] * 50)
    found = compare_losses(first, second, metric="rmse")
    assert [found.first, found.second] == pytest.approx([np.sqrt(5), 2.0])
    weighted = compare_losses(first, second, metric="rmse", weight=np.array([1.0, 0.0] * 50))
    assert weighted.first == pytest.approx(1.0)


def test_rows_of_one_group_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(40), 50)
    difference = np.repeat(rng.normal(size=40), 50)
    zero = np.zeros(len(group))
    alone = compare_losses(difference, zero, metric="log_loss")
    together = compare_losses(difference, zero, metric="log_loss", group=group.astype(object))
    assert together.high - together.low > 5 * (alone.high - alone.low)
    few = compare_losses(difference, zero, metric="log_loss", group=(group % 5).astype(object))
    assert few == alone  # a handful of groups cannot be resampled


def test_any_metric_is_compared_in_its_own_direction(good: Candidate) -> None:
    order = np.random.default_rng(0).permutation(len(good.test))
    scores = good.scores
    assert scores.probabilities is not None
    noise = Scores(scores.prediction[order], scores.probabilities[order], scores.classes)
    for name in ("roc_auc", "brier"):
        found = compare_metric(name, good.test, noise, scores)
        assert found.worse_by > 0
        assert found.low > 0
        assert compare_metric(name, good.test, scores, noise).high < 0
    groups = np.arange(len(good.test)) % 50
    grouped = compare_metric("accuracy", good.test, noise, scores, group=groups.astype(object))
    assert grouped.low > 0


def test_large_parts_are_sampled_for_slow_metrics(make: Callable[..., Candidate]) -> None:
    made = make(rows=23_000, test=22_000)
    found = compare_metric("roc_auc", made.test, made.scores, made.scores)
    assert (found.rows, found.resamples, found.worse_by) == (22_000, 200, 0.0)


def test_losses_are_clipped_by_what_the_training_rows_could_show() -> None:
    part = Part(np.arange(2), {}, np.array([True, False]), {})
    scores = Scores(np.array([False, False]), np.array([[1.0, 0.0], [1.0, 0.0]]), (False, True))
    found = clipped_losses(part, scores, train_rows=98)
    assert found == pytest.approx([np.log(100), -np.log(0.99)])
