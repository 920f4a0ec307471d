"""The service on a real socket, and a client of grpcio, in one event loop."""

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from steelyard.serve.contracts.tensors import datatype_of, raw_bytes
from steelyard.serve.grpc.messages import SERVICE, message
from steelyard.serve.grpc.server import GrpcServer


@dataclass
class Caller:
    channel: Any

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """Return the response's message; `request` may be bytes as they are."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        parse = message(f"{method}Response").FromString
        return await self.channel.unary_unary(f"/{SERVICE}/{method}", None, parse)(
            data, timeout=options.pop("timeout", 30), **options
        )

    async def refused(self, request: Any, method: str = "ModelInfer", **options: Any) -> Any:
        """Return the error of a call that has to fail."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, **options)
        return caught.value


@pytest.fixture
def calling() -> Callable[..., Any]:
    """Return a function that runs a coroutine function with a `Caller` of a stand's server."""

    def run(made: Any, work: Callable[[Caller], Awaitable[Any]]) -> Any:
        def ready() -> str:
            return made.log_problem[0] if made.log_problem else ""

        async def within() -> Any:
            server = GrpcServer(made.front, ready, "127.0.0.1:0")
            port = await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    return await work(Caller(channel))
                finally:
                    await server.stop(5)

        return asyncio.run(within())

    return run


def _request_of(
    fields: Any, rows: list[dict[str, Any]], *, raw: bool = True, model: str = "price", **more: Any
) -> Any:
    """Return a ModelInferRequest of rows, each column in its own datatype."""
    made = message("ModelInferRequest")(model_name=model, **more)
    lists = {"BYTES": "bytes_contents", "INT64": "int64_contents", "FP64": "fp64_contents",
             "BOOL": "bool_contents"}  # fmt: skip
    for field in fields:
        datatype = datatype_of(field)
        empty = "" if datatype == "BYTES" else float("nan")
        values = [empty if row[field.name] is None else row[field.name] for row in rows]
        found = made.inputs.add(name=field.name, datatype=datatype, shape=[len(rows)])
        if raw:
            made.raw_input_contents.append(raw_bytes(datatype, values))
            continue
        if datatype == "BYTES":
            values = [value.encode() for value in values]
        getattr(found.contents, lists[datatype]).extend(values)
    return made


def _outputs_of(response: Any) -> dict[str, list[Any]]:
    """Return a response's values by output, however they came."""
    found: dict[str, list[Any]] = {}
    for i, output in enumerate(response.outputs):
        if response.raw_output_contents:
            raw = response.raw_output_contents[i]
            if output.datatype == "BYTES":
                values: list[Any] = []
                while raw:
                    (length,) = struct.unpack_from("<I", raw)
                    values.append(raw[4 : 4 + length].decode())
                    raw = raw[4 + length :]
            else:
                code = {"FP64": "d", "BOOL": "?", "INT64": "q"}[output.datatype]
                values = [value for (value,) in struct.iter_unpack(f"<{code}", raw)]
        else:
            ((field, contents),) = output.contents.ListFields()
            values = list(contents)
            if field.name == "bytes_contents":
                values = [value.decode() for value in values]
        assert len(values) == math.prod(output.shape)
        found[output.name] = values
    return found


@pytest.fixture
def request_of() -> Callable[..., Any]:
    return _request_of


@pytest.fixture
def outputs_of() -> Callable[..., Any]:
    return _outputs_of
