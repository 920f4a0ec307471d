"""Start the front on a socket, follow the wanted version, drain on SIGTERM; one worker or several."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from steelyard.core.ports import LogWriter
from steelyard.errors import UsageError
from steelyard.serve.asgi import Application, Front
from steelyard.serve.endpoint import Endpoint, Follow, Follower, load
from steelyard.serve.metrics import Metrics

__all__ = ["Setup", "bind", "serve"]

_BACKLOG: Final = 2048
_DRAIN_SECONDS: Final = 25
_RESTART_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server needs, given by whoever starts it.

    `open_log` is called in the worker that writes, since a log's segments are not shared.
    `shared` is a folder for the counters of several workers.
    """

    follow: Follow
    open_log: Callable[[str], LogWriter]
    new_id: Callable[[], str]
    shared: Path | None = None
    workers: int = 1


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket that several workers may share by SO_REUSEPORT."""
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
            fix="Name another --port, or 0 for any free one.",
        ) from None
    return made


class _Server(uvicorn.Server):
    """A server that stops being ready as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, front: Front) -> None:
        super().__init__(config)
        self._front = front

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._front.draining = True
        super().handle_exit(sig, frame)


def _work(setup: Setup, listening: socket.socket, announce: Callable[[Endpoint], None]) -> None:
    """Serve on a socket until SIGTERM; then answer what is under way and make the log durable."""
    # uvicorn raises the signal again once it has drained; that is no reason to die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    loaded = load(setup.follow())
    metrics = Metrics(loaded.predictor.model, setup.shared)
    log = setup.open_log(loaded.predictor.model)
    endpoint = Endpoint(loaded, log, metrics, setup.new_id)

    def make_pages() -> Application:
        # Starlette takes a tenth of a second to import, which the first answer need not wait for.
        from steelyard.serve.pages import make_pages as make

        return make(front, lambda: "the server is stopping" if front.draining else "")

    front = Front(endpoint, metrics, make_pages)
    config = uvicorn.Config(
        front,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        backlog=_BACKLOG,
    )
    listening.listen(_BACKLOG)
    follower = Follower(endpoint, setup.follow, after=metrics.publish)
    follower.start()
    announce(endpoint)
    try:
        _Server(config, front).run(sockets=[listening])
    finally:
        follower.stop()
        log.close()


def serve(setup: Setup, host: str, port: int, announce: Callable[[Endpoint, str], None]) -> None:
    """Serve until SIGTERM. `announce` gets the endpoint and the URL once connections are taken."""
    listening = bind(host, port)
    bound = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host

    def ready(endpoint: Endpoint) -> None:
        announce(endpoint, f"http://{shown}:{bound}")

    if setup.workers == 1:
        _work(setup, listening, ready)
        return
    _supervise(setup, host, bound, ready)
    listening.close()


def _supervise(setup: Setup, host: str, port: int, announce: Callable[[Endpoint], None]) -> None:
    """Keep the wanted number of workers; start another where one dies; end them on SIGTERM."""
    stopping = False
    children: dict[int, int] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    def start(place: int) -> None:
        pid = os.fork()
        if pid:
            children[pid] = place
            return
        try:
            _work(setup, bind(host, port), announce if place == 0 else lambda endpoint: None)
        except BaseException as error:  # a child must not run on into its parent's code
            print(f"worker {place} ended: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)

    for place in range(setup.workers):
        start(place)
    while children:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        place = children.pop(pid)
        if not stopping:
            print(f"worker {place} died ({status}); starting another", file=sys.stderr, flush=True)
            time.sleep(_RESTART_SECONDS)
            start(place)
