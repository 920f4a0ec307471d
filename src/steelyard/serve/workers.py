"""Serving by one process or by several that share a port; a dead one is replaced."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Final, NoReturn

from steelyard.errors import StoreError
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.observe.shared import bury
from steelyard.serve.server import Setup, bind, work

__all__ = ["serve"]

_log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_RESTART_SECONDS: Final = 0.5
_STEADY_SECONDS: Final = 3.0
_EARLY_DEATHS: Final = 5


def serve(setup: Setup, host: str, port: int, announce: Callable[[Endpoint, str], None]) -> None:
    """Serve until SIGTERM; `announce` gets the endpoint and the URL once connections are taken.

    Raises UsageError where the port is taken, and StoreError where workers die as soon as they
    start.
    """
    if setup.security.admin is not None:
        bind(*setup.security.admin).close()  # a port that is taken is told before anything starts
    listening = bind(host, port)
    bound = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if setup.security.tls else "http"

    def ready(endpoint: Endpoint) -> None:
        announce(endpoint, f"{scheme}://{shown}:{bound}")

    if setup.workers == 1:
        work(setup, listening, ready)
        return
    # Bound and never listening, this socket keeps the port while workers come and go.
    with listening:
        _Workers(replace(setup, with_parent=True), host, bound, ready).run()


class _Workers:
    """Keeps the wanted number of workers alive until it is told to end; then ends them."""

    def __init__(
        self, setup: Setup, host: str, port: int, announce: Callable[[Endpoint], None]
    ) -> None:
        self._setup = setup
        self._host = host
        self._port = port
        self._announce = announce
        self._places: dict[int, int] = {}
        self._born: dict[int, float] = {}
        self._early = 0
        self._stopping = False

    def run(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        for place in range(self._setup.workers):
            self._start(place)
        while self._places:
            pid, status = os.wait()
            place = self._places.pop(pid)
            if not self._stopping:
                self._replace(place, pid, status)
        if self._early >= _EARLY_DEATHS:
            raise StoreError(
                f"{self._early} workers in a row died within {_STEADY_SECONDS:.0f} seconds.",
                fix="Their messages above say why; --workers 1 shows it more plainly.",
            )

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for pid in list(self._places):
            os.kill(pid, signal.SIGTERM)

    def _replace(self, place: int, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        fields = {"event": "worker_death", "worker": place, "pid": pid}
        _log.error("Worker %d (%d) died: %s.", place, pid, how, extra=fields)
        if self._setup.shared is not None:
            try:
                bury(self._setup.shared, pid)
            except Exception as error:  # noqa: BLE001  # only counts: the worker is replaced all the same
                _log.error("What worker %d counted is lost.", place, exc_info=error)
        steady = time.monotonic() - self._born.pop(pid) >= _STEADY_SECONDS
        self._early = 0 if steady else self._early + 1
        if self._early >= _EARLY_DEATHS:
            self._stop(signal.SIGTERM, None)
            return
        time.sleep(_RESTART_SECONDS)
        self._start(place)

    def _start(self, place: int) -> None:
        # A signal between the fork and the note of its child would leave that child behind.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if not self._stopping:
            pid = os.fork()
            if pid == 0:
                self._live(place)
            self._places[pid] = place
            self._born[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _live(self, place: int) -> NoReturn:
        """Be the child: serve, and end without running on into the parent's code."""
        code = 0
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            announce = self._announce if place == 0 else lambda endpoint: None
            work(self._setup, bind(self._host, self._port), announce, place)
        except BaseException as error:  # noqa: BLE001  # the child's edge
            reason = str(error) or type(error).__name__
            _log.error("Worker %d ends: %s", place, reason, extra={"event": "worker_end"})
            code = 1
        sys.stdout.flush()
        os._exit(code)
