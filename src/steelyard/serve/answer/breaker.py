"""A circuit breaker: a model that fails again and again is left alone for a while."""

import random
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Breaker"]

_FAILURES: Final = 5
_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 30.0


class Breaker:
    """Counts calls that failed one after the other; open, it lets nothing through but probes.

    After five failures it is `suspicious`: whoever calls the model asks it about a golden row, which
    it must answer, before the breaker opens. So a row on which the model fails, sent again and
    again, does not take the model from everyone else. An open breaker asks for another probe after
    half a second, then after twice as long each time, to half a minute, give or take a quarter.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open = False
        self.failures = 0
        self._clock = clock
        self._pause = _FIRST_SECONDS
        self._again = 0.0

    @property
    def suspicious(self) -> bool:
        """Whether the model should be asked about a golden row now."""
        if self.is_open:
            return self._clock() >= self._again
        return self.failures >= _FAILURES

    def failed(self) -> None:
        """Note a call that failed."""
        self.failures += 1

    def probed(self, good: bool) -> bool:
        """Note how a probe went; return whether the breaker is open now."""
        if good:
            self.is_open, self.failures, self._pause = False, 0, _FIRST_SECONDS
            return False
        if self.is_open:
            self._pause = min(2 * self._pause, _LONGEST_SECONDS)
        self.is_open = True
        # Not all workers at the same moment.
        self._again = self._clock() + self._pause * random.uniform(0.75, 1.25)
        return True
