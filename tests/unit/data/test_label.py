"""Labels keep their type; estimator, labels and positive class must fit."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from steelyard.core.fields import NULL_STRING
from steelyard.data.label import Target, read_labels, target_of, task_of
from steelyard.errors import DataError, DefinitionError

CLASSIFIER, REGRESSOR = LogisticRegression(), Ridge()


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["1", "0", "10"], "int64", [1, 0, 10]),
        (["1.0", "2"], "int64", [1, 2]),
        (["1", "2.5"], "float64", [1.0, 2.5]),
        (["true", "False"], "bool", [True, False]),
        (["1", "true"], "bool", [True, True]),
        (["1", "2.5", "x"], "object", ["1", "2.5", "x"]),
        (["No", "Yes"], "object", ["No", "Yes"]),
        (["007", "8"], "object", ["007", "8"]),
        (["1" * 30, "2"], "float64", [float("1" * 30), 2.0]),
    ],
)
def test_the_kind_of_text_is_inferred_over_all_rows(
    values: list[str], dtype: str, expected: list[Any]
) -> None:
    found = read_labels(pl.Series("y", [None, *values]), text=True)
    assert found.values.dtype == dtype
    assert found.values[1:].tolist() == expected
    assert found.null.tolist() == [True] + [False] * len(values)
    assert not found.faults


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 0], "int64", [1, 0]),
        ([1.0, 0.0], "int64", [1, 0]),
        ([1.5, 0.0], "float64", [1.5, 0.0]),
        ([True, False], "bool", [True, False]),
        (["1", "0"], "object", ["1", "0"]),
    ],
)
def test_typed_labels_keep_their_type(values: list[Any], dtype: str, expected: list[Any]) -> None:
    found = read_labels(pl.Series("y", values), text=False)
    assert found.values.dtype == dtype
    assert found.values.tolist() == expected


def test_labels_that_are_no_values_are_faults_by_row() -> None:
    numbers = pl.Series("y", [None, 1.5, float("nan"), None, float("inf")])
    [fault] = read_labels(numbers, text=False).faults
    assert (fault.field, fault.reason, fault.rows.tolist()) == ("y", "not finite", [2, 4])
    [fault] = read_labels(pl.Series("y", [None, "a", NULL_STRING]), text=False).faults
    assert fault.rows.tolist() == [2]


def test_columns_that_hold_no_labels() -> None:
    with pytest.raises(DataError, match="all 2 cells of 'y' are null"):
        read_labels(pl.Series("y", [None, None], dtype=pl.String), text=True)
    with pytest.raises(DataError, match="'y' has the type Date"):
        read_labels(pl.Series("y", [1], dtype=pl.Date), text=False)


def array(values: list[Any]) -> Any:
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


@pytest.mark.parametrize(
    ("labels", "estimator", "positive", "expected"),
    [
        (["No", "Yes", "No"], CLASSIFIER, "Yes", Target("binary", ("No", "Yes"), "Yes")),
        (["No", "Yes"], CLASSIFIER, "No", Target("binary", ("No", "Yes"), "No")),
        ([0, 1], RandomForestClassifier(), None, Target("binary", (0, 1), 1)),
        ([0, 1], LGBMClassifier(), 0, Target("binary", (0, 1), 0)),
        ([1, 2], CLASSIFIER, 2, Target("binary", (1, 2), 2)),
        ([True, False], CLASSIFIER, None, Target("binary", (False, True), True)),
        ([True, False], CLASSIFIER, False, Target("binary", (False, True), False)),
        ([2, 0, 1], CLASSIFIER, None, Target("multiclass", (0, 1, 2))),
        (["b", "a", "c"], make_pipeline(StandardScaler(), CLASSIFIER), None,
         Target("multiclass", ("a", "b", "c"))),
        ([1.5, 2.0], REGRESSOR, None, Target("regression")),
        ([1, 2, 3], RandomForestRegressor(), None, Target("regression")),
    ],
)  # fmt: skip
def test_what_an_estimator_learns(
    labels: list[Any], estimator: Any, positive: Any, expected: Target
) -> None:
    found = target_of(array(labels), estimator, positive)
    assert found == expected
    assert task_of(array(labels), estimator, positive) == expected.task
    if expected.classes:
        assert [type(value) for value in found.classes or ()] == [type(v) for v in expected.classes]
        assert type(found.positive) is type(expected.positive)


@pytest.mark.parametrize(
    ("labels", "estimator", "positive", "field", "message", "fix"),
    [
        (["No", "Yes"], CLASSIFIER, None, "positive", "need a positive one",
         "positive='Yes' or positive='No'"),
        ([1, 2], CLASSIFIER, None, "positive", "need a positive one", "positive=2 or positive=1"),
        (["No", "Yes"], CLASSIFIER, "yes", "positive", "Did you mean Yes", "positive='Yes'"),
        ([0, 1], CLASSIFIER, "1", "positive", "no label is '1'", "positive=1"),
        ([0, 1], CLASSIFIER, 2, "positive", "no label is 2", "positive=1"),
        (["a", "b", "c"], CLASSIFIER, "a", "positive", "the labels have 3", "Drop"),
        ([1.5, 2.5], REGRESSOR, 2, "positive", "for classifiers", "Drop"),
        (["1", "x2", "3"], REGRESSOR, None, "estimator", "one is 'x2'", "classifier"),
        ([True, False], REGRESSOR, None, "estimator", "not numbers", "classifier"),
        ([1.0, 2.5], CLASSIFIER, None, "estimator", "numbers such as 2.5", "regressor"),
        ([1, 0], IsolationForest(), None, "estimator", "neither", "HistGradientBoosting"),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_the_field_and_the_fix(
    labels: list[Any], estimator: Any, positive: Any, field: str, message: str, fix: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        target_of(array(labels), estimator, positive)
    assert caught.value.field == field
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
def test_one_label_only_teaches_nothing(estimator: Any) -> None:
    with pytest.raises(DataError, match="every label is 1"):
        target_of(np.array([1, 1]), estimator)
