"""What all servers of bench/serve.py answer by: one fitted forest, its graph, and two bundles.

The peers serve the pipeline that Steelyard fitted and compiled into the bundle `same`, so all of
these hold the same trees and must give the same probabilities. The bundle `own` is what a user of
Steelyard writes: its own preparation before a forest of the same kind, fitted on the same rows.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import telco
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

import steelyard as sy
from steelyard.core.config import Config
from steelyard.flow.building import Built, build, read_table

ROWS = 2_000


class Models(NamedTuple):
    own: Path
    same: Path
    rows: list[dict[str, Any]]
    """Rows that no model has seen."""
    expected_own: list[float]
    expected: list[float]
    """The probability of "Yes" for each row, by the pipeline in memory."""


def _built(definition: sy.Model, folder: Path) -> Built:
    return build(definition, read_table(definition, Config(folder / "state")), folder / "bundles")


def pipeline(leaf: int) -> Pipeline:
    encode = ColumnTransformer(
        [("encode", OneHotEncoder(handle_unknown="ignore"), list(telco.STRINGS))],
        remainder="passthrough",
    )
    return make_pipeline(encode, telco.forest(leaf))


def prepare(folder: Path, leaf: int) -> Models:
    """Fit and write everything below `folder`, and what rightly answers the rows of the load."""
    definition = telco.churn(leaf)
    own = _built(definition, folder)
    same = _built(replace(definition, estimator=pipeline(leaf)), folder)
    fitted = same.fitted.estimator
    joblib.dump(fitted, folder / "pipeline.joblib")
    kinds = [(name, FloatTensorType([None, 1])) for name in telco.NUMBERS]
    kinds += [(name, StringTensorType([None, 1])) for name in telco.STRINGS]
    options = {RandomForestClassifier: {"zipmap": False}}
    converted = convert_sklearn(fitted, initial_types=kinds, options=options)
    (folder / "pipeline.onnx").write_bytes(converted.SerializeToString())
    frame = telco.customers(ROWS, seed=1).select(telco.COLUMNS)
    rows = frame.to_dicts()
    (folder / "example.json").write_text(json.dumps(rows[:5]))
    answers = own.predictor.predict_many([tuple(row.values()) for row in rows])
    return Models(
        own.folder,
        same.folder,
        rows,
        [scores[1] for _, scores in answers if scores],
        fitted.predict_proba(frame.to_pandas())[:, 1].tolist(),
    )
