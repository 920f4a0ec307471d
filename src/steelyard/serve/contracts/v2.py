"""The Open Inference Protocol v2 over REST: metadata and infer, one tensor a column.

Source: the protocol's REST specification (health, metadata, infer).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

import steelyard
from steelyard.core.fields import FieldSpec
from steelyard.core.validation import RowLimitError
from steelyard.core.values import BAD_JSON
from steelyard.errors import InputError, LogFullError, SteelyardError, UsageError, nearest
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.http.asgi import (
    CLIENT_GONE,
    BodyTooLargeError,
    BusyError,
    ClientGoneError,
    Front,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["infer_document", "metadata", "rows_of", "v2_routes", "wanted_outputs"]

_INTEGERS: Final = frozenset(
    ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
_FLOATS: Final = frozenset(["FP16", "FP32", "FP64"])
_LABELS: Final = {bool: "BOOL", int: "INT64", str: "BYTES"}
_SHOWN: Final = 100


def _datatype(field: FieldSpec) -> str:
    if field.kind == "str" or field.temporal:
        return "BYTES"
    if field.optional or field.kind == "float":
        return "FP64"
    return "INT64" if field.kind == "int" else "BOOL"


def _accepted(field: FieldSpec) -> frozenset[str]:
    """Return the datatypes whose values a field can take."""
    own = _datatype(field)
    if own == "FP64":
        return _FLOATS | _INTEGERS | ({"BOOL"} if field.kind == "bool" else frozenset())
    return _INTEGERS if own == "INT64" else frozenset([own])


def metadata(loaded: LoadedVersion) -> dict[str, Any]:
    """Return a model's metadata: the columns of its graph, its prediction and probabilities."""
    predictor = loaded.predictor
    classes = predictor.classes
    datatype = "FP64" if classes is None else _LABELS[type(classes[0])]
    outputs: list[dict[str, Any]] = [{"name": "prediction", "datatype": datatype, "shape": [-1]}]
    if classes is not None:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(classes)]})
    return {
        "name": predictor.model,
        "versions": [str(loaded.served.version)],
        "platform": "onnx_onnxruntime",
        "inputs": [
            {"name": field.name, "datatype": _datatype(field), "shape": [-1]}
            for field in predictor.fields
        ],
        "outputs": outputs,
    }


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # NaN is a null of the protocol's numbers and no JSON; the parser that takes it is slower.
        found = json.loads(body) if b"NaN" in body else msgspec.json.decode(body)
        if b"NaN" in body:
            msgspec.json.encode(found)  # refuses the broken text that this parser lets through
    except BAD_JSON as error:
        raise UsageError(f"the body is not JSON: {str(error)[:_SHOWN]}.") from None
    if not isinstance(found, dict):
        raise UsageError("the body must be an object with inputs.")
    return found


def _text(value: Any) -> str:
    """Return a name or the like as an error may show it."""
    return (value if isinstance(value, str) else str(type(value).__name__))[:_SHOWN]


