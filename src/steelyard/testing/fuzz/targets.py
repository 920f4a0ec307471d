"""A server under test: where it is, what it is sent, and what it answers to good requests."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from steelyard.errors import UsageError
from steelyard.testing.conformance.grpc_messages import SERVICE, grpc_module
from steelyard.testing.fuzz.exchanges import exchanged_once
from steelyard.testing.fuzz.requests import Request
from steelyard.testing.fuzz.responses import Response
from steelyard.testing.fuzz.seeds import Call

__all__ = ["Control", "Target", "ask", "called", "learn_controls", "opened"]

_ID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS: Final = 60.0
_BUSY: Final = 503


@dataclass(slots=True)
class Control:
    """A good request and what is always answered to it, bit for bit but for the ids."""

    request: Request | Call
    answer: tuple[int | str, bytes]


@dataclass(slots=True)
class Target:
    """A server: its base URL, valid `requests`; the URL of its gRPC, if any, valid `calls`, `metadata`.

    `process` is whose memory and files are watched. Of several targets one gets cases by its `weight`. A
    target whose good answers change has no `steady` ones to compare. Raises UsageError for a URL that
    is not http.
    """

    name: str
    url: str
    requests: Sequence[Request]
    process: int | None = None
    grpc: str = ""
    calls: Sequence[Call] = ()
    metadata: Sequence[tuple[str, str]] = ()
    weight: int = 1
    steady: bool = True
    controls: list[Control] = field(default_factory=list)

    def __post_init__(self) -> None:
        for url, scheme in ((self.url, "http"), *([(self.grpc, "grpc")] if self.grpc else [])):
            if urlsplit(url).scheme != scheme or not urlsplit(url).port:
                raise UsageError(
                    f"{url} is no URL that can be fuzzed.",
                    fix=f"Give one such as {scheme}://127.0.0.1:8000: bytes go over plain TCP.",
                )

    @property
    def address(self) -> tuple[str, int]:
        """Where HTTP is answered."""
        return _address(self.url)

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Where gRPC is answered."""
        return _address(self.grpc)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def learn_controls(target: Target, channel: Any) -> None:
    """Find the good requests that are answered alike each time; those are asked in between."""
    target.controls.clear()
    if not target.steady:
        return
    asked: list[Request | Call] = [*target.requests, *target.calls]
    for request in asked:
        if isinstance(request, Request) and request.method == b"HEAD":
            continue  # its end cannot be told
        first, second = [await ask(target, channel, request) for _ in range(2)]
        if first == second and first[0] != _BUSY:
            target.controls.append(Control(request, first))


async def ask(target: Target, channel: Any, request: Request | Call) -> tuple[int | str, bytes]:
    """Return the status and the body of a good request's answer, without ids.

    Raises OSError where none comes.
    """
    if isinstance(request, Request):
        found: Response = await exchanged_once(*target.address, request.render())
        return found.status, _ID.sub(b"", found.body)
    code, data = await called(channel, *request, target.metadata)
    return code, _ID.sub(b"", data)


def opened(target: Target) -> Any:
    """Return a channel of gRPC in the running event loop, or nothing where there is none."""
    if not target.calls:
        return None
    host, port = target.grpc_address
    return grpc_module().aio.insecure_channel(f"{host}:{port}")


async def called(
    channel: Any, method: str, data: bytes, metadata: Sequence[tuple[str, str]]
) -> tuple[str, bytes]:
    """Return the status of a call, and the bytes of its answer or its details."""
    grpc = grpc_module()
    ask_ = channel.unary_unary(f"/{SERVICE}/{method}")
    try:
        return "OK", bytes(await ask_(data, timeout=_SECONDS, metadata=tuple(metadata)))
    except grpc.aio.AioRpcError as error:
        return error.code().name, (error.details() or "").encode()
