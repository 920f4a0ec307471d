"""The Open Inference Protocol v2 over REST: metadata and infer, one tensor a column.

Source: the protocol's REST specification (health, metadata, infer).
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import steelyard
from steelyard.core.fields import FieldSpec
from steelyard.errors import InputError, LogFullError, UsageError, nearest
from steelyard.serve.endpoint import Endpoint, NotFiniteError

__all__ = ["v2_routes"]

_INTEGERS: Final = frozenset(
    ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
_FLOATS: Final = frozenset(["FP16", "FP32", "FP64"])


def _datatype(field: FieldSpec) -> str:
    if field.kind == "str" or field.temporal:
        return "BYTES"
    if field.optional or field.kind == "float":
        return "FP64"
    return "INT64" if field.kind == "int" else "BOOL"


def _accepted(field: FieldSpec) -> frozenset[str]:
    """Return the datatypes whose values a field can take without loss."""
    own = _datatype(field)
    if own == "FP64":
        return _FLOATS | _INTEGERS | ({"BOOL"} if field.kind == "bool" else frozenset())
    return _INTEGERS if own == "INT64" else frozenset([own])


def _metadata(endpoint: Endpoint) -> dict[str, Any]:
    loaded = endpoint.loaded
    classes = loaded.predictor.classes
    first = {
        "name": "prediction",
        "datatype": "FP64" if classes is None else _label_datatype(classes[0]),
        "shape": [-1],
    }
    outputs = [first]
    if classes is not None:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(classes)]})
    return {
        "name": endpoint.model,
        "versions": [str(loaded.served.version)],
        "platform": "onnx_onnxruntime",
        "inputs": [
            {"name": field.name, "datatype": _datatype(field), "shape": [-1]}
            for field in loaded.predictor.fields
        ],
        "outputs": outputs,
    }


def _label_datatype(label: Any) -> str:
    return {bool: "BOOL", int: "INT64", str: "BYTES"}[type(label)]


def _flat(data: Any) -> list[Any]:
    """Return tensor data in row-major order, however deeply it is nested."""
    if not isinstance(data, list):
        raise UsageError("data must be a list.")
    if any(isinstance(item, list) for item in data):
        return [value for item in data for value in _flat(item)]
    return data


def _value(field: FieldSpec, value: Any) -> Any:
    """Return a tensor's element as the value of a JSON row."""
    if field.optional and (value is None or value == "" or value != value):
        return None
    if field.kind == "bool" and not isinstance(value, bool) and value in (0, 1):
        return bool(value)
    return value


def _rows(fields: tuple[FieldSpec, ...], inputs: Any) -> list[dict[str, Any]]:
    if not isinstance(inputs, list) or not all(isinstance(item, Mapping) for item in inputs):
        raise UsageError("inputs must be a list of tensors.")
    by_name = {field.name: field for field in fields}
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        name = str(tensor.get("name"))
        field = by_name.get(name)
        if field is None:
            raise UsageError(f"no input {name[:100]!r}. {nearest(name[:100], by_name)}")
        if tensor.get("datatype") not in _accepted(field):
            raise UsageError(
                f"input {name}: expected {_datatype(field)}, got {str(tensor.get('datatype'))[:20]}."
            )
        columns[name] = [_value(field, value) for value in _flat(tensor.get("data"))]
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise UsageError(f"input {name}: shape must be a list of integers.")
        if math.prod(shape) != len(columns[name]):
            raise UsageError(
                f"input {name}: shape {shape} does not hold {len(columns[name])} values."
            )
    if len({len(column) for column in columns.values()}) > 1:
        raise UsageError("all inputs must have the same number of rows.")
    count = len(next(iter(columns.values()), []))
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def _infer(endpoint: Endpoint, body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {str(error)[:100]}.") from None
    if not isinstance(request, dict):
        raise UsageError("the body must be an object with inputs.")
    metadata = _metadata(endpoint)
    rows = _rows(endpoint.loaded.predictor.fields, request.get("inputs"))
    # Through the one core, so that v2 checks, logs and answers as the native route does.
    answers = endpoint.answer_rows(rows)
    classes = endpoint.loaded.predictor.classes
    data: dict[str, list[Any]] = {"prediction": [prediction for prediction, _ in answers]}
    if classes is not None:
        data["probabilities"] = [p for _, scores in answers for p in scores or ()]
    wanted = request.get("outputs") or [{"name": name} for name in data]
    outputs = []
    for output in wanted:
        name = output.get("name") if isinstance(output, Mapping) else None
        if name not in data:
            raise UsageError(f"no output {str(name)[:100]!r}. {nearest(str(name)[:100], data)}")
        entry = next(found for found in metadata["outputs"] if found["name"] == name)
        shape = [len(rows), *entry["shape"][1:]]
        outputs.append({**entry, "shape": shape, "data": data[name]})
    answer = {
        "model_name": endpoint.model,
        "model_version": metadata["versions"][0],
        "outputs": outputs,
    }
    if "id" in request:
        answer["id"] = request["id"]
    return answer


def v2_routes(endpoint: Endpoint, ready: Callable[[], str]) -> list[Route]:
    """Return the protocol's routes."""

    def known(request: Request) -> Response | None:
        name, version = request.path_params["model"], request.path_params.get("version")
        if name != endpoint.model:
            hint = nearest(name[:100], [endpoint.model])
            return JSONResponse({"error": f"no model {name[:100]!r}. {hint}"}, 404)
        current = str(endpoint.loaded.served.version)
        if version is not None and version != current:
            message = f"version {version[:20]} of {name} is not served; {current} is."
            return JSONResponse({"error": message}, 404)
        return None

    async def server(request: Request) -> Response:
        return JSONResponse(
            {"name": "steelyard", "version": steelyard.__version__, "extensions": []}
        )

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def server_ready(request: Request) -> Response:
        return JSONResponse({"ready": not ready()}, 503 if ready() else 200)

    async def model_ready(request: Request) -> Response:
        return known(request) or JSONResponse(
            {"name": endpoint.model, "ready": not ready()}, 503 if ready() else 200
        )

    async def metadata(request: Request) -> Response:
        return known(request) or JSONResponse(_metadata(endpoint))

    async def infer(request: Request) -> Response:
        if (unknown := known(request)) is not None:
            return unknown
        if ready():
            return JSONResponse({"error": ready()}, 503, {"retry-after": "1"})
        try:
            return JSONResponse(await run_in_threadpool(_infer, endpoint, await request.body()))
        except InputError as error:
            return JSONResponse({"error": str(error), "errors": error.errors}, 400)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 400)
        except (LogFullError, NotFiniteError) as error:
            return JSONResponse({"error": str(error)}, 503, {"retry-after": "1"})

    routes = [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", server_ready),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(base, metadata),
            Route(f"{base}/ready", model_ready),
            Route(f"{base}/infer", infer, methods=["POST"]),
        ]
    return routes
