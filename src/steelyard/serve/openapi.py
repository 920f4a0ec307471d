"""OpenAPI of a served model, from its row's JSON Schema."""

from typing import Any

from steelyard.bundle.predictor import Predictor
from steelyard.core.answers import class_keys

__all__ = ["openapi_document"]


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _prediction(predictor: Predictor) -> dict[str, Any]:
    properties: dict[str, Any] = {"prediction": {"type": "number"}}
    if predictor.classes is not None:
        keys = class_keys(predictor.classes)
        properties = {
            "prediction": {"enum": list(predictor.classes)},
            "probabilities": {
                "type": "object",
                "properties": {key: {"type": "number", "minimum": 0, "maximum": 1} for key in keys},
                "required": keys,
            },
        }
    properties |= {
        "prediction_id": {"type": "string", "format": "uuid"},
        "model": {"const": predictor.model},
        "version": {"type": "integer"},
        "source": {"enum": ["model", "fallback"]},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def openapi_document(predictor: Predictor, version: int) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the native route and of health."""
    row = {k: v for k, v in predictor.schema.items() if k != "$schema"}
    errors = {
        "type": "object",
        "properties": {
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "message": {"type": "string"},
                                   "got": {}},
                    "required": ["field", "message", "got"],
                },
            }
        },
        "required": ["errors"],
    }  # fmt: skip
    error = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }
    schemas = {
        "Row": row,
        "Rows": {
            "type": "object",
            "properties": {
                "rows": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
            },
            "required": ["rows"],
            "additionalProperties": False,
        },
        "Prediction": _prediction(predictor),
        "Predictions": {
            "type": "object",
            "properties": {
                "predictions": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/Prediction"},
                }
            },
            "required": ["predictions"],
        },
        "FieldErrors": errors,
        "Error": error,
    }
    responses = {
        "200": _json(_any("Prediction", "Predictions"), "The answer; it is in the log already."),
        "404": _json(_ref("Error"), "No such model here."),
        "413": _json(_ref("Error"), "Too many bytes or rows."),
        "415": _json(_ref("Error"), "The body is not JSON."),
        "422": _json(_ref("FieldErrors"), "Every field that is wrong, and what was expected."),
        "503": _json(_ref("Error"), "Not now; Retry-After says when."),
    }
    predict = {
        "operationId": "predict",
        "summary": f"Predict {predictor.label}",
        "description": row.get("description", ""),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _any("Row", "Rows")}},
        },
        "responses": responses,
    }
    health = {"responses": {"200": {"description": "Yes."}, "503": {"description": "Not now."}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": predictor.model, "version": str(version)},
        "paths": {
            f"/predict/{predictor.model}": {"post": predict},
            "/health/live": {"get": {"summary": "The process answers", **health}},
            "/health/ready": {"get": {"summary": "A proven version answers", **health}},
        },
        "components": {"schemas": schemas},
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _any(*names: str) -> dict[str, Any]:
    return {"oneOf": [_ref(name) for name in names]}
