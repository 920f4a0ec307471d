"""Rows that are asked at the same moment, answered together; none waits for another to come.

A server that is free answers a row at once. While it works, requests gather in the kernel; they
are read in one turn of the event loop and are then one call of the model and one write of the log.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from steelyard.errors import SteelyardError
from steelyard.serve.answer.endpoint import AT_ONCE, Asked, Endpoint, Outcome

__all__ = ["Batches", "Settle"]

Settle = Callable[[Any], None]
"""Takes an answer, as bytes or `Answered` by how it was asked for, or the error that it is none."""
_Waiting = tuple[Asked, Settle]


class Batches:
    """Answers an endpoint's single rows from one event loop.

    `connections` says how many clients there are, and thus how many rows can come together.
    """

    def __init__(self, endpoint: Endpoint, connections: Callable[[], int]) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._waiting: list[_Waiting] = []

    def add(self, asked: Asked, settle: Settle) -> None:
        """Answer a row now or after the turn of the loop that is going on, in the order of adding.

        `settle` is given the answer, or the error that `Endpoint.answer` raises or says of the row.
        """
        waiting = self._waiting
        waiting.append((asked, settle))
        if len(waiting) >= self._connections():
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
        """Answer the rows that wait."""
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
            for _, settle in batch:
                settle(error)
            return
        except Exception as error:  # noqa: BLE001  # the edge: goes to whoever waits, not the loop
            if len(batch) == 1:
                batch[0][1](error)
                return
            # One row may have broken the call: the others are answered all the same.
            for one in batch:
                self._answer([one])
            return
        for (_, settle), outcome in zip(batch, outcomes, strict=True):
            settle(outcome)


def _resolve(future: "asyncio.Future[Any]", outcome: Outcome | Exception) -> None:
    if future.done():
        return  # whoever waited was cancelled
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
