"""Fitting: classes in order, the user's own pipeline, weights, and the same result twice."""

from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
from lightgbm import LGBMClassifier
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import steelyard as sy
from steelyard.bundle.graph import canonical_graph, packed_graph
from steelyard.bundle.packing import Packer
from steelyard.core.fields import NULL_STRING
from steelyard.errors import CompileError
from steelyard.features.parts import Part
from steelyard.features.trace import trace
from steelyard.train import fit


class Customer(sy.Row):
    spend: float
    visits: int
    city: str | None
    plan: Literal["x", "y"]


@sy.row_features(Customer)
def per_visit(xp: Any, c: Any) -> dict[str, Any]:
    return {"per_visit": c.spend / xp.maximum(c.visits, 1)}


def columns(rows: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    cities = np.array(["a", "b", "c", NULL_STRING], dtype=object)
    if seed:
        cities[0] = "never seen"
    return {
        "spend": rng.lognormal(2, 1, rows),
        "visits": rng.integers(0, 20, rows),
        "city": rng.choice(cities, rows),
        "plan": rng.choice(np.array(["x", "y"], dtype=object), rows),
    }


TRAIN, TEST = columns(1200, 0), columns(300, 1)
LABEL = np.array(["no", "yes"], dtype=object)[
    ((TRAIN["spend"] > 8) ^ (np.random.default_rng(5).random(1200) < 0.1)).astype(int)
]
GRAPH = trace(per_visit, sy.Model(
    name="m", row=Customer, data=sy.Csv("t"), label="y", estimator=LogisticRegression()
).fields)  # fmt: skip


def featured(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | GRAPH.run(raw)


def fitted(estimator: Any, weight: Any = None) -> tuple[sy.Model, Any]:
    model = sy.Model(
        name="m", row=Customer, data=sy.Csv("t"), label="y", estimator=estimator,
        features=per_visit,
    )  # fmt: skip
    part = Part(np.arange(1200), TRAIN, LABEL, featured(TRAIN), weight=weight)
    return model, fit(model, part, GRAPH, "binary", "yes")


def answers(model: sy.Model, made: Any) -> Any:
    packed, packing = packed_graph(made.recipe)
    session = onnxruntime.InferenceSession(packed.SerializeToString())
    return session.run(None, Packer(packing, model.fields).pack_columns(TEST))[0]


def own_pipeline(estimator: Any) -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["spend", "visits", "per_visit"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
        ]
    )
    return Pipeline([("columns", columns), ("model", estimator)])


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), RandomForestClassifier(10), LGBMClassifier(n_estimators=10)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_users_own_pipeline_answers_as_it_does_in_memory(estimator: Any) -> None:
    model, made = fitted(own_pipeline(estimator))
    expected = made.reference(featured(TEST)).probabilities
    np.testing.assert_allclose(answers(model, made), expected, rtol=1e-9, atol=1e-12)
    canonical = onnxruntime.InferenceSession(canonical_graph(made.recipe).SerializeToString())
    names = [found.name for found in canonical.get_inputs()]
    np.testing.assert_array_equal(
        canonical.run(None, {name: TEST[name] for name in names})[1], answers(model, made)
    )


@pytest.mark.parametrize(
    ("estimator", "part"),
    [
        (Pipeline([("scale", PCA()), ("model", LogisticRegression())]), "PCA"),
        (own_pipeline(KMeans()), "KMeans"),
        (KMeans(), "KMeans"),
    ],
)
def test_what_has_no_faithful_form_is_refused_by_name_before_fitting(
    estimator: Any, part: str
) -> None:
    with pytest.raises(CompileError, match=part):
        fitted(estimator)


def test_class_weights_name_labels_and_the_positive_class_comes_last() -> None:
    plain = fitted(LogisticRegression())
    weighted = fitted(LogisticRegression(class_weight={"yes": 20.0, "no": 1.0}))
    assert plain[1].recipe.classes == ("no", "yes")
    assert answers(*weighted)[:, 1].mean() > answers(*plain)[:, 1].mean() + 0.1


def test_row_weights_count() -> None:
    weight = np.where(LABEL == "yes", 20.0, 1.0)
    assert answers(*fitted(LogisticRegression(), weight))[:, 1].mean() > 0.7
    pipeline = fitted(own_pipeline(LogisticRegression()), weight)
    assert answers(*pipeline)[:, 1].mean() > 0.7


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(10),
        HistGradientBoostingClassifier(max_iter=10),
        LGBMClassifier(n_estimators=10, subsample=0.5, subsample_freq=1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_same_rows_give_the_same_bits(estimator: Any) -> None:
    first, second = (answers(*fitted(estimator)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_the_definitions_estimator_stays_unfitted() -> None:
    estimator = RandomForestClassifier(5)
    fitted(estimator)
    assert not hasattr(estimator, "classes_")
    assert estimator.random_state is None
