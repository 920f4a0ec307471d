"""`Model` refuses what cannot work, and `param` what cannot be set."""

from typing import Any

import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.core.definition import params_set
from steelyard.errors import DefinitionError, UsageError


class Customer(sy.Row):
    tenure: int
    plan: str


def model(**changes: Any) -> sy.Model:
    given: dict[str, Any] = {
        "name": "churn",
        "row": Customer,
        "data": sy.Csv("t.csv"),
        "label": "left",
        "estimator": Ridge(),
    }
    return sy.Model(**given | changes)


def test_the_columns_are_all_that_the_table_must_have() -> None:
    made = model(key="id", weight="w", split=sy.TimeSplit(time="at", test="3d"))
    assert made.columns == {"tenure", "plan", "left", "id", "w", "at"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "../x"}, "name"),
        ({"row": sy.Row}, "row"),
        ({"row": dict}, "row"),
        ({"data": "t.csv"}, "data"),
        ({"label": "plan"}, "label"),
        ({"split": 0.2}, "split"),
        ({"estimator": Ridge}, "estimator"),
        ({"estimator": "ridge"}, "estimator"),
        ({"threshold": 1.0}, "threshold"),
        ({"max_categories": 2}, "max_categories"),
        ({"features": lambda xp, c: {}}, "features"),
        ({"gates": [0.8]}, "gates"),
    ],
)
def test_a_mistake_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        model(**changes)
    assert caught.value.field == field
    assert caught.value.fix


def test_features_of_another_row_are_refused() -> None:
    class Other(sy.Row):
        x: int

    marked = sy.row_features(Other)(lambda xp, c: {"y": c.x})
    with pytest.raises(DefinitionError, match="another row"):
        model(features=marked)


def test_a_row_of_dates_alone_has_no_feature() -> None:
    from datetime import date

    class Dates(sy.Row):
        on: date

    with pytest.raises(DefinitionError, match="dates are not features"):
        model(row=Dates)


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [(5, "7", 7), (0.5, "1", 1.0), (True, "false", False), ("a", "b", "b")],
)
def test_a_parameter_is_read_as_its_default(default: Any, text: str, value: Any) -> None:
    with params_set({"p": text}) as values:
        assert sy.param("p", default) == value
        assert sy.param("q", 1) == 1
    assert values == {"p": value, "q": 1}
    assert sy.param("p", default) == default


def test_a_parameter_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a value like 5"), params_set({"p": "x"}):
        sy.param("p", 5)
    with pytest.raises(UsageError, match="no such parameter"), params_set({"z": "1"}):
        pass


def test_a_waiver_needs_a_known_gate_and_a_reason() -> None:
    assert sy.waive("latency", reason=" batch only ").reason == "batch only"
    with pytest.raises(DefinitionError, match="no gate"):
        sy.waive("speed", reason="batch only")
    with pytest.raises(DefinitionError, match="needs a reason"):
        sy.waive("latency", reason="")


@pytest.mark.parametrize("given", [{}, {"test": "30d", "start": "2020-01-01"}, {"test": "soon"}])
def test_a_time_split_takes_exactly_one_bound(given: dict[str, str]) -> None:
    with pytest.raises(DefinitionError):
        sy.TimeSplit(time="at", **given)
