"""The calls of a model: in place while it is fast, in a thread while it is slow, none while broken."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy.typing as npt
import onnxruntime

from steelyard.bundle.guards import Checked
from steelyard.bundle.predictor import Answer
from steelyard.core.answers import Flag
from steelyard.errors import InputError, SteelyardError
from steelyard.serve.answer.breaker import Breaker
from steelyard.serve.answer.version import LoadedVersion

__all__ = ["REASONS", "Calls", "Flagged", "ModelError", "Scored", "broken", "late"]

_log = logging.getLogger(__name__)

Feeds = Mapping[str, npt.NDArray[Any]]

_SLOW_NS: Final = 5_000_000
"""A call that takes longer keeps others, and the answers about the server's health, waiting."""
_SLOW_CALLS: Final = 3
_HANG_NS: Final = 50_000_000
_FAST_NS: Final = 2_000_000
_FAST_CALLS: Final = 200
_STOP_NS: Final = 1_000_000_000
_STUCK_SECONDS: Final = 30.0

REASONS: Final = ("failed", "late", "broken", "not_finite", "out_of_range")
"""Why there is no answer of the model: it raised, took too long, is not called, or is of no use."""


class ModelError(SteelyardError):
    """The model did not answer: `reason` is failed, late or broken."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Flagged(NamedTuple):
    """An answer, and what the guards say of it or of its row."""

    answer: Answer
    flags: tuple[Flag, ...]


Scored = Answer | Flagged | InputError | ModelError
"""What the model says of a row, or why it does not: a guard refuses it, or the model failed."""


class Calls:
    """Calls the models of one endpoint, one call at a time.

    A call in place costs nothing beside the model, and nothing else happens meanwhile. A call in a
    thread can be given up; so a model turns `slow` by a few long calls, and fast again by many short
    ones.
    """

    def __init__(self, breaker: Breaker, tell: Callable[[str], None]) -> None:
        self.slow = False
        self.breaker = breaker
        self._pool: ThreadPoolExecutor | None = None
        self._options = onnxruntime.RunOptions()
        self._since = 0
        self._fast = self._long = 0
        self._told = 0.0
        self._tell_state = tell
        tell("closed")

    def now(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], feeds: Feeds | None = None
    ) -> Sequence[Scored]:
        """Return what the model says of each row; it is not called where the breaker is open.

        `feeds` are the rows packed, where that was done.
        """
        breaker = self.breaker
        if (breaker.is_open or breaker.failures) and not self._may_call(loaded):
            return [broken()] * len(rows)
        return self._timed(loaded, rows, feeds)

    @property
    def refuses(self) -> bool:
        """Whether the breaker is open, and no probe can be made now."""
        breaker = self.breaker
        return breaker.is_open and (not breaker.suspicious or bool(self._since))

    def in_thread(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]]
    ) -> "asyncio.Future[Sequence[Scored]]":
        """Return what `now` returns, to come; calls wait for each other."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        return asyncio.wrap_future(self._pool.submit(self.now, loaded, rows))

    async def in_time(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], seconds: float
    ) -> Sequence[Scored]:
        """Return what `now` returns, called in the thread, or that it is late."""
        if self.refuses:
            return [broken()] * len(rows)
        call = self.in_thread(loaded, rows)
        done, _ = await asyncio.wait([call], timeout=seconds)
        if done:
            return call.result()
        self.give_up(call)
        return [late()] * len(rows)

    def give_up(self, call: "asyncio.Future[Sequence[Scored]]") -> None:
        """Stop a call in the thread, if it can be stopped, and note that it was late."""
        call.cancel()  # where it waits for another one, it never begins
        self._stop()
        self.breaker.failed()
        if self.breaker.suspicious and not self.breaker.is_open:
            # Its thread is taken: no probe can show that the model still answers.
            self._opened(self.breaker.probed(good=False))

    def watch(self) -> None:
        """Stop a call that has gone on for a second; called now and then by another thread."""
        since = self._since
        if since and time.perf_counter_ns() - since > _STOP_NS:
            self._stop()

    @property
    def stuck(self) -> bool:
        """Whether a call has gone on for so long that only a restart will help."""
        since = self._since
        return bool(since) and time.perf_counter_ns() - since > _STUCK_SECONDS * 1e9

    def close(self) -> None:
        """End the thread once its call has ended; nobody waits for it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _stop(self) -> None:
        # Each call keeps the options that it began with: the next one must not be stopped as well.
        options, self._options = self._options, onnxruntime.RunOptions()
        options.terminate = True

    def _may_call(self, loaded: LoadedVersion) -> bool:
        if self.breaker.suspicious:
            self._opened(self.breaker.probed(self._probe(loaded)))
        return not self.breaker.is_open

    def _probe(self, loaded: LoadedVersion) -> bool:
        try:
            answers, _ = self._timed_call(loaded, [loaded.golden_row])
        except Exception:  # noqa: BLE001  # whatever a broken model does, it is broken
            return False
        return answers == [loaded.golden_answer]

    def _opened(self, is_open: bool) -> None:
        self._tell_state("open" if is_open else "closed")
        if is_open and self.breaker.failures:
            _log.error(
                "The model fails on a golden row too: it is left alone for a while.",
                extra={"event": "breaker", "state": "open"},
            )
        elif not is_open:
            _log.warning(
                "The model answers a golden row; it is called again.",
                extra={"event": "breaker", "state": "closed"},
            )

    def _timed(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], feeds: Feeds | None
    ) -> Sequence[Scored]:
        try:
            answers, checked = self._timed_call(loaded, rows, feeds)
        except Exception as error:  # noqa: BLE001  # the edge: an answer must say that it failed
            return self._apart(loaded, rows, error)
        if self.breaker.failures:
            self.breaker.failures = 0
        return answers if checked is None else list(map(_flagged, answers, checked))

    def _timed_call(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], feeds: Feeds | None = None
    ) -> tuple[list[Answer], list[Checked] | None]:
        begun = self._since = time.perf_counter_ns()
        try:
            packed = () if feeds is None else (feeds,)
            return loaded.predictor.answer_some(rows, self._options, *packed)
        finally:
            self._since = 0
            spent = time.perf_counter_ns() - begun
            if spent > _SLOW_NS or self.slow or self._long:
                self._judge(spent)

    def _judge(self, spent: int) -> None:
        # One long call may be the machine's doing, which took the processor away.
        self._long = self._long + 1 if spent > _SLOW_NS else 0
        self._fast = 0 if spent > _SLOW_NS else self._fast + (spent < _FAST_NS)
        if self.slow:
            self.slow = self._fast < _FAST_CALLS
        elif self._long >= _SLOW_CALLS or spent > _HANG_NS:
            self.slow, self._fast = True, 0

    def _apart(
        self, loaded: LoadedVersion, rows: Sequence[tuple[Any, ...]], error: Exception
    ) -> Sequence[Scored]:
        """Answer rows one by one: one of them may have broken the call for all."""
        if len(rows) == 1:
            self.breaker.failed()
            self._tell(error)
            return [ModelError("failed", f"the model failed ({type(error).__name__})")]
        return [self.now(loaded, [row])[0] for row in rows]

    def _tell(self, error: Exception) -> None:
        # Of many rows on which a model fails a second, one tells enough.
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            _log.error("A row could not be answered by the model.", exc_info=error)


def _flagged(answer: Answer, checked: Checked) -> Scored:
    if isinstance(checked, InputError):
        return checked
    return Flagged(answer, checked) if checked else answer


def late() -> ModelError:
    """Return that the model did not answer in time."""
    return ModelError("late", "the model did not answer in time")


def broken() -> ModelError:
    """Return that the model is not called."""
    return ModelError("broken", "the model fails again and again and is left alone for a while")
