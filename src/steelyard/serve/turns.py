"""What a server does now and then, beside answering."""

import logging
import threading
from collections.abc import Callable, Sequence

__all__ = ["Turns"]

_log = logging.getLogger(__name__)


class Turns(threading.Thread):
    """Calls functions one after the other, again and again after `seconds`, until it is stopped.

    What one of them raises is told, and ends neither the others nor its own next turn.
    """

    def __init__(
        self, name: str, calls: Sequence[Callable[[], None]], *, seconds: float = 0.5
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._calls = calls
        self._seconds = seconds
        self._stopped = threading.Event()

    def run(self) -> None:
        """Go on until stopped."""
        while not self._stopped.wait(self._seconds):
            for call in self._calls:
                try:
                    call()
                except Exception as error:  # noqa: BLE001  # the thread's edge: it goes on
                    _log.error("A turn of %s failed.", self.name, exc_info=error)

    def stop(self) -> None:
        """Stop after the turn that is going on."""
        self._stopped.set()
