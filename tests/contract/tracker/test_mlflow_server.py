"""A server's own copy of a bundle: uploaded once, loaded through its registry."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import steelyard as sy
from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.bundle.compile import compile_bundle, seal_bundle
from steelyard.bundle.predictor import Predictor
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Verdict, Version
from steelyard.features.columns import columns_of, json_rows
from steelyard.features.parts import Part
from steelyard.train import fit


class Customer(sy.Row):
    tenure: int
    charge: float | None = None
    plan: str


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    definition = sy.Model(
        name="churn", row=Customer, data=sy.Csv("x.csv"), label="left", positive="yes",
        estimator=LogisticRegression(),
    )  # fmt: skip
    values = [(i, None if i % 5 == 0 else i / 3, "ab"[i % 2]) for i in range(40)]
    columns = columns_of(definition.fields, values)
    label = np.array(["yes" if i % 7 < 3 else "no" for i in range(40)], dtype=object)
    part = Part(np.arange(40), columns, label, columns)
    fitted = fit(definition, part, None, "binary", "yes")
    rows = json_rows(definition.fields, columns)
    files = compile_bundle(definition, fitted.recipe, rows[:10])
    return seal_bundle(files, {}, tmp_path_factory.mktemp("bundles"))[1]


@pytest.fixture
def mlflow(server: str) -> Iterator[Any]:
    """MLflow's global functions, pointed at the server as a user does."""
    import mlflow

    warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)(\.|$)")
    mlflow.set_tracking_uri(server)
    yield mlflow
    mlflow.set_tracking_uri(None)


def test_one_upload_and_the_same_answers(
    server: str, mlflow: Any, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check = Check("quality", "roc_auc", True)
    verdict = Verdict(bundle.name, "p" * 64, (check,))
    plots = {"roc": b"\x89PNG roc"}
    run = RunRecord("churn", {"C": 1.0}, {"roc_auc": 0.9}, {}, verdict, bundle, plots)
    version = Version("churn", 5, bundle.name, "p" * 64, verdict.hash, True, "now", "ana")
    tracker = MlflowTracker(server, artifacts=None)
    runs = [tracker.record_run(run) for _ in range(2)]
    for identifier in runs:
        tracker.record_version(identifier, version)
    tracker.set_alias(version, "champion")
    assert capfd.readouterr() == ("", "")

    client = mlflow.MlflowClient()
    (found,) = client.search_model_versions("name = 'churn'")
    assert found.tags["steelyard.version"] == "5"
    experiment = client.get_experiment_by_name("churn")
    (logged,) = client.search_logged_models([experiment.experiment_id])
    assert found.source == logged.artifact_location
    assert {client.get_run(r).outputs.model_outputs[0].model_id for r in runs} == {logged.model_id}
    assert Path(client.download_artifacts(runs[1], "plots/roc.png")).read_bytes() == plots["roc"]

    predictor = Predictor.load(bundle)
    rows = [{"tenure": i, "plan": "abc"[i % 3]} for i in range(20)]
    answers = predictor.predict_many([predictor.decoder.check_one(row) for row in rows])
    table = mlflow.pyfunc.load_model("models:/churn@champion").predict(rows)
    loaded = [tuple(line) for line in table.itertuples(index=False)]
    assert loaded == [(label, *(scores or ())) for label, scores in answers]
