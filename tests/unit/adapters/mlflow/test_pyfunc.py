"""A bundle read by MLflow answers as it answers itself, and is as strict."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.adapters.mlflow.model import describe
from steelyard.adapters.mlflow.pyfunc import _load_pyfunc
from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.ports import RunRecord
from steelyard.core.records import Version
from steelyard.errors import InputError, IntegrityError


def answers_of(table: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in table.itertuples(index=False)]


def test_the_champion_is_loaded_by_its_alias(
    tracker: MlflowTracker,
    mlflow_uri: str,
    churn: Any,
    make_record: Callable[..., RunRecord],
    make_version: Callable[[RunRecord, int], Version],
) -> None:
    import mlflow
    import pandas as pd

    run = make_record("churn", churn)
    version = make_version(run, 1)
    identifier = tracker.record_run(run)
    tracker.record_version(identifier, version)
    tracker.set_alias(version, "champion")
    model = mlflow.pyfunc.load_model("models:/churn@champion")
    assert answers_of(model.predict(churn.rows)) == churn.answers
    assert answers_of(model.predict(pd.DataFrame(churn.rows))) == churn.answers
    assert answers_of(model.predict(churn.rows[0])) == churn.answers[:1]
    columns = {name: [row[name] for row in churn.rows] for name in churn.rows[0]}
    assert answers_of(model.predict(columns)) == churn.answers
    assert list(model.predict(churn.rows).columns) == [
        "prediction", "probability_no", "probability_yes"
    ]  # fmt: skip
    output = mlflow.MlflowClient().get_run(identifier).outputs.model_outputs[0]
    logged = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert answers_of(logged.predict(churn.rows)) == churn.answers


def test_the_signature_is_the_row(churn: Any) -> None:
    import mlflow

    describe(churn.folder, churn.digest)
    signature = mlflow.pyfunc.load_model(str(churn.folder)).metadata.signature
    inputs = {c.name: (c.type.name, c.required) for c in signature.inputs}
    assert inputs == {
        "tenure": ("long", True),
        "age": ("long", False),
        "charge": ("double", True),
        "total": ("double", True),
        "paperless": ("boolean", True),
        "partner": ("boolean", False),
        "contract": ("string", True),
        "method": ("string", False),
        "since": ("datetime", True),
        "seen": ("datetime", False),
        "joined": ("datetime", True),
    }
    outputs = [(c.name, c.type.name) for c in signature.outputs]
    assert outputs == [
        ("prediction", "string"), ("probability_no", "double"), ("probability_yes", "double"),
    ]  # fmt: skip


@pytest.mark.parametrize("task", ["grade", "price"])
def test_every_task(task: str, request: pytest.FixtureRequest) -> None:
    import mlflow
    import pandas as pd

    sealed = request.getfixturevalue(task)
    describe(sealed.folder, sealed.digest)
    model = mlflow.pyfunc.load_model(str(sealed.folder))
    found = model.predict(pd.DataFrame(sealed.rows, index=range(100, 160)))
    assert answers_of(found) == sealed.answers
    assert list(found.index) == list(range(100, 160))
    kinds = {column.name: column.type.to_numpy() for column in model.metadata.signature.outputs}
    assert {name: found[name].dtype for name in found} == kinds


def test_what_pandas_makes_of_values_is_understood(churn: Any) -> None:
    import pandas as pd

    model = _load_pyfunc(str(churn.folder))
    row = {
        "tenure": 3, "age": None, "charge": 20.0, "total": None, "paperless": True,
        "partner": None, "contract": "year", "method": None, "since": "2020-01-05",
        "seen": "2021-01-06T05:00:00", "joined": "2021-01-01T04:00:00Z",
    }  # fmt: skip
    wanted = answers_of(model.predict(row))
    table = pd.DataFrame([row])
    changes = [
        table.assign(note="another column"),
        table.assign(tenure=np.float64(3)),
        table.assign(charge=20),
        table.assign(charge=np.float32(20)),
        table.assign(age=np.nan, total=np.nan, partner=pd.NA, method=np.nan),
        table.astype({"age": "Int64", "partner": "boolean", "method": "string"}),
        table.astype({"contract": "category"}),
        table.assign(since=pd.Timestamp("2020-01-05"), seen=pd.Timestamp("2021-01-06 05:00")),
        table.assign(since=date(2020, 1, 5), joined=pd.Timestamp("2021-01-01 05:00+01:00")),
        table.drop(columns=["age", "partner", "method"]),
    ]
    for changed in changes:
        assert answers_of(model.predict(changed)) == wanted
    scalars = {**row, "tenure": np.int64(3), "charge": np.float64(20), "paperless": np.True_}
    native = {"since": date(2020, 1, 5), "joined": datetime(2021, 1, 1, 4, tzinfo=UTC)}
    assert answers_of(model.predict({**scalars, **native})) == wanted


def test_no_rows_are_no_answers(churn: Any, price: Any) -> None:
    import pandas as pd

    for sealed in (churn, price):
        model = _load_pyfunc(str(sealed.folder))
        assert answers_of(model.predict([])) == []
        empty = model.predict(pd.DataFrame(columns=list(sealed.rows[0])))
        assert len(empty) == 0
        assert list(empty.columns) == list(model.predict(sealed.rows[:1]).columns)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"charge": "5"}, "charge"),
        ({"charge": True}, "charge"),
        ({"charge": float("nan")}, "charge"),
        ({"total": float("nan")}, "total"),
        ({"tenure": 2.5}, "tenure"),
        ({"tenure": np.int64(2), "paperless": 1}, "paperless"),
        ({"contract": "week"}, "contract"),
        ({"since": datetime(2020, 1, 5, 7)}, "since"),
        ({"seen": "2021-01-06T05:00:00Z"}, "seen"),
        ({"joined": "2021-01-06T05:00:00"}, "joined"),
        ({"extra": 1}, "extra"),
    ],
)
def test_bad_input_is_refused_by_its_field(churn: Any, changes: dict[str, Any], field: str) -> None:
    import mlflow

    describe(churn.folder, churn.digest)
    model = mlflow.pyfunc.load_model(str(churn.folder))
    bad = {**churn.rows[0], **changes}
    with pytest.raises(InputError) as one:
        model.predict(bad)
    assert [error["field"] for error in one.value.errors] == [field]
    with pytest.raises(InputError) as several:
        model.predict([churn.rows[1], bad])
    assert [error["field"] for error in several.value.errors] == [f"rows.1.{field}"]


def test_a_table_is_checked_row_by_row(churn: Any) -> None:
    import pandas as pd

    model = _load_pyfunc(str(churn.folder))
    table = pd.DataFrame(churn.rows[:3])
    table["charge"] = ["x", 5.0, None]
    with pytest.raises(InputError) as caught:
        model.predict(table)
    assert [error["field"] for error in caught.value.errors] == ["rows.0.charge", "rows.2.charge"]
    with pytest.raises(InputError) as caught:
        model.predict(pd.DataFrame({"other": [1, 2]}))
    assert {error["field"].split(".")[1] for error in caught.value.errors} == {"0", "1"}


@pytest.mark.parametrize("given", ["text", 5, None, [1, 2], [{}, 3]])
def test_what_is_no_row_is_refused(churn: Any, given: Any) -> None:
    with pytest.raises(InputError):
        _load_pyfunc(str(churn.folder)).predict(given)


def test_columns_have_one_length(churn: Any) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in churn.rows[0].items()}
    columns["charge"] = [1.0, 2.0]
    with pytest.raises(InputError, match="one length"):
        _load_pyfunc(str(churn.folder)).predict(columns)


def test_params_are_refused(churn: Any) -> None:
    with pytest.raises(InputError, match="threshold"):
        _load_pyfunc(str(churn.folder)).predict(churn.rows, params={"threshold": 0.3})


def test_a_changed_bundle_is_not_loaded(churn: Any, tmp_path: Path) -> None:
    import mlflow

    for path in churn.folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    describe(tmp_path, churn.digest)
    graph = bytearray((tmp_path / "packed.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / "packed.onnx").write_bytes(graph)
    with pytest.raises(IntegrityError, match=r"packed\.onnx"):
        mlflow.pyfunc.load_model(str(tmp_path))
