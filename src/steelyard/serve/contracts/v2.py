"""The Open Inference Protocol v2 over REST: metadata and infer, one tensor a column.

Tensors come and go as JSON, or as raw bytes behind the JSON (the extension `binary_tensor_data`). A
response's `parameters` hold the ids of the predictions and, where the fallback answered or a row is
odd, `marks`.

Source: the protocol's REST specification (health, metadata, infer) and its binary tensor data
extension. Statuses: 400 input, 404 another model or version; errors are `{"error"}`, with every bad
field in `errors`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

import steelyard
from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.bodies import media_type, read_json
from steelyard.serve.contracts.documents import parameters_of
from steelyard.serve.contracts.exchange import (
    Handler,
    Ready,
    check_model,
    json_response,
    refusal,
    route,
    terms_of,
)
from steelyard.serve.contracts.tensors import (
    Tensor,
    metadata,
    output_tensors,
    raw_bytes,
    rows_of,
    shown_name,
    wanted_outputs,
)
from steelyard.serve.http.asgi import Front, MediaTypeError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["tensors_of", "v2_routes"]

_EXTENSIONS: Final = ["binary_tensor_data"]
_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_HEADER_LENGTH: Final = "inference-header-content-length"
_SIZE: Final = "binary_data_size"


def v2_routes(front: Front, ready: Ready) -> list["Route"]:
    """Return the protocol's routes; `ready` returns why the server is not ready, or nothing."""

    async def server(request: "Request") -> "Response":
        version = steelyard.__version__
        return json_response({"name": "steelyard", "version": version, "extensions": _EXTENSIONS})

    async def live(request: "Request") -> "Response":
        return json_response({"live": True})

    async def server_ready(request: "Request") -> "Response":
        why_not = ready()
        return json_response({"ready": not why_not}, 503 if why_not else 200)

    async def model(request: "Request") -> "Response":
        _check_path(front, request)
        return json_response(metadata(front.endpoint.loaded))

    async def model_ready(request: "Request") -> "Response":
        _check_path(front, request)
        why_not = ready()
        document = {"name": front.endpoint.model, "ready": not why_not}
        return json_response(document, 503 if why_not else 200)

    async def infer(request: "Request") -> "Response":
        _check_path(front, request)
        return await _infer(front, request)

    gets: dict[str, Handler] = {
        "/v2": server,
        "/v2/health/live": live,
        "/v2/health/ready": server_ready,
    }
    bases = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    for base in bases:
        gets |= {base: model, f"{base}/ready": model_ready}
    return [
        *[route(path, handler, refusal, "GET") for path, handler in gets.items()],
        *[route(f"{base}/infer", infer, refusal) for base in bases],
    ]


def _check_path(front: Front, request: "Request") -> None:
    """Raise UnknownModelError where a path names another model or version than the one served."""
    check_model(front, request.path_params["model"], request.path_params.get("version", ""))


async def _infer(front: Front, request: "Request") -> "Response":
    if media_type(request.headers, _JSON) not in (_JSON, _BINARY):
        raise MediaTypeError(f"send {_JSON}, or {_BINARY} with {_HEADER_LENGTH}")
    body = await front.body(request.scope, request.receive)
    text, raw = _parted(body, request.headers.get(_HEADER_LENGTH))
    asked = read_json(text)
    if not isinstance(asked, dict):
        raise UsageError("the body must be an object with inputs.")
    loaded = front.endpoint.loaded
    rows = rows_of(loaded.predictor.fields, tensors_of(asked, raw))
    names, binary = _outputs(asked)
    wanted = wanted_outputs(loaded, names)  # a mistake is told before anything is logged
    answers = await front.answer(loaded, rows, terms_of(request))
    return _response(_about(loaded, asked, answers), output_tensors(wanted, answers), binary)


def _parted(body: bytes, length: str | None) -> tuple[bytes, bytes]:
    """Return the JSON of a body and the raw tensors behind it."""
    if length is None:
        return body, b""
    if not (length.isascii() and length.isdigit()) or len(length) > 19 or int(length) > len(body):
        raise UsageError(
            f"Inference-Header-Content-Length: expected the bytes of JSON in a body of {len(body)}, "
            f"got {length[:20]!r}."
        )
    return body[: int(length)], body[int(length) :]


