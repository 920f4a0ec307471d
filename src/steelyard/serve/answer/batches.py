"""Rows that are asked at the same moment, answered together; none waits for another to come.

A server that is free answers a row at once. While it works, requests gather in the kernel; they
are read in one turn of the event loop and are then one call of the model and one write of the log.
While a slow model works in its thread, rows gather here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from steelyard.errors import SteelyardError
from steelyard.serve.answer.calls import Scored, broken, late
from steelyard.serve.answer.endpoint import AT_ONCE, Asked, Endpoint, Outcome

__all__ = ["Batches", "BusyError", "Settle"]

_log = logging.getLogger(__name__)

Settle = Callable[[Any], None]
"""Takes an answer, as bytes or `Answered` by how it was asked for, or the error that it is none."""
_Waiting = tuple[Asked, Settle]


class BusyError(SteelyardError):
    """As much waits as the server lets wait."""


class Batches:
    """Answers an endpoint's single rows from one event loop.

    `connections` says how many clients there are, and thus how many rows can come together.
    """

    def __init__(self, endpoint: Endpoint, connections: Callable[[], int]) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._most = endpoint.limits.waiting_rows
        self._waiting: list[_Waiting] = []
        self._slowly: asyncio.Task[None] | None = None
        self._until = 0
        self._hurry = asyncio.Event()
        """Set where a row has less time than those for which the call in the thread is waited for."""

    @property
    def slow(self) -> bool:
        """Whether rows wait for a model that works in its thread."""
        return self._slowly is not None or self._endpoint.calls.slow

    @property
    def waiting(self) -> int:
        """Rows that were asked and that the model has not been called for."""
        return len(self._waiting)

    def add(self, asked: Asked, settle: Settle) -> None:
        """Answer a row now or after the turn of the loop that is going on, in the order of adding.

        `settle` is given the answer, or the error that `Endpoint.finish` raises or says of the row,
        or BusyError.
        """
        waiting = self._waiting
        if len(waiting) >= self._most:
            settle(BusyError("too many rows wait for their answers; send this one again"))
            return
        waiting.append((asked, settle))
        if self.slow:
            self._begin_slowly()
            if asked.due < self._until:
                self._hurry.set()
        elif len(waiting) >= self._connections():
            self.answer_all()  # nobody else can join: each further turn of the loop would cost
        elif len(waiting) == 1:
            # Behind all requests that were read in this turn, before the loop looks for more.
            asyncio.get_running_loop().call_soon(self.answer_all)

    def answer(self, asked: Asked) -> "asyncio.Future[Any]":
        """Return the answer to come; it raises what `add` would settle with."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.add(asked, partial(_resolve, future))
        return future

    def answer_all(self) -> None:
        """Answer the rows that wait, in place; those for which the model is slow go on to wait."""
        while self._waiting and not self.slow:
            self._answer(self._taken())
        if self._waiting:
            self._begin_slowly()

    def _taken(self) -> list[_Waiting]:
        """Take rows of one version: another may have been taken over between two requests."""
        waiting = self._waiting
        most = min(len(waiting), AT_ONCE)
        end = min(1, most)
        while end < most and waiting[end][0].loaded is waiting[0][0].loaded:
            end += 1
        self._waiting = waiting[end:]
        return waiting[:end]

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = self._endpoint.answer([asked for asked, _ in batch])
        except Exception as error:  # noqa: BLE001  # the edge: goes to whoever waits, not the loop
            _settle_all(batch, [error] * len(batch))
            return
        _settle_all(batch, outcomes)

    def _finish(self, batch: list[_Waiting], scored: Sequence[Scored], begun: int) -> None:
        try:
            outcomes = self._endpoint.finish([asked for asked, _ in batch], scored, begun)
        except Exception as error:  # noqa: BLE001  # the edge: goes to whoever waits, not the loop
            _settle_all(batch, [error] * len(batch))
            return
        _settle_all(batch, outcomes)

    def _begin_slowly(self) -> None:
        if self._slowly is None:
            self._slowly = asyncio.get_running_loop().create_task(self._answer_slowly())

    async def _answer_slowly(self) -> None:
        """Answer rows by calls in the thread until none waits; nobody waits longer than it may."""
        try:
            while batch := self._taken():
                left = dict(enumerate(batch))
                try:
                    await self._answer_in_time(left)
                except Exception as error:  # noqa: BLE001  # the edge: nobody is left to wait for ever
                    _settle_all(list(left.values()), [error] * len(left))
        finally:
            self._slowly = None

    async def _answer_in_time(self, left: dict[int, _Waiting]) -> None:
        """Answer a batch, taking from `left` whoever is answered."""
        begun = time.perf_counter_ns()
        calls, batch = self._endpoint.calls, list(left.values())
        if calls.refuses:
            left.clear()
            self._finish(batch, [broken()] * len(batch), begun)
            return
        call = calls.in_thread(batch[0][0].loaded, [asked.values for asked, _ in batch])
        while left and not call.done():
            await self._wait(call, min(asked.due for asked, _ in [*left.values(), *self._waiting]))
            if not call.done():
                self._take_late(left, begun)
        if not left:
            calls.give_up(call)
            return
        scored = call.result()
        found = [scored[i] for i in left]
        batch = list(left.values())
        left.clear()
        self._finish(batch, found, begun)

    async def _wait(self, call: "asyncio.Future[Any]", until: int) -> None:
        """Wait for a call until some time, or until a row comes that has less time."""
        self._until = until
        self._hurry.clear()
        hurry = asyncio.ensure_future(self._hurry.wait())
        seconds = max(until - time.perf_counter_ns(), 0) / 1e9
        await asyncio.wait([call, hurry], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()

    def _take_late(self, left: dict[int, _Waiting], begun: int) -> None:
        """Answer those whose time is up, of a batch and of the rows that wait behind it."""
        now = time.perf_counter_ns()
        gone = [left.pop(i) for i in [i for i, one in left.items() if one[0].due <= now]]
        gone += [one for one in self._waiting if one[0].due <= now]
        self._waiting = [one for one in self._waiting if one[0].due > now]
        for one in gone:
            self._finish([one], [late()], begun)


def _settle_all(batch: list[_Waiting], outcomes: Sequence[Outcome | Exception]) -> None:
    for (_, settle), outcome in zip(batch, outcomes, strict=True):
        try:
            settle(outcome)
        except Exception as error:  # noqa: BLE001  # one client's trouble must not reach the next
            _log.error("An answer could not be given.", exc_info=error)


def _resolve(future: "asyncio.Future[Any]", outcome: Outcome | Exception) -> None:
    if future.done():
        return  # whoever waited was cancelled
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
