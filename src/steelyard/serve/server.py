"""One worker: the front on a socket, following the wanted version, draining on SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from steelyard.errors import UsageError
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import Follow, load
from steelyard.serve.contracts.table import Contract, contracts_of
from steelyard.serve.follower import Follower
from steelyard.serve.grpc.messages import check_installed
from steelyard.serve.grpc.server import GrpcServer
from steelyard.serve.http.admin import Admin
from steelyard.serve.http.asgi import Application, Front
from steelyard.serve.http.pages import make_pages
from steelyard.serve.http.protocol import Protocol
from steelyard.serve.observe import logs
from steelyard.serve.observe.metrics import CountedLog, Metrics
from steelyard.serve.observe.requests import AccessLog, Traced
from steelyard.serve.observe.tracing import Tracing, trace_id
from steelyard.serve.secure.security import Security
from steelyard.serve.secure.tls import Tls
from steelyard.serve.turns import Turns

__all__ = ["Setup", "bind", "kept_port", "work"]

_log = logging.getLogger(__name__)

_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
)
"""On every response, whichever way it goes: the parser's, ASGI's, or a refusal before either."""
_BACKLOG: Final = 2048
_DRAIN_SECONDS: Final = 25
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the 60 seconds after which load balancers drop an idle connection themselves."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server needs, given by whoever starts it.

    `open_log` is called in the worker that writes, since a log's segments are not shared.
    `log_problem` returns why the log would not take a record now, or nothing. `shared` is a folder
    for the counters of several workers. A server `with_parent` ends when its parent does.
    `contracts` are the wire contracts that it answers, and `grpc` where it answers v2 over gRPC too.
    """

    follow: Follow
    open_log: Callable[[str], CountedLog]
    new_id: Callable[[], str]
    log_problem: Callable[[str], str]
    shared: Path | None = None
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    with_parent: bool = False
    security: Security = field(default_factory=Security)
    access_log: bool = False
    traced: bool = False
    contracts: tuple[Contract, ...] = field(default_factory=lambda: contracts_of((), {}))
    grpc: str = ""


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Return a bound socket, not yet listening, whose port several workers may share.

    Raises UsageError where the port is taken or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}.",
            fix=f"Name another port; {option} 0 takes any free one.",
        ) from None
    return made


@contextmanager
def kept_port(host: str, port: int | None) -> Iterator[str]:
    """Keep a port for gRPC, 0 for any free one, and give its address; "" where None is wanted.

    Raises UsageError where the port is taken, or what gRPC needs is not installed.
    """
    if port is None:
        yield ""
        return
    check_installed()
    with bind(host, port, "--grpc-port") as held:
        name, number = held.getsockname()[:2]
        yield f"[{name}]:{number}" if ":" in name else f"{name}:{number}"


