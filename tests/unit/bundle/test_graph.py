"""Four estimators, three tasks, with and without row features: both graphs answer as the reference.

Rows have nulls and categories that training never saw; bits must not depend on the batch.
"""

from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge

import steelyard as sy
from steelyard.bundle.graph import canonical_graph, packed_graph
from steelyard.bundle.packing import Packer, Packing
from steelyard.core.fields import NULL_STRING
from steelyard.core.schema import row_fields
from steelyard.features.columns import NULL_TIME
from steelyard.features.parts import Part
from steelyard.features.trace import trace
from steelyard.train import fit

Array = npt.NDArray[Any]


class Record(sy.Row):
    amount: float | None
    count: int
    city: str | None
    plan: Literal["x", "y"]
    member: bool
    opted: bool | None
    at: datetime | None
    wide: int


FIELDS = row_fields(Record)


@sy.row_features(Record)
def made(xp: Any, c: Any) -> dict[str, Any]:
    return {
        "per_count": c.amount / xp.maximum(c.count, 1),
        "from_k1": c.city == "k1",
        "hour": xp.hour(c.at),
        "count": c.count * 2,
        "city_again": c.city,
        "log_amount": xp.log1p(xp.abs(c.amount)),
        "third": c.wide // 3,
    }


def columns(rows: int, seed: int, unseen: float = 0.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)

    def some(share: float) -> Array:
        return rng.random(rows) < share

    amount = rng.lognormal(0, 2, rows)
    amount[some(0.1)] = np.nan
    city = np.array([f"k{i}" for i in rng.integers(0, 300, rows)], dtype=object)
    city[some(0.1)] = NULL_STRING
    city[some(unseen)] = "never seen"
    opted = rng.integers(0, 2, rows).astype(float)
    opted[some(0.2)] = np.nan
    at = rng.integers(0, 10**15, rows)
    at[some(0.1)] = NULL_TIME
    return {
        "amount": amount,
        "count": rng.integers(0, 100, rows),
        "city": city,
        "plan": rng.choice(np.array(["x", "y"], dtype=object), rows),
        "member": some(0.3),
        "opted": opted,
        "at": at,
        "wide": rng.integers(-(2**62), 2**62, rows),
    }


TRAIN, TEST = columns(3000, 0), columns(800, 1, unseen=0.1)
SIGNAL = (
    np.nan_to_num(np.log(TRAIN["amount"]))
    + TRAIN["member"] * 2
    + (TRAIN["plan"] == "x")
    + np.random.default_rng(2).normal(0, 1, 3000)
)
LABELS = {
    "binary": np.array(["a no", "z yes"], dtype=object)[(SIGNAL > 1).astype(int)],
    "multiclass": np.digitize(SIGNAL, [0, 2]),
    "regression": SIGNAL,
}
CASES = [
    ("binary", LogisticRegression(max_iter=200)),
    ("binary", RandomForestClassifier(20)),
    ("binary", HistGradientBoostingClassifier(max_iter=20)),
    ("binary", LGBMClassifier(n_estimators=20)),
    ("multiclass", LogisticRegression(max_iter=200, class_weight={0: 2.0, 1: 1.0, 2: 1.0})),
    ("multiclass", RandomForestClassifier(10, max_depth=8)),
    ("multiclass", HistGradientBoostingClassifier(max_iter=10)),
    ("multiclass", LGBMClassifier(n_estimators=10)),
    ("regression", Ridge()),
    ("regression", RandomForestRegressor(10, max_depth=9)),
    ("regression", HistGradientBoostingRegressor(max_iter=20)),
    ("regression", LGBMRegressor(n_estimators=20)),
]


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.mark.parametrize("features", [None, made], ids=["raw", "features"])
@pytest.mark.parametrize(
    ("task", "estimator"),
    CASES,
    ids=lambda v: getattr(v, "__class__", v).__name__ if not isinstance(v, str) else v,
)
def test_both_graphs_answer_as_the_reference(task: Any, estimator: Any, features: Any) -> None:
    model = sy.Model(
        name="m", row=Record, data=sy.Csv("t"), label="y", estimator=estimator, features=features
    )
    graph = trace(features, FIELDS) if features else None

    def featured(raw: dict[str, Array]) -> dict[str, Array]:
        return {n: v for n, v in raw.items() if n != "at"} | (graph.run(raw) if graph else {})

    part = Part(np.arange(3000), TRAIN, LABELS[task], featured(TRAIN))
    fitted = fit(model, part, graph, task, "a no")
    packed, packing = packed_graph(fitted.recipe)
    packed_session, canonical = session(packed), session(canonical_graph(fitted.recipe))

    reference = fitted.reference(featured(TEST))
    expected = (
        reference.prediction[:, None]
        if reference.probabilities is None
        else reference.probabilities
    )
    feeds = Packer(packing, FIELDS).pack_columns(TEST)
    scores = packed_session.run(None, feeds)[0]
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)

    names = [found.name for found in canonical.get_inputs()]
    assert names == [field.name for field in FIELDS]
    answers = canonical.run(None, {name: TEST[name] for name in names})
    assert canonical.get_outputs()[0].name == "prediction"
    if task == "regression":
        assert answers[0].tobytes() == scores.tobytes()
    else:
        assert answers[1].tobytes() == scores.tobytes()
        sure = np.ptp(np.sort(expected, axis=1)[:, -2:], axis=1) > 1e-6
        assert (answers[0] == reference.prediction)[sure].all()
    if task == "binary":
        assert fitted.recipe.classes == ("z yes", "a no")

    for n in (1, 2, 3, 8):
        for start in range(60):
            part_feeds = {name: values[start : start + n] for name, values in feeds.items()}
            assert (
                packed_session.run(None, part_feeds)[0].tobytes()
                == scores[start : start + n].tobytes()
            )


def test_rows_and_columns_pack_alike() -> None:
    from steelyard.features.columns import from_wire

    model = sy.Model(
        name="m", row=Record, data=sy.Csv("t"), label="y", estimator=Ridge(), features=made
    )
    graph = trace(made, FIELDS)
    part = Part(
        np.arange(3000), TRAIN, LABELS["regression"],
        {n: v for n, v in TRAIN.items() if n != "at"} | graph.run(TRAIN),
    )  # fmt: skip
    _, packing = packed_graph(fit(model, part, graph, "regression", None).recipe)
    packer = Packer(Packing.of(packing.document()), FIELDS)
    rows = list(
        zip(*[[from_wire(f, v) for v in TEST[f.name].tolist()] for f in FIELDS], strict=True)
    )
    by_row, by_column = packer.pack_many(rows), packer.pack_columns(TEST)
    assert by_row.keys() == by_column.keys() == {"numbers", "integers", "strings"}
    for name, values in by_row.items():
        np.testing.assert_array_equal(values, by_column[name])