def _listed(document: Mapping[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    found = document.get(name)
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        return list(found)
    raise UsageError(f"{name} must be a list of {what}.")


def _flat(data: Any, shape: Sequence[int]) -> list[Any]:
    """Return tensor data in row-major order; it is flat, or nested as deep as its shape."""
    if not isinstance(data, list):
        raise UsageError("data must be a list.")
    for _ in shape[1:]:
        if not data or not all(isinstance(item, list) for item in data):
            break
        data = [value for item in data for value in item]
    return list(data)


def _shape(tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    sized = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    # A column has one value a row: [N], or [N, 1] as some clients shape it.
    if sized and shape and math.prod(shape[1:]) == 1:
        return list(shape)
    raise UsageError(f"input {_text(tensor['name'])}: expected the shape [N] or [N, 1].")


def _column(field: FieldSpec, tensor: Mapping[str, Any]) -> list[Any]:
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _accepted(field):
        raise UsageError(f"input {field.name}: expected {_datatype(field)}, got {_text(datatype)}.")
    shape = _shape(tensor)
    values = [_value(field, value) for value in _flat(tensor.get("data"), shape)]
    if len(values) != shape[0]:
        raise UsageError(f"input {field.name}: shape {shape} does not hold {len(values)} values.")
    return values


def _value(field: FieldSpec, value: Any) -> Any:
    """Return a tensor's element as the value of a JSON row."""
    if field.optional and (value is None or value == "" or value != value):
        return None
    if field.kind == "bool" and type(value) in (int, float) and value in (0, 1):
        return bool(value)
    return value


def rows_of(fields: Sequence[FieldSpec], request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a request's tensors. Raises UsageError where they do not fit the fields."""
    by_name = {field.name: field for field in fields}
    columns: dict[str, list[Any]] = {}
    for tensor in _listed(request, "inputs", "tensors"):
        name = tensor.get("name")
        if not isinstance(name, str) or name not in by_name:
            raise UsageError(f"no input {_text(name)!r}. {nearest(_text(name), by_name)}")
        if name in columns:
            raise UsageError(f"input {name} is given twice.")
        columns[name] = _column(by_name[name], tensor)
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        raise UsageError("expected inputs, all with the same number of rows.")
    return [{n: column[i] for n, column in columns.items()} for i in range(counts.pop())]


def infer_document(
    loaded: LoadedVersion, request: Mapping[str, Any], answers: Sequence[Answered]
) -> dict[str, Any]:
    """Return the response: the outputs that were asked for, or all. Raises UsageError."""
    wanted = wanted_outputs(loaded, request)
    data: dict[str, list[Any]] = {"prediction": [answer.prediction for answer in answers]}
    if loaded.predictor.classes is not None:
        data["probabilities"] = [p for answer in answers for p in answer.probabilities or ()]
    outputs = []
    for output in wanted:
        shape = [len(answers), *output["shape"][1:]]
        outputs.append({**output, "shape": shape, "data": data[output["name"]]})
    answer: dict[str, Any] = {
        "model_name": loaded.predictor.model,
        "model_version": str(loaded.served.version),
        "outputs": outputs,
    }
    if isinstance(request.get("id"), str):
        answer["id"] = request["id"]
    return answer


def wanted_outputs(loaded: LoadedVersion, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the metadata of the outputs that a request names, or of all. Raises UsageError."""
    known = {output["name"]: output for output in metadata(loaded)["outputs"]}
    if not request.get("outputs"):
        return list(known.values())
    wanted = []
    for output in _listed(request, "outputs", "outputs"):
        name = output.get("name")
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"no output {_text(name)!r}. {nearest(_text(name), known)}")
        wanted.append(known[name])
    return wanted


class _V2:
    """The protocol's routes of one model."""

    def __init__(self, front: Front, ready: Callable[[], str]) -> None:
        self._front = front
        self._endpoint = front.endpoint
        self._ready = ready

    def routes(self) -> list["Route"]:
        from starlette.routing import Route

        found = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._server_ready),
        ]
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found += [
                Route(base, self._model),
                Route(f"{base}/ready", self._model_ready),
                Route(f"{base}/infer", self._infer, methods=["POST"]),
            ]
        return found

    async def _server(self, request: "Request") -> "Response":
        about = {"name": "steelyard", "version": steelyard.__version__, "extensions": []}
        return _response(about)

    async def _live(self, request: "Request") -> "Response":
        return _response({"live": True})

    async def _server_ready(self, request: "Request") -> "Response":
        why_not = self._ready()
        return _response({"ready": not why_not}, 503 if why_not else 200)

    async def _model(self, request: "Request") -> "Response":
        return self._unknown(request) or _response(metadata(self._endpoint.loaded))

    async def _model_ready(self, request: "Request") -> "Response":
        why_not = self._ready()
        document = {"name": self._endpoint.model, "ready": not why_not}
        return self._unknown(request) or _response(document, 503 if why_not else 200)

    async def _infer(self, request: "Request") -> "Response":
        unknown = self._unknown(request)
        if unknown is not None:
            return unknown
        try:
            body = await self._front.body(request.scope, request.receive)
            return _response(await self._inferred(body))
        except (UsageError, BodyTooLargeError, BusyError, LogFullError) as error:
            return _refusal(error)
        except ClientGoneError:
            return _response({}, CLIENT_GONE)  # for the counters; nobody reads it

    async def _inferred(self, body: bytes) -> dict[str, Any]:
        request = _parsed(body)
        loaded = self._endpoint.loaded
        rows = rows_of(loaded.predictor.fields, request)
        wanted_outputs(loaded, request)  # a mistake is told before anything is logged
        # Through the one core, so that v2 checks, logs and answers as the native route does.
        answers = await self._front.answer(loaded, rows)
        return infer_document(loaded, request, answers)

    def _unknown(self, request: "Request") -> "Response | None":
        """Return a 404 where the path names another model or version than the one served."""
        name, version = request.path_params["model"], request.path_params.get("version")
        model = self._endpoint.model
        if name != model:
            message = f"no model {name[:_SHOWN]!r}. {nearest(name[:_SHOWN], [model])}"
            return _response({"error": message}, 404)
        current = str(self._endpoint.loaded.served.version)
        if version is not None and version != current:
            message = f"version {version[:20]} of {name} is not served; {current} is."
            return _response({"error": message}, 404)
        return None


def _response(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse(document, status, headers)


def _refusal(error: SteelyardError) -> "Response":
    document: dict[str, Any] = {"error": str(error)}
    if isinstance(error, RowLimitError):
        return _response(document, 413)
    if isinstance(error, InputError):
        return _response(document | {"errors": error.errors}, 400)
    if isinstance(error, UsageError):
        return _response(document, 400)
    if isinstance(error, BodyTooLargeError):
        return _response(document, 413, {"connection": "close"})
    return _response(document, 429 if isinstance(error, BusyError) else 503, {"retry-after": "1"})


def v2_routes(front: Front, ready: Callable[[], str]) -> list["Route"]:
    """Return the protocol's routes; `ready` returns why the server is not ready, or nothing."""
    return _V2(front, ready).routes()