class _Server(uvicorn.Server):
    """A server that is not ready any more as soon as it is told to end, early or late."""

    def __init__(
        self,
        config: uvicorn.Config,
        front: Front,
        admin: tuple[Admin, socket.socket] | None,
        grpc: GrpcServer | None,
        started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._front = front
        self._admin = admin
        self._started = started
        self._grpc = grpc
        self._admin_listener: asyncio.Server | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._admin is not None:
            admin, listening = self._admin
            admin.served = self.server_state
            self._admin_listener = await admin.listen(listening, self.config)
        if self._grpc is not None:
            await self._grpc.start()
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Told here and not by the signal's handler, which may interrupt another line.
        _log.info("Stopping: what is under way is answered first.", extra={"event": "drain"})
        if self._admin_listener is not None:
            self._admin_listener.close()
        drains = [super().shutdown(sockets)]
        if self._grpc is not None:
            drains.append(self._grpc.stop(_DRAIN_SECONDS))
        await asyncio.gather(*drains)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._front.draining = True
        super().handle_exit(sig, frame)


class _Told:
    """Remembers a signal that comes before, or after, the time when the server handles it."""

    def __init__(self) -> None:
        self.yet = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.yet = True


def work(
    setup: Setup, listening: socket.socket, announce: Callable[[Endpoint], None], place: int = 0
) -> None:
    """Serve on a bound socket until SIGTERM; then answer what is under way and close the log.

    `announce` is called once connections are taken. Raises IntegrityError where the bundle is not
    what was sealed, LogFullError where the log cannot be opened.
    """
    told, parent = _Told(), os.getppid()
    loaded = load(setup.follow())
    model = loaded.predictor.model
    log = setup.open_log(model)
    metrics = Metrics(model, log, setup.shared, place=place)
    metrics.serving(loaded.served.version, loaded.served.bundle, loaded.outputs)
    endpoint = Endpoint(loaded, log, metrics, setup.new_id, setup.limits)
    tracing = Tracing.start(os.environ, model) if setup.traced else None
    logs.describe(partial(_described, endpoint, place, tracing))

    def not_ready() -> str:
        return "the server is stopping" if front.draining else setup.log_problem(model)

    def pages(front: Front) -> Application:
        return make_pages(front, not_ready, setup.contracts)

    def started() -> None:
        if not told.yet:
            announce(endpoint)
        server.should_exit |= told.yet

    security = setup.security
    security.start()
    front = Front(
        endpoint, metrics, pages, lambda: len(server.server_state.connections), security.access
    )
    admin = Admin(front, security, setup.shared, not_ready)
    regularly = [endpoint.watch.judge, metrics.publish, endpoint.calls.watch, admin.follow]
    if setup.with_parent:
        regularly.append(partial(_end_without, parent))
    threads = [Follower(endpoint, setup.follow, metrics), Turns("regularly", regularly)]
    try:
        front.told, front.tracing = _told_of(front, setup.access_log, tracing), tracing
        at = (admin, bind(*security.admin)) if security.admin else None
        grpc = GrpcServer(front, not_ready, setup.grpc, security.tls) if setup.grpc else None
        server = _Server(_config(front, security.tls), front, at, grpc, started)
        listening.listen(_BACKLOG)
        for thread in threads:
            thread.start()
        _freeze()
        server.run(sockets=[listening])
    finally:
        for thread in threads:
            thread.stop()
        security.stop()
        endpoint.calls.close()
        metrics.publish()
        log.close()
        if tracing is not None:
            tracing.end()
        _log.info("Stopped.", extra={"event": "stop"})


def _described(endpoint: Endpoint, place: int, tracing: Tracing | None) -> dict[str, Any]:
    """Return what every line of this process bears."""
    served = endpoint.loaded.served
    found = {"model": endpoint.model, "version": served.version, "worker": place}
    return {**found, "trace_id": trace_id()} if tracing and trace_id() else found


def _told_of(front: Front, access_log: bool, tracing: Tracing | None) -> Application | None:
    """Return what stands before the front where every request is told of."""
    if tracing is not None:
        return Traced(AccessLog(front) if access_log else front, tracing)
    return AccessLog(front) if access_log else None


def _end_without(parent: int) -> None:
    """End, as if told to, where the parent is no more."""
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _freeze() -> None:
    """Let no collection look at what lives as long as the process."""
    gc.collect()
    gc.freeze()


def _config(front: Front, tls: Tls | None) -> uvicorn.Config:
    settings: dict[str, Any] = {
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "lifespan": "off",
        "interface": "asgi3",
        "http": Protocol,
        "ws": "none",
        # A client's word for its own address is nothing that a prediction needs.
        "proxy_headers": False,
        "server_header": False,
        "headers": list(_HEADERS),
        "timeout_graceful_shutdown": _DRAIN_SECONDS,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "backlog": _BACKLOG,
    }
    config = uvicorn.Config(front, **settings)
    config.load()
    config.ssl = tls.context if tls else None
    return config
