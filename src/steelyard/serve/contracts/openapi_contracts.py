"""OpenAPI of the contracts beside the native one; the named schemas are those of `openapi`."""

import re
from collections.abc import Callable
from typing import Any, Final

from steelyard.serve.contracts.schemas import TEXT, described, errors, list_of, object_of, ref
from steelyard.serve.contracts.table import Contract

__all__ = ["contract_paths"]

_FIELDS: Final = "The values of a row in the order of the fields, or an object of fields."
_HOLE: Final = re.compile(r"\{(\w+)\}")
_KIND: Final = re.compile(r":\w+\}")
"""What the router asks of a part of a path: `{deployed:int}`; OpenAPI has no such thing."""


def contract_paths(contract: Contract, model: str) -> dict[str, Any]:
    """Return path -> operations of a contract."""
    found = _PATHS.get(contract.name, _nothing)(contract, model)
    for path, operations in found.items():
        holes = [
            {"name": name, "in": "path", "required": True, "schema": TEXT}
            for name in _HOLE.findall(path)
        ]
        for operation in operations.values():
            operation["tags"] = [contract.name]
            if holes:
                operation["parameters"] = holes
    return found


def _nothing(contract: Contract, model: str) -> dict[str, Any]:
    return {}


def _v2(contract: Contract, model: str) -> dict[str, Any]:
    tensor = object_of({"name": TEXT, "datatype": TEXT, "shape": list_of({"type": "integer"})})
    tensor["properties"] |= {"data": {"type": "array"}, "parameters": {"type": "object"}}
    tensors = list_of(tensor)
    answer = object_of({"model_name": TEXT, "model_version": TEXT, "outputs": tensors})
    about = object_of({"name": TEXT, "platform": TEXT, "inputs": tensors, "outputs": tensors})
    raw = {"application/octet-stream": {"schema": {"type": "string", "contentEncoding": "binary"}}}
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
    health, predict = (_KIND.sub("}", path) for path in contract.given)
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
        "properties": {"columns": list_of(TEXT), "data": list_of({"type": "array"})},
    }
    forms = {
        "dataframe_split": split,
        "dataframe_records": list_of({"type": "object"}),
        "instances": {"type": ["array", "object"]},
        "inputs": {"type": ["array", "object"]},
    }
    body = {
        "type": "object",
        "properties": {**forms, "params": {"type": ["object", "null"]}},
        "oneOf": [{"required": [form]} for form in forms],
        "additionalProperties": False,
    }
    invocations = {
        "summary": "MLflow's scoring server: predict",
        "requestBody": _also(_json(body), {"text/csv": {"schema": TEXT}}),
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
    texts = {"application/jsonlines": {"schema": TEXT}, "text/csv": {"schema": TEXT}}
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
        "properties": {"instances": {"type": "array", "description": _FIELDS}},
        "required": ["instances"],
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
