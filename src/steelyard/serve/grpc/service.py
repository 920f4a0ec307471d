"""The methods of the protocol for one model; every answer comes from the one core.

Tensors, metadata and answers are those of v2 over REST. A response's tensors are raw where the request's
are. Its `parameters` hold the ids of the predictions, and marks where there are any.

Statuses: INVALID_ARGUMENT input, NOT_FOUND another model or version, RESOURCE_EXHAUSTED too large,
UNAVAILABLE busy, the model left alone or the log full (ask again), DEADLINE_EXCEEDED the model is late,
UNAUTHENTICATED and PERMISSION_DENIED the key, INTERNAL a failure of the server or the model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import steelyard
from steelyard.errors import UsageError
from steelyard.serve.answer.batches import BusyError
from steelyard.serve.answer.calls import ModelError
from steelyard.serve.answer.terms import USUAL, Terms
from steelyard.serve.contracts.exchange import Ready, check_model, status_in_words
from steelyard.serve.contracts.tensors import (
    metadata,
    output_tensors,
    rows_of,
    wanted_outputs,
)
from steelyard.serve.grpc.messages import SERVICE, decode_error, message
from steelyard.serve.grpc.plans import Plans
from steelyard.serve.grpc.tensors import output_names, response_of, tensors_of
from steelyard.serve.http.asgi import CLIENT_GONE, Front
from steelyard.serve.observe.tracing import following, note_status
from steelyard.serve.secure.access import scope_of

if TYPE_CHECKING:
    import grpc

__all__ = ["Service"]

_Context = Any
_Call = Callable[[bytes, _Context], Awaitable[bytes]]

_ROUTE: Final = "grpc"
_TRACED: Final = ("ModelInfer", "ModelMetadata")
_OK: Final = 200
_LATE: Final = 504
_CODES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    _LATE: "DEADLINE_EXCEEDED",
}
_RETRY: Final = (("grpc-retry-pushback-ms", "1000"),)
_LONGEST: Final = 2_000
"""Bytes of an error's text: it travels in a header, up to three times as long."""
_WAY_BACK: Final = 0.1
_WAY_BACK_MS: Final = 10
"""What an answer needs to be with the client in time: this share of its time, at most so much."""


