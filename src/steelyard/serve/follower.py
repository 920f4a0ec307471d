"""Takes over the version that an alias moves to, while the server answers."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from steelyard.errors import RefusedError, SteelyardError
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.version import Follow, Served, load
from steelyard.serve.observe.metrics import Metrics

__all__ = ["Follower"]

_log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 30.0
"""How long a version that was refused is left alone; reading it every time would cost a core."""


class Follower(threading.Thread):
    """Asks which version to serve and swaps it in, verified; keeps the old one where it is not.

    Requests that are under way end on the version that they began with. `also` is called at every
    turn: what else the server does now and then.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        follow: Follow,
        metrics: Metrics,
        *,
        seconds: float = 0.5,
        also: Sequence[Callable[[], None]] = (),
    ) -> None:
        super().__init__(name="follow-version", daemon=True)
        self._also = also
        self._endpoint = endpoint
        self._follow = follow
        self._metrics = metrics
        self._seconds = seconds
        self._refused: Served | None = None
        self._refused_at = 0.0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow until stopped."""
        while not self._stopped.wait(self._seconds):
            self.step()
            for call in self._also:
                call()

    def step(self) -> None:
        """Ask once, and take over what is wanted."""
        try:
            wanted = self._follow()
        except (SteelyardError, OSError) as error:
            # A store that is away is no reason to stop answering, but it has to show.
            self._fall_behind("behind", f"cannot see which version is wanted: {error}")
            return
        if wanted == self._endpoint.loaded.served:
            self._endpoint.behind = ""
        elif wanted != self._refused or time.monotonic() - self._refused_at >= _AGAIN_SECONDS:
            self._take(wanted)

    def stop(self) -> None:
        """Stop following."""
        self._stopped.set()

    def _take(self, wanted: Served) -> None:
        try:
            loaded = load(wanted)
            if loaded.predictor.model != self._endpoint.model:
                raise RefusedError(f"it is a version of {loaded.predictor.model}")
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the old one answers
            self._refused, self._refused_at = wanted, time.monotonic()
            self._metrics.count("swaps_refused")
            reason = str(error) or type(error).__name__
            self._fall_behind("swap_refused", f"version {wanted.version} was refused: {reason}")
            return
        self._metrics.serving(wanted.version, wanted.bundle, loaded.outputs)
        self._endpoint.loaded = loaded
        self._endpoint.behind = ""
        _log.warning(
            "%s now answers with version %d.",
            self._endpoint.model,
            wanted.version,
            extra={"event": "swap", "bundle": wanted.bundle},
        )

    def _fall_behind(self, event: str, why: str) -> None:
        served = self._endpoint.loaded.served
        if why != self._endpoint.behind:
            self._endpoint.behind = why
            _log.error(
                "%s goes on with version %d: %s",
                self._endpoint.model,
                served.version,
                why,
                extra={"event": event},
            )
