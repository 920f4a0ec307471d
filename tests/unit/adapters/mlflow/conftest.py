"""Real bundles, small, and an embedded tracker over a store that holds them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import steelyard as sy
from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.bundle.compile import compile_bundle, seal_bundle
from steelyard.bundle.predictor import Predictor
from steelyard.core.hashing import hash_bytes
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Verdict, Version
from steelyard.features.columns import columns_of, json_rows
from steelyard.features.parts import Part
from steelyard.features.trace import trace
from steelyard.train import fit

_ROWS = 60


class Customer(sy.Row):
    tenure: int
    age: int | None = None
    charge: float
    total: float | None
    paperless: bool
    partner: bool | None = None
    contract: Literal["month", "year"]
    method: str | None = None
    since: date
    seen: datetime | None = None
    joined: pydantic.AwareDatetime


@sy.row_features(Customer)
def features(xp: Any, c: Any) -> dict[str, Any]:
    return {
        "per_month": c.charge / xp.maximum(c.tenure, 1),
        "days": xp.days_between(c.seen, c.since),
        "hour": xp.hour(c.joined),
    }


def _customers() -> list[tuple[Any, ...]]:
    random = np.random.default_rng(0)
    tenures, charges = random.integers(0, 50, _ROWS), random.uniform(10, 90, _ROWS)
    return [
        (
            int(tenure),
            None if i % 7 == 0 else int(tenure) + 20,
            float(charge),
            None if i % 5 == 0 else float(charge * tenure),
            i % 2 == 0,
            None if i % 3 == 0 else i % 4 == 0,
            ("month", "year")[i % 2],
            (None, "card", "cheque")[i % 3],
            date(2020, 1, 1) + timedelta(days=i),
            None if i % 11 == 0 else datetime(2021, 1, 1, 5) + timedelta(days=i),
            datetime(2021, 1, 1, i % 24, tzinfo=UTC),
        )
        for i, (tenure, charge) in enumerate(zip(tenures, charges, strict=True))
    ]


@dataclass(frozen=True)
class Sealed:
    """A bundle in a store's folder, with rows and what it answers to them."""

    digest: str
    folder: Path
    rows: list[dict[str, Any]]
    answers: list[tuple[Any, ...]]


def _seal(name: str, estimator: Any, labels: Sequence[Any], positive: Any, parent: Path) -> Sealed:
    definition = sy.Model(
        name=name, row=Customer, features=features, data=sy.Csv("customers.csv"), label="label",
        estimator=estimator, positive=positive,
    )  # fmt: skip
    columns = columns_of(definition.fields, _customers())
    graph = trace(features, definition.fields)
    raw = {field.name: columns[field.name] for field in definition.fields if not field.temporal}
    kind = {str: object, bool: np.bool_, int: np.int64, float: np.float64}[type(labels[0])]
    label = np.array(labels, dtype=kind)
    part = Part(np.arange(_ROWS), columns, label, raw | graph.run(columns))
    task = "regression" if isinstance(labels[0], float) else "binary"
    task = "multiclass" if task == "binary" and len(set(labels)) > 2 else task
    fitted = fit(definition, part, graph, task, positive)
    rows = json_rows(definition.fields, columns)
    digest, folder = seal_bundle(compile_bundle(definition, fitted.recipe, rows[:10]), {}, parent)
    predictor = Predictor.load(folder)
    checked = [predictor.decoder.check_one(row) for row in rows]
    answers = [(label, *(scores or [])) for label, scores in predictor.predict_many(checked)]
    return Sealed(digest, folder, rows, answers)


@pytest.fixture(autouse=True)
def vendors_quiet() -> None:
    """MLflow and what it stands on warn about each other when tests call them directly."""
    warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)(\.|$)")


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose path wants quoting in a URI."""
    return tmp_path_factory.mktemp("a state") / "größe #1"


@pytest.fixture(scope="session")
def churn(state: Path) -> Sealed:
    labels = ["yes" if (tenure < 20) ^ (i % 9 == 0) else "no" for i, (tenure, *_) in
              enumerate(_customers())]  # fmt: skip
    return _seal("churn", LogisticRegression(), labels, "yes", state / "store" / "bundles")


@pytest.fixture(scope="session")
def grade(state: Path) -> Sealed:
    labels = [i % 3 for i in range(_ROWS)]
    return _seal("grade", LogisticRegression(), labels, None, state / "store" / "bundles")


@pytest.fixture(scope="session")
def price(state: Path) -> Sealed:
    labels = [charge * 2 for _, _, charge, *_ in _customers()]
    return _seal("price", Ridge(), labels, None, state / "store" / "bundles")


@pytest.fixture(scope="session")
def uri(state: Path) -> str:
    return f"sqlite:///{state}/mlflow/mlflow.db"


@pytest.fixture
def tracker(uri: str, state: Path) -> MlflowTracker:
    return MlflowTracker(uri, artifacts=state / "mlflow" / "artifacts")


@pytest.fixture
def mlflow_uri(uri: str) -> Iterator[str]:
    """Point MLflow's global functions at the embedded tracker, as a user does."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)


def record_of(model: str, sealed: Sealed, *checks: Check) -> RunRecord:
    return RunRecord(
        model=model,
        params={"max_depth": 5, "solver": "lbfgs"},
        metrics={"roc_auc": 0.9, "f1 [contract=year]": 0.5},
        tags={"snapshot": "s" * 64, "code": "c" * 64},
        verdict=Verdict(sealed.digest, hash_bytes(b"provenance"), checks),
        bundle=sealed.folder,
        plots={"roc": b"\x89PNG roc"},
        documents={"card.md": b"# Churn", "definition/churn.py": b"churn = 1\n"},
    )


def version_of(run: RunRecord, number: int) -> Version:
    verdict = run.verdict
    return Version(
        run.model, number, verdict.bundle, verdict.provenance, verdict.hash, verdict.passed,
        at="2026-11-24T10:00:00+00:00", by="ana",
    )  # fmt: skip


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    return record_of


@pytest.fixture
def make_version() -> Callable[[RunRecord, int], Version]:
    return version_of