class Service:
    """Answers for a front; `ready` returns why the server is not ready, or nothing."""

    def __init__(self, front: Front, ready: Ready) -> None:
        self._front = front
        self._endpoint = front.endpoint
        self._metrics = front.metrics
        self._ready = ready
        self._plans = Plans()
        self._view = message("ModelInferView")

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """Return what a server of grpcio calls."""
        import grpc

        model = f"/v2/models/{self._endpoint.model}"
        methods = {
            # What may be asked without a key is decided by the paths of the same things over REST.
            "ServerLive": ("/v2/health/live", self._live),
            "ServerReady": ("/v2/health/ready", self._server_ready),
            "ModelReady": (f"{model}/ready", self._model_ready),
            "ServerMetadata": ("/v2", self._server_metadata),
            "ModelMetadata": (model, self._model_metadata),
            "ModelInfer": (f"{model}/infer", self._infer),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._traced(name, self._answered(path, call))
            )
            for name, (path, call) in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _answered(self, path: str, call: _Call) -> _Call:
        """Return a method that may raise what the core raises: it becomes a status in words."""
        front, metrics = self._front, self._metrics
        scope = "" if front.access.is_open("GET", path) else scope_of(path)

        async def answered(data: bytes, context: _Context) -> bytes:
            begun, status = perf_counter_ns(), CLIENT_GONE
            try:
                if scope and front.access.on:
                    _authorise(front, scope, context)
                answer = await call(data, context)
                status = _OK
                return answer
            except asyncio.CancelledError:
                raise  # the client is gone
            except Exception as error:  # goes to the client, like any answer
                status, message_ = _refusal(error)
                await _abort(context, status, message_)
                raise
            finally:
                metrics.responded(_ROUTE, status)
                metrics.requested(_ROUTE, perf_counter_ns() - begun)

        return answered

    def _traced(self, method: str, call: _Call) -> _Call:
        """Return a method each call of which is a span, where that is wanted of it."""
        tracing, name = self._front.tracing, f"{SERVICE}/{method}"
        if tracing is None or method not in _TRACED:
            return call

        async def traced(data: bytes, context: _Context) -> bytes:
            attributes = {"rpc.system.name": "grpc", "rpc.method": name}
            with tracing.request(name, _headers(context), attributes) as span:
                status = "CANCELLED"
                try:
                    answer = await call(data, context)
                    status = "OK"
                    return answer
                finally:
                    code = context.code()
                    note_status(span, status if code is None else code.name)

        return traced

    async def _live(self, data: bytes, context: _Context) -> bytes:
        return _sent("ServerLiveResponse", live=True)

    async def _server_ready(self, data: bytes, context: _Context) -> bytes:
        return _sent("ServerReadyResponse", ready=not self._ready())

    async def _model_ready(self, data: bytes, context: _Context) -> bytes:
        self._check_model("ModelReadyRequest", data)
        return _sent("ModelReadyResponse", ready=not self._ready())

    async def _server_metadata(self, data: bytes, context: _Context) -> bytes:
        return _sent("ServerMetadataResponse", name="steelyard", version=steelyard.__version__)

    async def _model_metadata(self, data: bytes, context: _Context) -> bytes:
        self._check_model("ModelMetadataRequest", data)
        return _sent("ModelMetadataResponse", **metadata(self._endpoint.loaded))

    def _check_model(self, kind: str, data: bytes) -> None:
        request = _read(message(kind), data)
        check_model(self._front, request.name, request.version)

    async def _infer(self, data: bytes, context: _Context) -> bytes:
        if self._front.draining:
            raise BusyError("the server is stopping; send this one again")
        view = _read(self._view, data)
        check_model(self._front, view.model_name, view.model_version)
        loaded, terms = self._endpoint.loaded, _terms(context)
        plan = self._plans.find(loaded, view)
        row = plan.row(view.raw_input_contents) if plan is not None else None
        if plan is not None and row is not None:
            (answered,) = await self._front.answer(loaded, [row], terms)
            response = plan.response(view.id, answered)
            if response is None:
                outputs = output_tensors(plan.wanted, [answered])
                response = response_of(loaded, view, outputs, [answered])
            return response
        request = _read(message("ModelInferRequest"), data)
        rows = rows_of(loaded.predictor.fields, tensors_of(request))
        wanted = wanted_outputs(loaded, output_names(request))  # told before anything is logged
        answers = await self._front.answer(loaded, rows, terms)
        if len(rows) == 1:
            self._plans.learn(loaded, view, request, wanted)
        return response_of(loaded, request, output_tensors(wanted, answers), answers)


def _read(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except decode_error():
        raise UsageError(f"expected {kind.DESCRIPTOR.name}, got bytes that are none.") from None


def _sent(kind: str, **fields: Any) -> bytes:
    data: bytes = message(kind)(**fields).SerializeToString()
    return data


def _terms(context: _Context) -> Terms:
    """Return by when a call wants its answer, so that it can still be with the client."""
    seconds, trace = context.time_remaining(), following()
    if seconds is None:
        return USUAL if trace is None else Terms(trace=trace)
    milliseconds = seconds * 1e3
    left = max(1, int(milliseconds - min(milliseconds * _WAY_BACK, _WAY_BACK_MS)))
    return Terms(left, trace=trace)


def _authorise(front: Front, scope: str, context: _Context) -> None:
    # ipv4:127.0.0.1:50051, ipv6:%5B::1%5D:50051
    client = unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")
    front.access.authorise(_headers(context), scope, front.endpoint.model, client)


def _headers(context: _Context) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata() or ()
    ]


def _refusal(error: Exception) -> tuple[int, str]:
    """Return the status, in HTTP's numbers as all counters are, and what to say."""
    if isinstance(error, ModelError) and error.reason == "late":
        return _LATE, str(error)
    status, words, _ = status_in_words(error)
    return status, words


async def _abort(context: _Context, status: int, words: str) -> None:
    import grpc

    code = grpc.StatusCode[_CODES.get(status, "INTERNAL")]
    short = words.encode("utf-8", "backslashreplace")[:_LONGEST].decode("utf-8", "ignore")
    await context.abort(code, short, _RETRY if code is grpc.StatusCode.UNAVAILABLE else ())
