"""Pictures: one set a task, small, the same every time, and not upset by odd names."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from steelyard.validate.candidate import Candidate
from steelyard.validate.importance import importances
from steelyard.validate.plots import plots

EXPECTED = {
    "binary": {"roc.png", "precision_recall.png", "calibration.png", "scores.png"},
    "multiclass": {"confusion.png", "calibration.png"},
    "regression": {"predicted.png", "residuals.png"},
}


@pytest.mark.parametrize("task", EXPECTED)
def test_each_task_has_its_pictures(make: Callable[..., Candidate], task: str) -> None:
    made = make(task)
    found = plots(made)
    assert set(found) == EXPECTED[task] | {"importance.png"}
    for picture in found.values():
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 60_000
    assert plots(made) == found


def test_odd_names_and_constant_answers_are_drawn(good: Candidate) -> None:
    label = np.where(good.test.label == "yes", "$\\frac{", "\U0001f9ff" * 40).astype(object)
    table = np.full((len(label), 2), 0.5)
    scores = replace(
        good.scores, prediction=label, probabilities=table, classes=("\U0001f9ff" * 40, "$\\frac{")
    )
    made = replace(
        good,
        test=replace(good.test, label=label),
        scores=scores,
        packed=lambda columns: replace(
            scores, prediction=label[: len(columns["plan"])], probabilities=table
        ),
    )
    assert len(plots(made)) == 5


def test_importance_finds_the_columns_that_matter(make: Callable[..., Candidate]) -> None:
    for task in EXPECTED:
        found = importances(make(task))
        assert {one.column for one in found[:3]} == {"tenure", "plan", "charge"}
        useless = next(one for one in found if one.column == "since")
        assert useless.increase == 0.0
