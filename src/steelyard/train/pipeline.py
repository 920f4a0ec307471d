"""Fit a user's own scikit-learn Pipeline on the features, by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from steelyard.bundle.graph import Recipe, feature_names
from steelyard.bundle.sklearn_pipeline import check_pipeline, pipeline_graph
from steelyard.features.parts import Columns, Part

__all__ = ["fit_pipeline"]


def _frame(features: Columns, names: tuple[str, ...]) -> pd.DataFrame:
    """Return the features as a pipeline sees them: float64 numbers, object strings."""
    return pd.DataFrame(
        {
            name: pd.Series(features[name], dtype=object)
            if features[name].dtype == object
            else features[name].astype(np.float64)
            for name in names
        }
    )


def fit_pipeline(
    pipeline: Pipeline, recipe: Recipe, train: Part, target: npt.NDArray[Any]
) -> tuple[Pipeline, Recipe, Callable[[Columns], npt.NDArray[np.float64]]]:
    """Fit a pipeline; return it, the recipe that compiles it, and its own answers by columns.

    Raises CompileError, naming the part, before fitting where a part has no faithful form.
    """
    raw, made = feature_names(recipe.fields, recipe.features)
    names = (*raw, *made)
    check_pipeline(pipeline)
    weights = (
        {} if train.weight is None else {f"{pipeline.steps[-1][0]}__sample_weight": train.weight}
    )
    pipeline.fit(_frame(train.features, names), target, **weights)
    compiled = replace(recipe, score_columns=partial(pipeline_graph, pipeline))

    def answer(columns: Columns) -> npt.NDArray[np.float64]:
        frame = _frame(columns, names)
        if recipe.classes is None:
            return np.asarray(pipeline.predict(frame), dtype=np.float64).reshape(-1, 1)
        return np.asarray(pipeline.predict_proba(frame), dtype=np.float64)

    return pipeline, compiled, answer
