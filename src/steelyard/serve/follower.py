"""Takes over the version that an alias moves to, while the server answers."""

import logging
import time
from typing import Final

from steelyard.errors import RefusedError
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.version import Follow, Served, load
from steelyard.serve.observe.metrics import Metrics
from steelyard.serve.turns import Turns

__all__ = ["Follower"]

_log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 30.0
"""How long a version that was refused is left alone; reading it every time would cost a core."""


class Follower(Turns):
    """Asks which version to serve and swaps it in, verified; keeps the old one where it is not.

    Requests that are under way end on the version that they began with. A thread of its own: a store
    that is away may let it wait for half a minute.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        follow: Follow,
        metrics: Metrics,
        *,
        seconds: float = 0.5,
    ) -> None:
        super().__init__("follow-version", [self.step], seconds=seconds)
        self._endpoint = endpoint
        self._follow = follow
        self._metrics = metrics
        self._refused: Served | None = None
        self._refused_at = 0.0

    def step(self) -> None:
        """Ask once, and take over what is wanted."""
        try:
            wanted = self._follow()
        except Exception as error:  # noqa: BLE001  # a store that is away does not end the answers
            reason = str(error) or type(error).__name__
            self._fall_behind("behind", f"cannot see which version is wanted: {reason}")
            return
        if wanted == self._endpoint.loaded.served:
            self._endpoint.behind = ""
        elif wanted != self._refused or time.monotonic() - self._refused_at >= _AGAIN_SECONDS:
            self._take(wanted)

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
