"""The answers of the version that is served, shown to its collapse alarm many at a time."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from steelyard.bundle.predictor import Answer
from steelyard.serve.answer.collapse import State
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.observe.metrics import Metrics

__all__ = ["Watch"]

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 256
"""Rows judged together: a tenth of a millisecond in which none is answered."""
_SAID: Final = {"answer": "one answer", "label": "one label", "": "one answer or label"}
_Noted = tuple[LoadedVersion, Sequence[Answer], Sequence[tuple[Any, ...]]]


class Watch:
    """Tells when the model of one worker gives one answer to nearly everything, and when no more.

    `current` returns the version that answers now. Noted from the thread that answers; judged from
    there too, and now and then from another.
    """

    def __init__(self, current: Callable[[], LoadedVersion], metrics: Metrics) -> None:
        self.problem = ""
        """What is wrong with the answers now."""
        self._current = current
        self._metrics = metrics
        self._lock = threading.Lock()
        self._noted: deque[_Noted] = deque()
        self._noted_rows = 0
        self._begin(current())

    def note(
        self, loaded: LoadedVersion, answers: Sequence[Answer], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Note the answers that the model itself, not a fallback, gave to some rows."""
        if not answers:
            return
        self._noted.append((loaded, answers, rows))
        self._noted_rows += len(answers)
        if self._noted_rows >= _AT_ONCE:
            self.judge()

    def judge(self) -> None:
        """Judge what was noted since, of the version that answers now; others have no say."""
        with self._lock:
            current = self._current()
            noted = [self._noted.popleft() for _ in range(len(self._noted))]
            self._noted_rows = 0
            if current is not self._loaded:
                self._end("another version answers")
                self._begin(current)
            if self._collapse is None:
                return
            answers: list[Answer] = []
            rows: list[tuple[Any, ...]] = []
            for loaded, some, of in noted:
                if loaded is current:
                    answers += some
                    rows += of
            if answers:
                self._collapse.observe(answers, rows)
                self._compare(self._collapse.state())

    def _begin(self, loaded: LoadedVersion) -> None:
        self._loaded, self._collapse = loaded, loaded.collapse()
        self._state = State(False)

    def _compare(self, state: State) -> None:
        before, self._state = self._state, state
        began = state.alarms > before.alarms
        if began or state.collapsed:
            self.problem = f"the model gives {_SAID[state.what]} to nearly every row"
        if began:  # told also where it is over since
            self._raise(state)
        if not state.collapsed:
            self._end("its answers vary again")

    def _raise(self, state: State) -> None:
        self._metrics.alarm("collapse", True)
        _log.error(
            "%s@%d: %s, far more often than on held-out rows.",
            self._loaded.predictor.model,
            self._loaded.served.version,
            self.problem,
            extra={
                "event": "collapse",
                "state": "raised",
                "what": state.what,
                "prediction": state.prediction,
            },
        )

    def _end(self, why: str) -> None:
        if not self.problem:
            return
        self.problem = ""
        self._metrics.alarm("collapse", False)
        _log.warning(
            "%s@%d is not taken for collapsed any more: %s.",
            self._loaded.predictor.model,
            self._loaded.served.version,
            why,
            extra={"event": "collapse", "state": "cleared"},
        )
