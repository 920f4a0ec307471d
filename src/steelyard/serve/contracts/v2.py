"""The Open Inference Protocol v2 over REST: metadata and infer, one tensor a column.

Source: the protocol's REST specification (health, metadata, infer).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

import steelyard
from steelyard.core.validation import RowLimitError
from steelyard.core.values import BAD_JSON
from steelyard.errors import InputError, LogFullError, SteelyardError, UsageError, nearest
from steelyard.serve.answer.batches import BusyError
from steelyard.serve.answer.calls import ModelError
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.tensors import (
    Tensor,
    metadata,
    output_tensors,
    rows_of,
    shown_name,
    wanted_outputs,
)
from steelyard.serve.http.asgi import (
    CLIENT_GONE,
    BodyTooLargeError,
    ClientGoneError,
    Front,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["tensors_of", "v2_routes"]

_SHOWN: Final = 100


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


def tensors_of(request: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors of a request's inputs. Raises UsageError where they are none."""
    for found in _listed(request, "inputs", "tensors"):
        name, datatype, shape = found.get("name"), found.get("datatype"), _shape(found)
        if not isinstance(name, str):
            raise UsageError(f"no input {shown_name(name)!r}; a name is text.")
        data = _flat(name, found.get("data"), shape)
        yield Tensor(name, datatype if isinstance(datatype, str) else "none", shape, data)


def _output_names(request: Mapping[str, Any]) -> list[object]:
    if not request.get("outputs"):
        return []
    return [output.get("name") for output in _listed(request, "outputs", "outputs")]


def _document(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "data": tensor.data,
    }


def _infer_document(
    loaded: LoadedVersion, request: Mapping[str, Any], outputs: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the response with these outputs."""
    answer: dict[str, Any] = {
        "model_name": loaded.predictor.model,
        "model_version": str(loaded.served.version),
        "outputs": [_document(output) for output in outputs],
    }
    if isinstance(request.get("id"), str):
        answer["id"] = request["id"]
    return answer


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
        except (UsageError, BodyTooLargeError, BusyError, LogFullError, ModelError) as error:
            return _refusal(error)
        except ClientGoneError:
            return _response({}, CLIENT_GONE)  # for the counters; nobody reads it

    async def _inferred(self, body: bytes) -> dict[str, Any]:
        request = _parsed(body)
        loaded = self._endpoint.loaded
        rows = rows_of(loaded.predictor.fields, tensors_of(request))
        wanted = wanted_outputs(loaded, _output_names(request))  # a mistake is told before logging
        # Through the one core, so that v2 checks, logs and answers as the native route does.
        answers = await self._front.answer(loaded, rows)
        return _infer_document(loaded, request, output_tensors(wanted, answers))

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
    if isinstance(error, ModelError) and error.reason == "failed":
        return _response(document, 500)
    return _response(document, 503, {"retry-after": "1"})


def v2_routes(front: Front, ready: Callable[[], str]) -> list["Route"]:
    """Return the protocol's routes; `ready` returns why the server is not ready, or nothing."""
    return _V2(front, ready).routes()
