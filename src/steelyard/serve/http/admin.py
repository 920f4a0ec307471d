"""The admin routes, on a port of their own: what a server is doing, and that it shall stop.

There are two, and neither takes a path, a URL or anything else. Both need a key with the scope
`admin`, on whatever address they are.

| route | what it does |
|---|---|
| `GET /admin/state` | version, readiness, connections, requests under way |
| `POST /admin/drain` | not ready from now on, in every worker; requests are still answered |
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.server import ServerState

from steelyard.serve.http.asgi import Front, status_of
from steelyard.serve.http.bounds import Timed
from steelyard.serve.secure.access import ForbiddenError, UnauthenticatedError
from steelyard.serve.secure.browsers import ORIGIN
from steelyard.serve.secure.security import Security

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Admin"]

_DRAINING: Final = "draining"


class Admin:
    """The admin routes of one worker. `shared` is the folder where workers leave word for each other.

    `ready` returns why the server is not ready, or nothing; `state` is what uvicorn keeps.
    """

    def __init__(
        self, front: Front, security: Security, shared: Path | None, ready: Callable[[], str]
    ) -> None:
        self._front = front
        self._security = security
        self._word = shared / _DRAINING if shared else None
        self._ready = ready
        self.served = ServerState()
        """What the prediction port keeps of its connections and requests."""

    def follow(self) -> None:
        """Drain where another worker was told to."""
        if self._word is not None and self._word.exists():
            self._front.draining = True

    async def listen(self, listening: socket.socket, config: uvicorn.Config) -> asyncio.Server:
        """Begin to answer on a bound socket, as `config` says for all ports."""
        own = uvicorn.Config(
            self._application(), lifespan="off", interface="asgi3", log_config=None
        )
        own.load()
        state = ServerState()
        state.default_headers = config.encoded_headers
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: Timed(own, state, {}), sock=listening, ssl=config.ssl
        )

    def _application(self) -> "Starlette":
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def refused(request: "Request", error: Exception) -> "Response":
            status, message, headers = status_of(error)
            response = JSONResponse({"error": message}, status)
            response.raw_headers += headers
            return response

        async def other(request: "Request", error: Exception) -> "Response":
            assert isinstance(error, HTTPException)
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)

        application = Starlette(
            routes=[
                Route("/admin/state", self._state),
                Route("/admin/drain", self._drain, methods=["POST"]),
            ],
            exception_handlers={
                UnauthenticatedError: refused, ForbiddenError: refused, HTTPException: other
            },
        )  # fmt: skip
        application.router.redirect_slashes = False
        return application

    async def _state(self, request: "Request") -> "Response":
        from starlette.responses import JSONResponse

        self._allowed(request)
        return JSONResponse(self._document())

    async def _drain(self, request: "Request") -> "Response":
        from starlette.responses import JSONResponse

        key = self._allowed(request)
        self._front.draining = True
        if self._word is not None:
            self._word.touch()
        client = request.client.host if request.client else ""
        model = self._front.endpoint.model
        # Durable before it is answered, and written where it holds no prediction up.
        await asyncio.to_thread(
            self._security.record, "drained", by=f"key {key}", client=client, model=model
        )
        return JSONResponse(self._document(), 202)

    def _allowed(self, request: "Request") -> str:
        """Return the id of the request's key; raises where it has none with the scope.

        No page has business here, whatever password its visitor gave the browser before.
        """
        if ORIGIN.decode() in request.headers:
            raise ForbiddenError("the admin routes are not for web pages.")
        client = request.client.host if request.client else ""
        headers = request.scope["headers"]
        return self._security.access.demand(headers, "admin", self._front.endpoint.model, client)

    def _document(self) -> dict[str, Any]:
        endpoint = self._front.endpoint
        why_not = self._ready()
        return {
            "model": endpoint.model,
            "version": endpoint.loaded.served.version,
            "bundle": endpoint.loaded.served.bundle,
            "behind": endpoint.behind,
            "collapse": endpoint.watch.problem,
            "ready": not why_not,
            "problem": why_not,
            "draining": self._front.draining,
            "process": os.getpid(),
            "connections": len(self.served.connections),
            "requests": len(self.served.tasks),
            "keys_asked_for": self._security.access.on,
        }
