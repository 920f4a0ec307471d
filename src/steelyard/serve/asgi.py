"""The front: the prediction route answered in place, everything else by an ordinary application."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import msgspec

from steelyard.errors import InputError, LogFullError, nearest
from steelyard.serve.endpoint import Endpoint, NotFiniteError
from steelyard.serve.metrics import Metrics

__all__ = ["Front", "problem"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON: Final = (b"content-type", b"application/json")
_PREFIX: Final = "/predict/"
_RETRY: Final = (b"retry-after", b"1")


class _BodyTooLargeError(Exception):
    pass


class _ClientGoneError(Exception):
    pass


def problem(message: str) -> bytes:
    """Return the JSON of an error that is not about a field.

    >>> problem("no such model")
    b'{"error":"no such model"}'
    """
    return msgspec.json.encode({"error": message})


class Front:
    """An ASGI application: `POST /predict/{model}` without a framework, the rest by `pages`."""

    def __init__(
        self,
        endpoint: Endpoint,
        metrics: Metrics,
        pages: Callable[[], Application],
        *,
        max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.endpoint = endpoint
        self.metrics = metrics
        self.draining = False
        self.max_bytes = max_bytes
        self._route = _PREFIX + endpoint.model
        self._make_pages = pages
        self._pages: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            try:
                await self._predict(scope, receive, send)
            except _ClientGoneError:
                self.metrics.responded(_PREFIX, 499)
            return
        if self._pages is None:
            self._pages = self._make_pages()
        await self._pages(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != self._route:
            name = scope["path"][len(_PREFIX) :][:100]
            hint = nearest(name, [self.endpoint.model])
            await self._respond(send, 404, problem(f"no model {name!r} here. {hint}"))
        elif scope["method"] != "POST":
            await self._respond(send, 405, problem("use POST"), [(b"allow", b"POST")])
        elif self.draining:
            await self._respond(send, 503, problem("the server is stopping"), [_RETRY])
        elif not _is_json(scope["headers"]):
            message = "send JSON, with Content-Type: application/json"
            await self._respond(send, 415, problem(message))
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = []
        try:
            answer, status = self.endpoint.answer(await self._body(scope, receive)), 200
        except InputError as error:
            answer, status = msgspec.json.encode({"errors": error.errors}), 422
        except _BodyTooLargeError:
            message = f"at most {self.max_bytes} bytes are taken at once"
            # The rest of a large body is not read; the connection cannot be used again.
            answer, status, headers = problem(message), 413, [(b"connection", b"close")]
        except (LogFullError, NotFiniteError) as error:
            answer, status, headers = problem(str(error)), 503, [_RETRY]
        await self._respond(send, status, answer, headers)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the request's body, in one piece, or stop reading where it is too large."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= self.max_bytes:
            return body
        parts, size = [body], len(body)
        while message.get("more_body", False) and size <= self.max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > self.max_bytes:
            raise _BodyTooLargeError
        return b"".join(parts)

    async def _respond(
        self, send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        self.metrics.responded(_PREFIX, status)
        length = (b"content-length", str(len(body)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [_JSON, length, *headers],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _is_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a request says that it sends JSON, or says nothing of its type."""
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            return kind == b"application/json" or kind.endswith(b"+json")
    return True
