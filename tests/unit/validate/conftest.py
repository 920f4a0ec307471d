"""Small candidates around real scikit-learn models, and a real HTTP server that answers for them."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import steelyard as sy
from steelyard.core.answers import class_keys
from steelyard.core.fields import NULL_STRING
from steelyard.core.validation import RowDecoder
from steelyard.features.columns import columns_of
from steelyard.features.parts import Columns, Part, Scores, Task
from steelyard.validate.candidate import Address, Candidate

Predict = Callable[[Columns], Scores]
Labels = npt.NDArray[Any]


class Customer(sy.Row):
    tenure: int = sy.Field(ge=0, le=100)
    charge: float = sy.Field(gt=0, le=500)
    total: float | None = None
    plan: Literal["basic", "plus", "pro"]
    city: str | None = sy.Field(None, max_length=300)
    since: date
    active: bool


MODEL_FEATURES = ("tenure", "charge", "total", "plan", "city", "active")


def customers(rows: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return columns of made-up customers in the column representation."""
    rng = np.random.default_rng(seed)
    cities = np.array([f"city {i}" for i in range(12)] + [NULL_STRING], dtype=object)
    return {
        "tenure": rng.integers(0, 101, rows),
        "charge": np.round(rng.uniform(1, 500, rows), 2),
        "total": np.where(rng.random(rows) < 0.1, np.nan, rng.uniform(0, 1e4, rows)),
        "plan": rng.choice(np.array(["basic", "plus", "pro"], dtype=object), rows),
        "city": rng.choice(cities, rows),
        "since": rng.integers(10_000, 20_000, rows),
        "active": rng.random(rows) < 0.5,
    }


def signal(columns: Columns) -> npt.NDArray[np.float64]:
    """Return what the labels depend on: a nonlinear score around zero."""
    plan = np.select([columns["plan"] == "basic", columns["plan"] == "plus"], [1.0, 0.0], -1.0)
    return np.asarray(2.0 * (columns["tenure"] < 30) - 1.0 + plan + (columns["charge"] - 250) / 250)


def labels(columns: Columns, task: Task, seed: int = 1) -> Labels:
    """Return labels that columns explain in part."""
    rng = np.random.default_rng(seed)
    score = signal(columns)
    if task == "regression":
        return np.asarray(3.0 * score + rng.normal(size=len(score)))
    if task == "multiclass":
        noisy = score + rng.normal(scale=0.7, size=len(score))
        return np.array([3, 5, 8])[np.searchsorted([-0.7, 0.9], noisy)]
    chance = 1 / (1 + np.exp(-2 * score))
    return np.where(rng.random(len(score)) < chance, "yes", "no").astype(object)


def matrix(columns: Columns) -> npt.NDArray[np.float64]:
    """Return the numbers that the models of these tests see."""
    plan = [["basic", "plus", "pro"].index(value) for value in columns["plan"].tolist()]
    city = [len(value) for value in columns["city"].tolist()]
    total = np.clip(np.nan_to_num(columns["total"], nan=-1.0), -1e9, 1e9)
    return np.column_stack(
        [columns["tenure"], columns["charge"], total, plan, city, columns["active"]]
    ).astype(np.float64)


def predictor(estimator: Any, classes: tuple[Any, ...] | None, threshold: float = 0.5) -> Predict:
    """Return a fitted scikit-learn model as a way to answer columns."""

    def predict(columns: Columns) -> Scores:
        if classes is None:
            return Scores(np.asarray(estimator.predict(matrix(columns))), None, None)
        table = np.asarray(estimator.predict_proba(matrix(columns)))
        names = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
        best = table.argmax(axis=1)
        if len(classes) == 2:
            best = (table[:, 1] >= threshold).astype(np.int64)
        return Scores(names[best], table, classes)

    return predict


