"""OpenAPI of the contracts beside the native one; the named schemas are those of `openapi`."""

import re
from collections.abc import Callable
from typing import Any, Final

from steelyard.serve.contracts.schemas import TEXT, described, errors, list_of, object_of, ref
from steelyard.serve.contracts.table import Contract

__all__ = ["contract_paths"]

_HOLE: Final = re.compile(r"\{(\w+)(:int)?\}")
_ANY: Final[dict[str, Any]] = {}
"""A body of text or bytes has no JSON Schema: it is what its media type says."""


def contract_paths(contract: Contract, model: str) -> dict[str, Any]:
    """Return path -> operations of a contract."""
    found = {}
    for path, operations in _PATHS.get(contract.name, _nothing)(contract, model).items():
        holes = [
            {"name": name, "in": "path", "required": True, "schema": _part(kind)}
            for name, kind in _HOLE.findall(path)
        ]
        for operation in operations.values():
            operation["tags"] = [contract.name]
            if holes:
                operation["parameters"] = holes
                operation["responses"] = errors(404) | operation["responses"]
        found[_HOLE.sub(r"{\1}", path)] = operations
    return found


def _part(kind: str) -> dict[str, Any]:
    """Return the schema of a part of a path, by what the router asks of it."""
    return (
        {"type": "integer", "minimum": 0}
        if kind
        else {**TEXT, "minLength": 1, "pattern": "^[^/]+$"}
    )


def _nothing(contract: Contract, model: str) -> dict[str, Any]:
    return {}


def _v2(contract: Contract, model: str) -> dict[str, Any]:
    tensor = object_of({"name": TEXT, "datatype": TEXT, "shape": list_of({"type": "integer"})})
    tensor["properties"] |= {"data": {"type": "array"}, "parameters": {"type": "object"}}
    tensors = list_of(tensor)
    answer = object_of({"model_name": TEXT, "model_version": TEXT, "outputs": tensors})
    about = object_of({"name": TEXT, "platform": TEXT, "inputs": tensors, "outputs": tensors})
    raw = {"application/octet-stream": _ANY}
    infer = {
        "summary": "Open Inference Protocol: infer; tensors may lie as raw bytes behind the JSON",
        "requestBody": _also(_json(object_of({"inputs": tensors})), raw),
        "responses": {
            "200": _also(described(answer, "The outputs."), raw),
            **errors(400, 404, 413, 415, 503),
        },
    }
    metadata = {
        "summary": "Open Inference Protocol: the model's inputs and outputs",
        "responses": {"200": described(about, "The metadata.")},
    }
    return {
        f"/v2/models/{model}": {"get": metadata},
        f"/v2/models/{model}/infer": {"post": infer},
    }


def _kserve_v1(contract: Contract, model: str) -> dict[str, Any]:
    state = object_of({"name": TEXT, "ready": {"type": "boolean"}})
    ready = {
        "summary": "Whether the model is ready",
        "responses": {"200": described(state, "Yes."), "503": described(state, "Not now.")},
    }
    models = object_of({"models": list_of(TEXT)})
    return {
        "/v1/models": {
            "get": {"summary": "The models", "responses": {"200": described(models, "Names.")}}
        },
        f"/v1/models/{model}": {"get": ready},
        f"/v1/models/{model}:predict": {"post": _instances("KServe v1: predict")},
    }


def _vertex(contract: Contract, model: str) -> dict[str, Any]:
    health, predict = contract.given
    paths: dict[str, Any] = {health: {"get": _health({"application/json": {}})}}
    paths.setdefault(predict, {})["post"] = _instances("Vertex AI: predict")
    return paths


def _mlflow(contract: Contract, model: str) -> dict[str, Any]:
    answer = object_of(
        {
            "predictions": {"type": "array"},
            "prediction_ids": list_of(TEXT),
            "model": TEXT,
            "version": {"type": "integer"},
        }
    )
    split = {
        "type": "object",
        "properties": {
            "columns": list_of(TEXT),
            "data": list_of({"type": "array"}),
            "index": {},
        },
        "required": ["data"],
        "additionalProperties": False,
    }
    rows_or_columns = {"anyOf": [ref("Instances"), {"type": "object"}]}
    params = object_of({"probabilities": {"type": "boolean"}}) | {"additionalProperties": False}
    params |= {"type": ["object", "null"], "required": []}
    forms = {
        "dataframe_split": split,
        "dataframe_records": list_of({"type": "object"}),
        "instances": rows_or_columns,
        "inputs": rows_or_columns,
    }
    body = {
        "type": "object",
        "properties": {**forms, "params": params},
        "oneOf": [{"required": [form]} for form in forms],
        "additionalProperties": False,
    }
    invocations = {
        "summary": "MLflow's scoring server: predict",
        "requestBody": _also(_json(body), {"text/csv": _ANY}),
        "responses": {
            "200": described(answer, "A prediction a row."),
            **errors(400, 413, 415, 503, schema="MlflowError"),
        },
    }
    version = {"200": {"description": "Text.", "content": {"text/plain": {}}}}
    return {
        "/ping": {"get": _health({"application/json": {}})},
        "/health": {"get": _health({"application/json": {}})},
        "/version": {"get": {"summary": "The server's version", "responses": version}},
        "/invocations": {"post": invocations},
    }


def _sagemaker(contract: Contract, model: str) -> dict[str, Any]:
    told = object_of(
        {
            "MaxConcurrentTransforms": {"type": "integer"},
            "BatchStrategy": TEXT,
            "MaxPayloadInMB": {"type": "integer"},
        }
    )
    texts = {"application/jsonlines": _ANY, "text/csv": _ANY}
    invocations = {
        "summary": "SageMaker: predict",
        "requestBody": _also(_json({"type": ["object", "array"]}), texts),
        "responses": {
            "200": _also(described(ref("Predictions"), "The answers."), texts),
            **errors(400, 406, 413, 415, 503),
        },
    }
    parameters = {
        "summary": "What batch transform may ask at once",
        "responses": {"200": described(told, "The parameters.")},
    }
    return {
        "/ping": {"get": _health({})},
        "/execution-parameters": {"get": parameters},
        "/invocations": {"post": invocations},
    }


def _instances(summary: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {
            "instances": ref("Instances"),
            "inputs": ref("Instances"),
            "parameters": {"enum": [{}, None], "description": "There are none."},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
    }
    return {
        "summary": summary,
        "requestBody": _json(body),
        "responses": {
            "200": described(ref("Predictions"), "The answers."),
            **errors(400, 404, 413, 415, 503),
        },
    }


def _health(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": "Whether the server is ready",
        "responses": {
            "200": {"description": "Yes.", "content": content},
            "503": {"description": "Not now.", "content": content},
        },
    }


def _also(body: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Return a body that may be of other types too."""
    return body | {"content": body["content"] | content}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_PATHS: Final[dict[str, Callable[[Contract, str], dict[str, Any]]]] = {
    "v2": _v2,
    "kserve-v1": _kserve_v1,
    "vertex": _vertex,
    "mlflow": _mlflow,
    "sagemaker": _sagemaker,
}