def _listed(document: Mapping[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    found = document.get(name)
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        return list(found)
    raise UsageError(f"{name} must be a list of {what}.")


def _flat(name: str, data: Any, shape: Sequence[int]) -> list[Any]:
    """Return tensor data in row-major order; it is flat, or nested as deep as its shape."""
    if not isinstance(data, list):
        raise UsageError(f"input {shown_name(name)}: data must be a list.")
    for _ in shape[1:]:
        if not data or not all(isinstance(item, list) for item in data):
            break
        data = [value for item in data for value in item]
    return list(data)


def _shape(tensor: Mapping[str, Any]) -> list[int]:
    shape = tensor.get("shape")
    if isinstance(shape, list) and all(type(size) is int for size in shape):
        return shape
    return []  # fits no column


def tensors_of(request: Mapping[str, Any], raw: bytes = b"") -> Iterator[Tensor]:
    """Yield the tensors of a request's inputs, whose data may lie in `raw`, one behind the other.

    Raises UsageError where they are none.
    """
    place = 0
    for found in _listed(request, "inputs", "tensors"):
        name, datatype, shape = found.get("name"), found.get("datatype"), _shape(found)
        if not isinstance(name, str):
            raise UsageError(f"no input {shown_name(name)!r}; a name is text.")
        size = _parameters(found).get(_SIZE)
        if size is None:
            data: Sequence[Any] | bytes = _flat(name, found.get("data"), shape)
        elif type(size) is not int or not 0 <= size <= len(raw) - place or "data" in found:
            raise UsageError(
                f"input {shown_name(name)}: expected no data and a {_SIZE} of at most "
                f"{len(raw) - place}, the bytes left behind the JSON."
            )
        else:
            data = raw[place : place + size]
            place += size
        yield Tensor(name, datatype if isinstance(datatype, str) else "none", shape, data)
    if place != len(raw):
        raise UsageError(f"{len(raw) - place} bytes behind the JSON belong to no input.")


def _parameters(found: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = found.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _outputs(request: Mapping[str, Any]) -> tuple[list[object], dict[object, bool]]:
    """Return the names of the wanted outputs, none for all, and which of them are wanted raw."""
    usual = _parameters(request).get("binary_data_output") is True
    names: list[object] = []
    binary: dict[object, bool] = {}
    for output in _listed(request, "outputs", "outputs") if request.get("outputs") else ():
        name, parameters = output.get("name"), _parameters(output)
        for impossible in ("shared_memory_region", "classification"):
            if impossible in parameters:
                raise UsageError(f"output {shown_name(name)}: there is no {impossible} here.")
        names.append(name)
        if isinstance(name, str):
            binary[name] = parameters.get("binary_data", usual) is True
    return names, binary if names else {"prediction": usual, "probabilities": usual}


def _about(
    loaded: LoadedVersion, request: Mapping[str, Any], answers: Sequence[Answered]
) -> dict[str, Any]:
    about = {
        "model_name": loaded.predictor.model,
        "model_version": str(loaded.served.version),
        "parameters": parameters_of(answers),
    }
    if isinstance(request.get("id"), str):
        about["id"] = request["id"]
    return about


def _response(
    about: Mapping[str, Any], outputs: Sequence[Tensor], binary: Mapping[object, bool]
) -> "Response":
    from starlette.responses import Response

    documents: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for output in outputs:
        document: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        if binary[output.name]:
            parts.append(raw_bytes(output.datatype, output.data))
            document["parameters"] = {_SIZE: len(parts[-1])}
        else:
            document["data"] = output.data
        documents.append(document)
    text = msgspec.json.encode({**about, "outputs": documents})
    if not parts:
        return Response(text, media_type=_JSON)
    headers = {_HEADER_LENGTH: str(len(text))}
    return Response(b"".join([text, *parts]), headers=headers, media_type=_BINARY)
