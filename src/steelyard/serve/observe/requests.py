"""A line of the access log a request; only where it is asked for, since it closes the short way."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import Any, Final

__all__ = ["AccessLog"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_log = logging.getLogger(__name__)

_SHOWN: Final = 200
_GONE: Final = 499


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
