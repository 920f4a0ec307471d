"""Fit an estimator on exactly the values that the graph will give it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from steelyard.bundle.estimators import family_of, score_graph
from steelyard.bundle.graph import Recipe, feature_names, prepared_graph
from steelyard.bundle.preparation import Preparation, fit_preparation
from steelyard.core.definition import Model
from steelyard.features.parts import Columns, Part, Scores, Task
from steelyard.features.trace import FeatureGraph
from steelyard.train.pipeline import fit_pipeline

__all__ = ["Fitted", "class_order", "fit"]

_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Fitted:
    """What fitting leaves: the recipe of the graphs, and the reference that parity compares with.

    `reference` answers feature columns in memory by the fitted Python object; it is for parity
    alone, and no metric is computed from it.
    """

    recipe: Recipe
    reference: Callable[[Columns], Scores]
    estimator: Any


def _prepared(recipe: Recipe) -> Callable[[Columns], npt.NDArray[Any]]:
    """Return the function from features [N] to the matrix [N, P], run by the graph itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        prepared_graph(recipe).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [found.name for found in session.get_inputs()]

    def run(features: Columns) -> npt.NDArray[Any]:
        rows = len(next(iter(features.values())))
        parts = []
        for start in range(0, max(rows, 1), _CHUNK):
            feeds = {}
            for name in names:
                column = features[name.removeprefix("feature_")][start : start + _CHUNK]
                feeds[name] = column if column.dtype == object else column.astype(np.float64)
            parts.append(session.run(None, feeds)[0])
        return np.concatenate(parts)

    return run


def class_order(label: npt.NDArray[Any], positive: Any, task: Task) -> tuple[Any, ...] | None:
    """Return the labels in the order of probabilities; the positive one last where there is one."""
    if task == "regression":
        return None
    classes = sorted(set(label.tolist()))
    if task == "binary":
        classes.sort(key=lambda value: value == positive)
    return tuple(classes)


def _seeded(definition: Model, classes: tuple[Any, ...] | None) -> Any:
    """Return a fresh estimator that learns the same from the same rows."""
    estimator = clone(definition.estimator)
    params = estimator.get_params(deep=True)
    changes: dict[str, Any] = {
        name: definition.seed
        for name, value in params.items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    if type(estimator).__module__.startswith("lightgbm"):
        changes |= {"deterministic": True, "force_row_wise": True, "verbose": -1}
    weights = params.get("class_weight")
    if isinstance(weights, Mapping) and classes is not None:
        # The estimator learns codes; weights that name labels follow them.
        changes["class_weight"] = {classes.index(label): w for label, w in weights.items()}
    return estimator.set_params(**changes)


def fit(
    definition: Model, train: Part, features: FeatureGraph | None, task: Task, positive: Any
) -> Fitted:
    """Fit the definition's estimator on the training part.

    Learns the preparation, runs it through its graph, and trains on what came out. Raises
    CompileError for an estimator without a faithful compiled form, before anything is fitted.
    """
    classes = class_order(train.label, positive, task)
    estimator = _seeded(definition, classes)
    if isinstance(estimator, Pipeline):
        target = train.label if classes is None else _codes(train.label, classes)
        recipe = Recipe(definition.fields, features, task, classes, definition.threshold)
        fitted, recipe, reference = fit_pipeline(estimator, recipe, train, target)
        return Fitted(recipe, _as_scores(reference, recipe), fitted)
    family = family_of(estimator)
    raw, made = feature_names(definition.fields, features)
    learned = fit_preparation(
        train.features, (*raw, *made), family.style, definition.max_categories
    )
    recipe = Recipe(
        definition.fields,
        features,
        task,
        classes,
        definition.threshold,
        preparation=learned,
        dtype=family.dtype,
    )
    prepared = _prepared(recipe)
    _fit_estimator(estimator, prepared(train.features), train, classes, learned)
    scored = replace(recipe, score=partial(score_graph, estimator))

    def answer(columns: Columns) -> npt.NDArray[np.float64]:
        return _predict(estimator, prepared(columns), classes)

    return Fitted(scored, _as_scores(answer, scored), estimator)


def _codes(label: npt.NDArray[Any], classes: tuple[Any, ...]) -> npt.NDArray[np.int64]:
    place = {value: i for i, value in enumerate(classes)}
    return np.array([place[value] for value in label.tolist()], dtype=np.int64)


def _fit_estimator(
    estimator: Any,
    matrix: npt.NDArray[Any],
    train: Part,
    classes: tuple[Any, ...] | None,
    learned: Preparation,
) -> None:
    target = train.label.astype(np.float64) if classes is None else _codes(train.label, classes)
    options: dict[str, Any] = {} if train.weight is None else {"sample_weight": train.weight}
    positions = learned.categorical_positions if learned.style == "native" else []
    if positions and "categorical_features" in estimator.get_params():
        estimator.set_params(categorical_features=positions)
    elif positions:
        options["categorical_feature"] = positions
    estimator.fit(matrix, target, **options)


def _predict(
    estimator: Any, matrix: npt.NDArray[Any], classes: tuple[Any, ...] | None
) -> npt.NDArray[np.float64]:
    if classes is None:
        return np.asarray(estimator.predict(matrix), dtype=np.float64).reshape(-1, 1)
    return np.asarray(estimator.predict_proba(matrix), dtype=np.float64)


def _as_scores(
    answer: Callable[[Columns], npt.NDArray[np.float64]], recipe: Recipe
) -> Callable[[Columns], Scores]:
    """Return a function to `Scores` that decides labels as the bundle does."""

    def scores(columns: Columns) -> Scores:
        found = answer(columns)
        if recipe.classes is None:
            return Scores(found[:, 0], None, None)
        labels = np.array(recipe.classes)
        if isinstance(recipe.classes[0], str):
            labels = labels.astype(object)
        index = (
            (found[:, 1] >= recipe.threshold).astype(np.int64)
            if recipe.task == "binary"
            else found.argmax(axis=1)
        )
        return Scores(labels[index], found, recipe.classes)

    return scores
