"""The champion gate: compared on rows new to both, and what cannot be compared is told."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.core.records import Check
from steelyard.features.parts import Columns, Scores
from steelyard.validate.candidate import Candidate, ChampionEvidence
from steelyard.validate.champion import check_champion
from steelyard.validate.rows import row_hashes

Make = Callable[..., Candidate]


def found(candidate: Candidate, **champion: Any) -> Check:
    evidence = ChampionEvidence(**{"version": "churn@3", **champion})
    (check,) = check_champion(replace(candidate, champion=evidence))
    return check


def dull(candidate: Candidate) -> Callable[[Columns], Scores]:
    """A champion that knows nothing: the same answers in another order."""

    def predict(columns: Columns) -> Scores:
        scores = candidate.packed(columns)
        order = np.random.default_rng(0).permutation(len(scores))
        table = None if scores.probabilities is None else scores.probabilities[order]
        return Scores(scores.prediction[order], table, scores.classes)

    return predict


def oracle(candidate: Candidate, answers: Any = None) -> Callable[[Columns], Scores]:
    """A champion that knows the held-out labels nearly surely."""
    label = {
        int(h): value
        for h, value in zip(
            row_hashes(candidate.test.columns), candidate.test.label.tolist(), strict=True
        )
    }

    def predict(columns: Columns) -> Scores:
        truth = [label[int(h)] for h in row_hashes(columns)]
        classes = candidate.scores.classes
        if classes is None:
            return Scores(np.array(truth), None, None)
        table = np.full((len(truth), len(classes)), 0.02 / (len(classes) - 1))
        table[np.arange(len(truth)), [classes.index(value) for value in truth]] = 0.98
        return Scores(np.array(truth, dtype=object), table, classes)

    return predict


def test_the_first_version_passes(good: Candidate) -> None:
    (check,) = check_champion(good)
    assert check.passed
    assert "first version" in check.evidence["message"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_better_and_equal_pass_and_worse_is_refused(make: Make, task: str) -> None:
    made = make(task)
    assert found(made, predict=dull(made)).passed
    equal = found(made, predict=made.packed)
    assert equal.passed
    assert equal.evidence["worse_by"] == 0
    worse = found(made, predict=oracle(made))
    assert not worse.passed
    assert "worse" in worse.evidence["message"]
    assert worse.evidence["new_rows"] == 500


def test_a_tolerance_and_a_metric_may_be_named(make: Make) -> None:
    made = make(gates=(sy.Champion(metric="accuracy", tolerance=0.9),))
    check = found(made, predict=oracle(made))
    assert check.passed
    assert check.evidence["metric"] == "accuracy"
    strict = make(gates=(sy.Champion(metric="accuracy"),))
    assert not found(strict, predict=oracle(strict)).passed


def test_classes_in_another_order_are_the_same(good: Candidate) -> None:
    def turned(columns: Columns) -> Scores:
        scores = good.packed(columns)
        assert scores.probabilities is not None
        return Scores(scores.prediction, scores.probabilities[:, ::-1], ("yes", "no"))

    assert found(good, predict=turned).evidence["worse_by"] == 0


def test_rows_that_the_champion_learned_from_do_not_count(good: Candidate) -> None:
    seen = good.test.rows[:400]
    by_number = found(good, predict=good.packed, seen_rows=seen)
    assert by_number.evidence["new_rows"] == 100
    assert by_number.evidence["rows"] == 100
    hashes = row_hashes(good.test.columns, good.test.label)[:400]
    assert found(good, predict=good.packed, seen_hashes=hashes).evidence["new_rows"] == 100


def test_too_few_new_rows_prove_nothing_unless_it_wins_even_so(good: Candidate) -> None:
    seen = good.test.rows[10:]
    unproven = found(good, predict=oracle(good), seen_rows=seen)
    assert unproven.passed
    assert unproven.flagged
    assert "nothing is proven" in unproven.evidence["message"]
    winning = found(good, predict=dull(good), seen_rows=seen)
    assert winning.passed
    assert not winning.flagged
    assert winning.evidence["rows"] == 500


def test_what_cannot_be_compared_is_refused_and_may_be_waived(good: Candidate) -> None:
    other = found(good, incompatible="it answers classes (1, 2)", predict=good.packed)
    assert not other.passed
    assert "it answers classes (1, 2)" in other.evidence["message"]
    mute = found(good, reason="it reads the column age")
    assert not mute.passed
    assert 'waive("champion"' in mute.evidence["message"]