@dataclass(frozen=True)
class Served:
    """A predictor behind HTTP, with a change to its answers where a test plants one."""

    definition: sy.Model
    predict: Predict
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @contextmanager
    def __call__(self) -> Iterator[Address]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield Address(f"http://127.0.0.1:{server.server_port}", self.definition.name)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answers(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fields = self.definition.fields
        decoder = RowDecoder(fields, allow_unknown=False)
        scores = self.predict(columns_of(fields, [decoder.check_one(row) for row in rows]))
        found = []
        for i, prediction in enumerate(scores.prediction.tolist()):
            document: dict[str, Any] = {"prediction": prediction, "source": "model"}
            if scores.probabilities is not None and scores.classes is not None:
                line = scores.probabilities[i].tolist()
                document["probabilities"] = dict(zip(class_keys(scores.classes), line, strict=True))
            found.append(self.change(document))
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = self.path == f"/predict/{served.definition.name}"
                answer: Any = {"errors": [{"field": "model"}]}
                if known and "rows" in body:
                    answer = {"predictions": served.answers(body["rows"])}
                elif known:
                    answer = served.answers([body])[0]
                data = json.dumps(answer).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *told: Any) -> None:
                pass

        return Handler


class MakeCandidate:
    """Builds candidates; a change is a field of the candidate, or of its definition."""

    def __call__(
        self,
        task: Task = "binary",
        *,
        rows: int = 1500,
        gates: tuple[Any, ...] = (),
        columns: Mapping[str, npt.NDArray[Any]] | None = None,
        label: Labels | None = None,
        test: int = 500,
        definition: Mapping[str, Any] | None = None,
    ) -> Candidate:
        table = dict(columns) if columns is not None else customers(rows)
        truth = labels(table, task) if label is None else label
        rows = len(truth)
        extra = {name: table.pop(name) for name in list(table) if name not in Customer.model_fields}
        whole = Part(np.arange(rows), table, truth, {n: table[n] for n in MODEL_FEATURES} | extra)
        train, held_out = (
            whole.take(np.arange(rows - test)),
            whole.take(np.arange(rows - test, rows)),
        )
        classes = None if task == "regression" else tuple(sorted(set(truth.tolist())))
        kind = DecisionTreeRegressor if classes is None else DecisionTreeClassifier
        estimator = kind(max_depth=6, min_samples_leaf=12, random_state=0)
        estimator.fit(matrix(table)[: rows - test], truth[: rows - test].tolist())
        given: dict[str, Any] = {
            "name": "churn",
            "row": Customer,
            "data": sy.Csv("customers.csv"),
            "label": "left",
            "positive": "yes" if task == "binary" else None,
            "estimator": estimator,
            # The server of these tests is no quick one.
            "gates": (sy.Latency(p99_ms=500), *gates),
        }
        model = sy.Model(**given | dict(definition or {}))
        predict = predictor(estimator, classes)
        return Candidate(
            definition=model,
            task=task,
            counts={
                "rows_in": rows, "good": rows, "bad": 0, "label_null": 0, "faults": [],
                "bad_file": None,
            },
            train=train,
            test=held_out,
            scores=predict(held_out.columns),
            model_features=(*MODEL_FEATURES, *extra),
            bundle="ab" * 32,
            provenance="cd" * 32,
            canonical=predict,
            packed=predict,
            reference=predict,
            server=Served(model, predict),
        )  # fmt: skip


@pytest.fixture(scope="session")
def make() -> MakeCandidate:
    """Return a builder of candidates."""
    return MakeCandidate()


@pytest.fixture(scope="session")
def good(make: MakeCandidate) -> Candidate:
    """Return a candidate without a sin."""
    return make()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Callable[[], AbstractContextManager[Address]]]:
    """Return a way to put a predictor behind HTTP: definition, predict, change of an answer."""
    return Served


@pytest.fixture(scope="session")
def retold() -> Callable[[Predict, Callable[[Scores, Columns], Scores]], Predict]:
    """Return a way to plant a fault: a predictor whose answers a function changes."""

    def change(predict: Predict, how: Callable[[Scores, Columns], Scores]) -> Predict:
        return lambda columns: how(predict(columns), columns)

    return change


@pytest.fixture(scope="session")
def with_part() -> Callable[..., Candidate]:
    """Return a candidate with fields of its train or test part changed."""

    def change(candidate: Candidate, part: Literal["train", "test"], **changes: Any) -> Candidate:
        changed = replace(getattr(candidate, part), **changes)
        return replace(candidate, **{part: changed})

    return change
