"""OpenAPI of a served model, from its row's JSON Schema."""

from collections.abc import Sequence
from typing import Any, Final

from steelyard.bundle.predictor import Predictor
from steelyard.core.answers import class_keys
from steelyard.serve.contracts.openapi_contracts import contract_paths
from steelyard.serve.contracts.schemas import TEXT, any_of, described, errors, object_of, ref
from steelyard.serve.contracts.table import Contract
from steelyard.serve.tables.forms import Form

__all__ = ["openapi_document"]


_TABLES: Final[dict[str, Any]] = {form.value.decode(): {} for form in (Form.ARROW, Form.PARQUET)}
"""A table's bytes have no JSON Schema: `{}` says that they are what the media type says."""


def openapi_document(
    predictor: Predictor, version: int, max_rows: int, contracts: Sequence[Contract] = ()
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a model's routes, of health and of contracts."""
    row = {k: v for k, v in predictor.schema.items() if k != "$schema"}
    predict = {
        "operationId": "predict",
        "tags": ["predict"],
        "summary": f"Predict {predictor.label} for one row, or for rows",
        "description": row.get("description", ""),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": any_of("Row", "Rows")}, **_TABLES},
        },
        "responses": {
            "200": described(
                any_of("Prediction", "Predictions"), "The answer; it is in the log already."
            ),
            **errors(404, 405, 413, 415, 429, 503),
            "422": described(
                ref("FieldErrors"), "Every field that is wrong, and what was expected."
            ),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": predictor.model,
            "version": str(version),
            "description": "Served by Steelyard.",
        },
        "paths": {
            f"/predict/{predictor.model}": {"post": predict},
            **_health_paths(),
            **{
                path: operations
                # What comes first answers: it stands last, where it replaces what it hides.
                for contract in reversed(contracts)
                for path, operations in contract_paths(contract, predictor.model).items()
            },
        },
        "components": {"schemas": _schemas(predictor, row, max_rows)},
    }


def _schemas(predictor: Predictor, row: dict[str, Any], max_rows: int) -> dict[str, Any]:
    rows = {"type": "array", "items": ref("Row"), "maxItems": max_rows}
    field_error = {"field": TEXT, "message": TEXT, "got": {}}
    return {
        "Row": row,
        "Values": _values(row),
        "Instances": {
            "type": "array",
            "items": any_of("Row", "Values"),
            "maxItems": max_rows,
            "description": "Rows, each an object of fields or a list of values in their order.",
        },
        "Rows": {**object_of({"rows": rows}), "additionalProperties": False},
        "Prediction": _prediction(predictor),
        "Predictions": object_of({"predictions": {"type": "array", "items": ref("Prediction")}}),
        "FieldErrors": object_of({"errors": {"type": "array", "items": object_of(field_error)}}),
        "Error": object_of({"error": TEXT}),
        "MlflowError": object_of({"error_code": TEXT, "message": TEXT}),
        "Ready": {
            **object_of({"ready": {"type": "boolean"}}),
            "properties": {
                "ready": {"type": "boolean"},
                "model": TEXT,
                "version": {"type": "integer"},
                "bundle": TEXT,
                "problem": TEXT,
                "behind": TEXT,
                "collapse": TEXT,
            },
        },
    }


def _values(row: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a row as a list of values in the order of the fields."""
    names = row["x-order"]
    return {
        "type": "array",
        "prefixItems": [row["properties"][name] for name in names],
        "items": False,
        "minItems": len(names),
    }


def _prediction(predictor: Predictor) -> dict[str, Any]:
    properties: dict[str, Any] = {"prediction": {"type": "number"}}
    if predictor.classes is not None:
        keys = class_keys(predictor.classes)
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties = {
            "prediction": {"enum": list(predictor.classes)},
            "probabilities": object_of(dict.fromkeys(keys, share)),
        }
    return object_of(
        properties
        | {
            "prediction_id": {"type": "string", "format": "uuid"},
            "model": {"const": predictor.model},
            "version": {"type": "integer"},
            "source": {"type": "string", "description": "What answered: the model."},
        }
    )


def _health_paths() -> dict[str, Any]:
    live = {"summary": "The process answers", "responses": {"200": {"description": "Yes."}}}
    ready = {
        "summary": "A proven version answers and the log takes records",
        "responses": {
            "200": described(ref("Ready"), "Yes."),
            "503": described(ref("Ready"), "Not now; `problem` says why."),
        },
    }
    metrics = {
        "summary": "Counters for Prometheus",
        "responses": {"200": {"description": "Text.", "content": {"text/plain": {}}}},
    }
    return {
        "/health/live": {"get": {"tags": ["health"], **live}},
        "/health/ready": {"get": {"tags": ["health"], **ready}},
        "/metrics": {"get": {"tags": ["health"], **metrics}},
    }
