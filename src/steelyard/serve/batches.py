"""Rows that are asked at the same moment, answered together; none waits for another to come.

A server that is free answers a row at once. While it works, requests gather in the kernel; they
are read in one turn of the event loop and are then one call of the model and one write of the log.
"""

import asyncio
from collections.abc import Callable

from steelyard.errors import SteelyardError
from steelyard.serve.endpoint import AT_ONCE, Asked, Endpoint

__all__ = ["Batches"]

_Waiting = tuple[Asked, "asyncio.Future[bytes]"]


class Batches:
    """Answers an endpoint's single rows from one event loop.

    `in_flight` says how many requests the server has taken and not answered.
    """

    def __init__(self, endpoint: Endpoint, in_flight: Callable[[], int]) -> None:
        self._endpoint = endpoint
        self._in_flight = in_flight
        self._waiting: list[_Waiting] = []

    def answer(self, asked: Asked) -> "asyncio.Future[bytes]":
        """Return the answer, or the answer to come after the turn of the loop that is going on.

        It raises what `Endpoint.answer` raises or says of the row.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append((asked, future))
        if len(self._waiting) >= self._in_flight():
            self._answer_all()  # nobody else can join: each further turn of the loop would cost
        elif len(self._waiting) == 1:
            # Behind all requests that were read in this turn, before the loop looks for more.
            loop.call_soon(self._answer_all)
        return future

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        start = 0
        while start < len(waiting):
            # Rows of one version: another may have been taken over between two requests.
            loaded = waiting[start][0].loaded
            end = start + 1
            while end < min(len(waiting), start + AT_ONCE) and waiting[end][0].loaded is loaded:
                end += 1
            self._answer(waiting[start:end])
            start = end

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = self._endpoint.answer([asked for asked, _ in batch])
        except SteelyardError as error:
            for _, future in batch:
                _settle(future, error)
            return
        except Exception as error:  # noqa: BLE001  # the edge: goes to whoever waits, not the loop
            if len(batch) == 1:
                _settle(batch[0][1], error)
                return
            # One row may have broken the call: the others are answered all the same.
            for one in batch:
                self._answer([one])
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            _settle(future, outcome)


def _settle(future: "asyncio.Future[bytes]", outcome: bytes | Exception) -> None:
    if future.done():
        return  # whoever waited was cancelled
    if isinstance(outcome, bytes):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
