"""A bundle loads only where it answers its golden rows, and answers alike by row and by column."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.bundle.baseline import baseline
from steelyard.bundle.compile import compile_bundle, seal_bundle
from steelyard.bundle.format import seal
from steelyard.bundle.predictor import Canonical, Predictor
from steelyard.core.fields import NULL_STRING
from steelyard.errors import IntegrityError
from steelyard.features.columns import json_rows
from steelyard.features.parts import Part
from steelyard.train import fit


class Sale(sy.Row):
    price: float
    city: str | None
    plan: Literal["x", "y"]


def columns(rows: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    cities = np.array(["a", "b", "", "é", NULL_STRING], dtype=object)
    return {
        "price": rng.normal(0, 10, rows),
        "city": rng.choice(cities, rows),
        "plan": rng.choice(np.array(["x", "y"], dtype=object), rows),
    }


TRAIN, TEST = columns(600, 0), columns(50, 1)
LABELS = {
    "binary": np.array([3, 7])[(TRAIN["price"] + 5 * (TRAIN["plan"] == "x") > 0).astype(int)],
    "regression": TRAIN["price"] * 2 + 1,
}


def files(task: Any, threshold: float = 0.5) -> tuple[sy.Model, dict[str, bytes]]:
    estimator = Ridge() if task == "regression" else RandomForestClassifier(10)
    model = sy.Model(
        name="m", row=Sale, data=sy.Csv("t"), label="y", estimator=estimator, threshold=threshold
    )
    part = Part(np.arange(600), TRAIN, LABELS[task], dict(TRAIN))
    fitted = fit(model, part, None, task, 3)
    return model, compile_bundle(model, fitted.recipe, json_rows(model.fields, TEST))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_rows_columns_and_both_graphs_answer_alike(tmp_path: Path, task: str) -> None:
    model, made = files(task)
    digest, folder = seal_bundle(made, {}, tmp_path)
    predictor = Predictor.load(folder, expected=digest)
    rows = [predictor.decoder.check_one(row) for row in json_rows(model.fields, TEST)]
    by_row = predictor.predict_many(rows)
    assert [predictor.predict_one(row) for row in rows] == by_row
    scores, twin = predictor.predict_columns(TEST), Canonical(folder).predict_columns(TEST)
    assert scores.prediction.tolist() == twin.prediction.tolist() == [p for p, _ in by_row]
    if task == "binary":
        assert predictor.classes == (7, 3)
        assert scores.probabilities is not None
        assert scores.probabilities.tolist() == [s for _, s in by_row]
    train, test = predictor.predict_columns(TRAIN), predictor.predict_columns(TEST)
    profile = baseline(TRAIN, predictor.features, train, test)
    assert profile["answers"]["count"] == len(rows)
    assert profile["features"]["city"]["nulls"] == int((TRAIN["city"] == NULL_STRING).sum())
    assert sum(profile["features"]["price"]["counts"]) == 600


def test_the_threshold_decides_and_is_sealed(tmp_path: Path) -> None:
    answers = {}
    for threshold in (0.2, 0.8):
        digest, folder = seal_bundle(files("binary", threshold)[1], {}, tmp_path)
        scores = Predictor.load(folder).predict_columns(TEST)
        assert scores.probabilities is not None
        expected = np.where(scores.probabilities[:, 1] >= threshold, 3, 7)
        assert scores.prediction.tolist() == expected.tolist()
        answers[digest] = scores.prediction.tolist()
    assert len(answers) == 2


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_golden_row_that_is_answered_otherwise_stops_the_load(tmp_path: Path, task: str) -> None:
    made = files(task)[1]
    lines = [json.loads(line) for line in made["golden.jsonl"].splitlines()]
    if task == "binary":
        lines[3]["probabilities"] = [p + 1e-3 for p in lines[3]["probabilities"]]
    else:
        lines[3]["prediction"] += 1e-3 * max(1, abs(lines[3]["prediction"]))
    made["golden.jsonl"] = "\n".join(json.dumps(line) for line in lines).encode()
    _, folder = seal({**made, "baseline.json": b"{}"}, tmp_path)
    with pytest.raises(IntegrityError, match=r"golden\.jsonl .* row 4"):
        Predictor.load(folder)


def test_a_bundle_holds_no_code() -> None:
    for name, data in files("binary")[1].items():
        assert Path(name).suffix in {".onnx", ".json", ".jsonl"}
        assert b"\x80\x04" not in data[:2]  # how a pickle begins
