"""OpenAPI of a served model, from its row's JSON Schema."""

from typing import Any

from steelyard.bundle.predictor import Predictor
from steelyard.core.answers import class_keys

__all__ = ["openapi_document"]

_TEXT = {"type": "string"}


def openapi_document(predictor: Predictor, version: int, max_rows: int) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a model's routes and of health."""
    row = {k: v for k, v in predictor.schema.items() if k != "$schema"}
    predict = {
        "operationId": "predict",
        "tags": ["predict"],
        "summary": f"Predict {predictor.label} for one row, or for rows",
        "description": row.get("description", ""),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _any("Row", "Rows")}},
        },
        "responses": {
            "200": _json(
                _any("Prediction", "Predictions"), "The answer; it is in the log already."
            ),
            **_errors(404, 405, 413, 415, 429, 503),
            "422": _json(_ref("FieldErrors"), "Every field that is wrong, and what was expected."),
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
            **_v2_paths(predictor.model),
        },
        "components": {"schemas": _schemas(predictor, row, max_rows)},
    }


def _schemas(predictor: Predictor, row: dict[str, Any], max_rows: int) -> dict[str, Any]:
    rows = {"type": "array", "items": _ref("Row"), "maxItems": max_rows}
    field_error = {"field": _TEXT, "message": _TEXT, "got": {}}
    return {
        "Row": row,
        "Rows": {**_object({"rows": rows}), "additionalProperties": False},
        "Prediction": _prediction(predictor),
        "Predictions": _object({"predictions": {"type": "array", "items": _ref("Prediction")}}),
        "FieldErrors": _object({"errors": {"type": "array", "items": _object(field_error)}}),
        "Error": _object({"error": _TEXT}),
        "Ready": {
            **_object({"ready": {"type": "boolean"}}),
            "properties": {
                "ready": {"type": "boolean"},
                "model": _TEXT,
                "version": {"type": "integer"},
                "bundle": _TEXT,
                "problem": _TEXT,
                "behind": _TEXT,
            },
        },
    }


def _prediction(predictor: Predictor) -> dict[str, Any]:
    properties: dict[str, Any] = {"prediction": {"type": "number"}}
    if predictor.classes is not None:
        keys = class_keys(predictor.classes)
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties = {
            "prediction": {"enum": list(predictor.classes)},
            "probabilities": _object(dict.fromkeys(keys, share)),
        }
    return _object(
        properties
        | {
            "prediction_id": {"type": "string", "format": "uuid"},
            "model": {"const": predictor.model},
            "version": {"type": "integer"},
            "source": {"type": "string", "description": "What answered: the model."},
        }
    )


_ERRORS = {
    400: "The request does not fit the model's inputs.",
    404: "No such model, or version, here.",
    405: "Another method is needed.",
    413: "Too many bytes, or rows, at once.",
    415: "The body is not JSON.",
    429: "Too many requests of several rows at once; Retry-After says when.",
    503: "Not now; Retry-After says when.",
}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): _json(_ref("Error"), _ERRORS[status]) for status in statuses}


def _health_paths() -> dict[str, Any]:
    live = {"summary": "The process answers", "responses": {"200": {"description": "Yes."}}}
    ready = {
        "summary": "A proven version answers and the log takes records",
        "responses": {
            "200": _json(_ref("Ready"), "Yes."),
            "503": _json(_ref("Ready"), "Not now; `problem` says why."),
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


def _v2_paths(model: str) -> dict[str, Any]:
    tensor = _object({"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array"}})
    tensor["properties"]["data"] = {"type": "array"}
    tensors = {"type": "array", "items": tensor}
    answer = _object({"model_name": _TEXT, "model_version": _TEXT, "outputs": tensors})
    about = _object({"name": _TEXT, "platform": _TEXT, "inputs": tensors, "outputs": tensors})
    infer = {
        "tags": ["v2"],
        "summary": "Open Inference Protocol: infer",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _object({"inputs": tensors})}},
        },
        "responses": {"200": _json(answer, "The outputs."), **_errors(400, 404, 413, 429, 503)},
    }
    metadata = {
        "tags": ["v2"],
        "summary": "Open Inference Protocol: the model's inputs and outputs",
        "responses": {"200": _json(about, "The metadata.")},
    }
    return {
        f"/v2/models/{model}": {"get": metadata},
        f"/v2/models/{model}/infer": {"post": infer},
    }


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object whose properties are all there."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _any(*names: str) -> dict[str, Any]:
    return {"anyOf": [_ref(name) for name in names]}
