"""A server of grpcio in a worker's own event loop, on a port that all workers share."""

import asyncio
import logging
from typing import Any, Final

from steelyard.errors import UsageError
from steelyard.serve.contracts.exchange import Ready
from steelyard.serve.grpc.service import Service
from steelyard.serve.http.asgi import Front
from steelyard.serve.secure.tls import Tls

__all__ = ["GrpcServer"]

_log = logging.getLogger(__name__)

_CALLS: Final = 1_024
"""Calls that one connection may have under way."""
_AGE_MS: Final = 600_000
"""A connection is asked to come anew after this time, so that it may find another worker."""
_AGE_GRACE_MS: Final = 60_000
_TURNED_AWAY_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.2
_RETIRED_SECONDS: Final = 10.0
"""For the calls of a server that has stopped by itself."""


class GrpcServer:
    """The protocol's service on an address, of one worker. Made and used in its event loop."""

    def __init__(self, front: Front, ready: Ready, address: str, tls: Tls | None = None) -> None:
        self._front = front
        self._ready = ready
        self._address = address
        self._tls = tls
        self._server: Any = None
        self._kept: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen, and return the port. Raises UsageError where the address is taken."""
        self._server, port = self._made()
        await self._server.start()
        # Whatever free port was taken is the one that is taken again.
        self._address = f"{self._address.rpartition(':')[0]}:{port}"
        self._kept = asyncio.create_task(self._keep())
        return port

    async def stop(self, seconds: float) -> None:
        """Take no more calls; those under way have some seconds to end."""
        if self._server is None or self._kept is None:
            return
        self._front.draining = True
        # The library cancels calls that it has not handed over yet, which clients do not send again.
        await asyncio.sleep(_TURNED_AWAY_SECONDS)
        self._kept.cancel()
        await asyncio.gather(self._server.stop(seconds), *self._retired)

    def _made(self) -> tuple[Any, int]:
        """Return a server that is bound, and its port. Raises UsageError."""
        # Imported by the worker, after it was forked: the library's threads do not survive a fork.
        import grpc

        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self._front.limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", _CALLS),
            ("grpc.max_connection_age_ms", _AGE_MS),
            ("grpc.max_connection_age_grace_ms", _AGE_GRACE_MS),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers([Service(self._front, self._ready).handler()])
        try:
            if self._tls is None:
                port = server.add_insecure_port(self._address)
            else:
                port = server.add_secure_port(self._address, _credentials(self._tls))
        except RuntimeError:
            raise UsageError(
                f"cannot listen on {self._address} for gRPC.",
                fix="Name another --grpc-port, or 0 for any free one.",
            ) from None
        return server, int(port)

    async def _keep(self) -> None:
        """Listen again whenever the library has stopped by itself.

        grpcio 1.85 does where a call's path is not UTF-8: it raises in the loop that takes calls, before
        anything of ours is asked. The port is closed then, until the last connection ends. Its end is
        asked for now and then: whoever waits for it is not woken.
        """
        while True:
            try:
                await self._server.wait_for_termination(_LOOK_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001  # whatever it was, the port has to come back
                _log.warning("gRPC listens again after the library stopped: %s", error)
            stopped = asyncio.create_task(self._server.stop(_RETIRED_SECONDS))
            self._retired.add(stopped)
            stopped.add_done_callback(self._retired.discard)
            try:
                self._server, _ = self._made()
                await self._server.start()
            except UsageError as error:
                _log.error("gRPC does not answer: %s", error)
                await asyncio.sleep(_LOOK_SECONDS)


def _credentials(tls: Tls) -> Any:
    """Return what new connections are secured with: the newest files that can be used."""
    import grpc

    files, mark = tls.files, tls.files.mark()

    def read() -> Any:
        authority = files.client_ca.read_bytes() if files.client_ca else None
        pair = (files.key.read_bytes(), files.cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], authority)

    def renewed() -> Any:
        """Return what changed since the last connection, if anything; called by each new one."""
        nonlocal mark
        now = files.mark()
        if now == mark:
            return None
        try:
            files.context()
            found = read()
        except (UsageError, OSError):
            return None  # half of them may be on the way; what is told of it is told by `follow`
        mark = now
        return found

    return grpc.dynamic_ssl_server_credentials(
        read(), renewed, require_client_authentication=files.client_ca is not None
    )
