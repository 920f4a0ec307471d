"""A line or a span a request; only where they are asked for, since they close the short way."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import Any, Final

from steelyard.serve.observe.tracing import METHODS, Tracing, note_error, route_of

__all__ = ["AccessLog", "Traced"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_log = logging.getLogger(__name__)

_SHOWN: Final = 200
_GONE: Final = 499
_FAILED: Final = 500
_OTHER: Final = "_OTHER"
_UNTRACED: Final = ("/health", "/ping", "/metrics", "/v2/health")
"""What asks again and again whether all is well, and would bury the traces of requests."""


class AccessLog:
    """An ASGI application around another one, that tells what was asked and how it ended.

    Headers, query and body are not told: they may hold secrets and people's data.
    """

    def __init__(self, application: _Application) -> None:
        self._application = application

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Let a request be answered, and tell of it."""
        begun, status, size = perf_counter_ns(), _GONE, 0

        async def telling(message: _Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._application(scope, receive, telling)
        finally:
            spent = (perf_counter_ns() - begun) / 1e6
            method, path = scope["method"], scope["path"][:_SHOWN]
            fields = {
                "event": "request",
                "method": method,
                "path": path,
                "status": status,
                "milliseconds": round(spent, 3),
                "bytes": size,
                "client": (scope.get("client") or ("",))[0],
            }
            _log.info("%s %s %d in %.1f ms", method, path, status, spent, extra=fields)


class Traced:
    """An ASGI application around another one, that makes each request a span.

    The names are those of OpenTelemetry's conventions for HTTP servers. The query is left out: it
    may hold a secret.
    """

    def __init__(self, application: _Application, tracing: Tracing) -> None:
        self._application = application
        self._tracing = tracing

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Let a request be answered in a span."""
        path = scope["path"]
        if any(path == p or path.startswith(f"{p}/") for p in _UNTRACED):
            await self._application(scope, receive, send)
            return
        attributes = _attributes(scope)
        route = attributes.get("http.route")
        method = attributes["http.request.method"]
        name = f"{'HTTP' if method == _OTHER else method} {route or ''}".rstrip()
        with self._tracing.request(name, scope["headers"], attributes) as span:
            status = 0

            async def noting(message: _Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await self._application(scope, receive, noting)
            finally:
                if status:
                    span.set_attribute("http.response.status_code", status)
                if not status or status >= _FAILED:
                    note_error(span, str(status) if status else "no_response")


def _attributes(scope: _Message) -> dict[str, Any]:
    method, route = scope["method"], route_of(scope["path"])
    known = method in METHODS
    found: dict[str, Any] = {
        "http.request.method": method if known else _OTHER,
        "url.path": scope["path"][:_SHOWN],
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if not known:
        found["http.request.method_original"] = method[:_SHOWN]
    if route:
        found["http.route"] = route
    for name, place in (("server", scope.get("server")), ("client", scope.get("client"))):
        if place:
            found[f"{name}.address"] = place[0]
            if place[1]:
                found[f"{name}.port"] = place[1]
    for name, value in scope["headers"]:
        if name == b"user-agent":
            found["user_agent.original"] = value.decode("latin-1")[:_SHOWN]
    return found
