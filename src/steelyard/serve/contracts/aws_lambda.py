"""AWS Lambda's events: an HTTP request of a function URL or an HTTP API, or rows as they are.

An HTTP event (payload format 2.0) is a request to the front, by whichever of its contracts the path
names; a path of `/` is that of the native route. Its response is `{statusCode, headers, body,
isBase64Encoded}`. Any other event is the body of the native route, one row or `{"rows": [...]}`, and
its response that route's document; what the route refuses is then a function error, since nothing
but an error tells the invoker of it.

Source: the developer guide of AWS Lambda (function URLs, quotas), that of API Gateway's HTTP APIs.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from steelyard.errors import InputError, SteelyardError
from steelyard.serve.http.asgi import TIMEOUT, Front, problem

__all__ = ["PAYLOAD_BYTES", "Function", "FunctionError"]

PAYLOAD_BYTES: Final = 6 * 1024 * 1024
"""The most that Lambda passes each way when an invoker waits for the answer."""

_TIMEOUT: Final = TIMEOUT.decode()
_MARGIN_MS: Final = 100
"""Left of the time of an invocation to hand its answer over."""
_TEXT: Final = ("application/json", "text/")
_OLD: Final = frozenset(["httpMethod", "resource", "requestContext"])
_OLD_EVENT: Final = (
    "an HTTP event of payload format 1.0 came; 2.0 is what is answered. Set the integration's "
    "payload format version to 2.0, or use a function URL."
)


class FunctionError(SteelyardError):
    """An event of rows that is not answered with predictions; `status` is the route's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Function:
    """One model as a function from event to response, one event after the other.

    `before` is called before each event: what a server does now and then.
    """

    def __init__(self, front: Front, before: Callable[[], None] = lambda: None) -> None:
        self._front = front
        self._before = before
        self._loop = asyncio.new_event_loop()

    def __call__(self, event: bytes, remaining_ms: int | None = None) -> bytes:
        """Return the response to an event, both as JSON.

        `remaining_ms` is how long the invoker waits. Raises InputError, FunctionError where an
        event of rows is not answered.
        """
        self._before()
        limit = None if remaining_ms is None else max(1, remaining_ms - _MARGIN_MS)
        try:
            document = msgspec.json.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None  # the route says what is wrong with it
        http = _http(document)
        if http is not None:
            return self._http(document, http, limit)
        if isinstance(document, dict) and document.keys() >= _OLD:
            raise FunctionError(400, _OLD_EVENT)
        return self._rows(event, limit)

    def close(self) -> None:
        """End what answers events."""
        self._loop.close()

    def _rows(self, event: bytes, limit: int | None) -> bytes:
        found = self._asked(
            "POST", self._front.route, {"content-type": "application/json"}, event, limit
        )
        if found.status != 200:
            raise _error(found)
        if len(found.body) > PAYLOAD_BYTES:
            raise FunctionError(413, _too_large(len(found.body)))
        return found.body

    def _http(self, event: Mapping[str, Any], http: Mapping[str, Any], limit: int | None) -> bytes:
        try:
            text = event.get("body") or ""
            body = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else None
        except (binascii.Error, TypeError):
            return _encoded(_Response(400, {}, problem("the body is no base64")))
        found = self._asked(
            str(http["method"]),
            self._path(event),
            {str(k).lower(): str(v) for k, v in (event.get("headers") or {}).items()},
            str(text).encode() if body is None else body,
            limit,
            query=str(event.get("rawQueryString") or ""),
            client=str(http.get("sourceIp") or ""),
        )
        answer = _encoded(found)
        if len(answer) > PAYLOAD_BYTES:
            return _encoded(_Response(413, {}, problem(_too_large(len(answer)))))
        return answer

    def _path(self, event: Mapping[str, Any]) -> str:
        """Return the path behind the stage of an HTTP API; the root is the native route."""
        path = unquote(str(event.get("rawPath") or "/"))
        stage = event["requestContext"].get("stage", "$default")
        if stage != "$default" and f"{path}/".startswith(f"/{stage}/"):
            path = path[len(stage) + 1 :]
        return self._front.route if path in ("", "/") else path

    def _asked(  # a request's parts
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        limit: int | None,
        *,
        query: str = "",
        client: str = "",
    ) -> _Response:
        if limit is not None:
            given = headers.get(_TIMEOUT, "")
            headers[_TIMEOUT] = str(min(limit, int(given))) if given.isdigit() else str(limit)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method.upper(),
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(k.encode("latin-1", "replace"), v.encode("latin-1", "replace"))
                        for k, v in headers.items()],
            "client": (client, 0),
        }  # fmt: skip
        return self._loop.run_until_complete(self._exchanged(scope, body))

    async def _exchanged(self, scope: dict[str, Any], body: bytes) -> _Response:
        left = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Any:
            return left.pop() if left else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._front(scope, receive, send)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return _Response(sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))


def _http(document: Any) -> Mapping[str, Any] | None:
    """Return the method and the like of an HTTP event; nothing where it is another event."""
    context = document.get("requestContext") if isinstance(document, dict) else None
    http = context.get("http") if isinstance(context, dict) else None
    return http if isinstance(http, dict) and "method" in http else None


def _encoded(found: _Response) -> bytes:
    """Return the document of an HTTP response: text as it is, anything else in base64."""
    headers = {name: v for name, v in found.headers.items() if name != "content-length"}
    kind = headers.setdefault("content-type", "application/json")
    text = None
    if kind.startswith(_TEXT):
        try:
            text = found.body.decode()
        except UnicodeDecodeError:
            text = None
    return msgspec.json.encode(
        {
            "statusCode": found.status,
            "headers": headers,
            "body": base64.b64encode(found.body).decode() if text is None else text,
            "isBase64Encoded": text is None,
        }
    )


def _error(found: _Response) -> SteelyardError:
    document = json.loads(found.body)
    if found.status == 422:
        return InputError(document["errors"])
    return FunctionError(found.status, f"{found.status}: {document['error']}")


def _too_large(size: int) -> str:
    return f"the answer has {size} bytes; Lambda passes {PAYLOAD_BYTES}: send fewer rows"
