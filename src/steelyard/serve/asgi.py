"""The front: the prediction route answered in place, everything else by an ordinary application."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from steelyard.core.validation import RowLimitError
from steelyard.errors import InputError, LogFullError, SteelyardError, nearest
from steelyard.serve.batches import Batches
from steelyard.serve.endpoint import Asked, Endpoint, Steps
from steelyard.serve.metrics import Metrics

__all__ = [
    "CLIENT_GONE",
    "Application",
    "BodyTooLargeError",
    "BusyError",
    "ClientGoneError",
    "Front",
    "Limits",
    "problem",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
T = TypeVar("T")

_log = logging.getLogger(__name__)

_JSON: Final = (b"content-type", b"application/json")
_PREFIX: Final = "/predict/"
_ROUTE: Final = "/predict"
_TURNS: Final = 3
"""Turns of the loop in which a single row is read, answered and sent."""
_RETRY: Final = ((b"retry-after", b"1"),)
_CLOSE: Final = ((b"connection", b"close"),)
_ALLOW: Final = ((b"allow", b"POST"),)
_SHOWN: Final = 100
CLIENT_GONE: Final = 499
"""What the counters show where nobody waits for the answer any more."""
_ROUTES: Final = ("/v2", "/health", "/metrics", "/openapi.json", "/docs")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes at once: bytes a body, rows a request, requests of several rows."""

    body_bytes: int = 8 * 1024 * 1024
    rows: int = 10_000
    row_requests: int = 16


class BodyTooLargeError(SteelyardError):
    """A request's body is larger than the server takes."""


class BusyError(SteelyardError):
    """As many requests of several rows wait as the server lets wait."""


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


def problem(message: str) -> bytes:
    """Return the JSON of an error that is not about a field.

    >>> problem("no such model")
    b'{"error":"no such model"}'
    """
    return msgspec.json.encode({"error": message})


class Front:
    """An ASGI application: `POST /predict/{model}` without a framework, the rest by `pages`.

    `in_flight` says how many requests the server has taken and not answered.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        metrics: Metrics,
        pages: Callable[["Front"], Application],
        limits: Limits,
        in_flight: Callable[[], int],
    ) -> None:
        self.endpoint = endpoint
        self.metrics = metrics
        self.limits = limits
        self.draining = False
        self._route = _PREFIX + endpoint.model
        self._make_pages = pages
        self._pages: Application | None = None
        self._batches = Batches(endpoint, in_flight)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            try:
                await self._predict(scope, receive, send)
            except ClientGoneError:
                self.metrics.responded(_ROUTE, CLIENT_GONE)
            return
        if self._pages is None:
            self._pages = self._make_pages(self)
        await self._pages(scope, receive, self._counted(scope, send))

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != self._route:
            name = scope["path"][len(_PREFIX) :][:_SHOWN]
            hint = nearest(name, [self.endpoint.model])
            await self._respond(send, 404, problem(f"no model {name!r} here. {hint}"))
        elif scope["method"] != "POST":
            await self._respond(send, 405, problem("use POST"), _ALLOW)
        elif wrong := _wrong_type(scope["headers"]):
            await self._respond(send, 415, problem(wrong))
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = ()
        status = 200
        try:
            asked = self.endpoint.ask(await self.body(scope, receive))
            if isinstance(asked, Asked):
                answer = await self._batches.answer(asked)
            else:
                answer = await self.in_turn(asked)
        except RowLimitError as error:
            answer, status = problem(str(error)), 413
        except InputError as error:
            answer, status = msgspec.json.encode({"errors": error.errors}), 422
        except BodyTooLargeError as error:
            # The rest of a large body is not read; the connection cannot be used again.
            answer, status, headers = problem(str(error)), 413, _CLOSE
        except BusyError as error:
            answer, status, headers = problem(str(error)), 429, _RETRY
        except LogFullError as error:
            answer, status, headers = problem(str(error)), 503, _RETRY
        except ClientGoneError:
            raise
        except Exception:  # noqa: BLE001  # the process's edge: one request may fail, the server goes on
            _log.exception("A request could not be answered.")
            answer, status = problem("the server failed; its log says why"), 500
        await self._respond(send, status, answer, headers)

    async def body(self, scope: Scope, receive: Receive) -> bytes:
        """Return a request's body in one piece; reads no more than the limit.

        Raises BodyTooLargeError.
        """
        limit = self.limits.body_bytes
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= limit:
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            return body
        parts, size = [body], max(len(body), _declared_size(scope["headers"]))
        if size <= limit:
            size = len(body)
        while message.get("more_body", False) and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > limit:
            raise BodyTooLargeError(f"at most {limit} bytes are taken at once")
        return b"".join(parts)

    async def in_turn(self, steps: Steps[T]) -> T:
        """Run the steps of a request of several rows, one such request after the other.

        Between two steps single rows are answered. Raises BusyError where too many wait already,
        and what the steps raise.
        """
        if self._waiting >= self.limits.row_requests:
            raise BusyError("too many requests of several rows at once; send this one again")
        self._waiting += 1
        try:
            async with self._turn:
                while True:
                    try:
                        next(steps)
                    except StopIteration as done:
                        result: T = done.value
                        return result
                    for _ in range(_TURNS):
                        await asyncio.sleep(0)
        finally:
            self._waiting -= 1

    async def _respond(self, send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
        self.metrics.responded(_ROUTE, status)
        length = (b"content-length", b"%d" % len(body))
        start = {
            "type": "http.response.start",
            "status": status,
            "headers": [_JSON, length, *headers],
        }
        await send(start)
        await send({"type": "http.response.body", "body": body})

    def _counted(self, scope: Scope, send: Send) -> Send:
        """Return `send` that counts the responses of what is not the prediction route."""
        path = scope.get("path", "")
        route = next((r for r in _ROUTES if path == r or path.startswith(f"{r}/")), "other")

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responded(route, message["status"])
            await send(message)

        return counting


def _wrong_type(headers: Headers) -> str:
    """Return what is wrong with the declared form of a body; a client may declare none."""
    for name, value in headers:
        if name == b"content-type" and value != b"application/json":
            kind = value.partition(b";")[0].strip().lower()
            if kind != b"application/json" and not kind.endswith(b"+json"):
                return "send JSON, with Content-Type: application/json"
        elif name == b"content-encoding" and value != b"identity":
            return "send the body as it is, without Content-Encoding"
    return ""


def _declared_size(headers: Headers) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
