"""A small HTTP client that asks a started server as its clients will: keep-alive, one at a time."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt

from steelyard.errors import RefusedError
from steelyard.validate.candidate import Address

__all__ = ["Probe"]

_TIMEOUT: Final = 30.0
_SHOWN: Final = 300
_OK: Final = 200


class Probe:
    """Asks one model of a server; use it as a context manager.

    Every method raises RefusedError where the server does not answer 200, with what it said.
    """

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=_TIMEOUT
        )
        self._path = f"{parts.path.rstrip('/')}/predict/{quote(address.model, safe='')}"

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def ask(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one row of JSON values."""
        answer: dict[str, Any] = json.loads(self._post(_encode(row)))
        return answer

    def ask_many(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers to N rows that were sent as one request."""
        answers: list[dict[str, Any]] = json.loads(self._post(_encode({"rows": rows})))[
            "predictions"
        ]
        return answers

    def measure(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        warm_up: int = 50,
        fewest: int = 200,
        most: int = 500,
        seconds: float = 3.0,
    ) -> npt.NDArray[np.float64]:
        """Return the milliseconds that each of many requests took, one row each, in turn.

        `rows` are asked round and round: `most` times, or after `seconds` at least `fewest` times.
        """
        bodies = [_encode(row) for row in rows]
        for i in range(warm_up):
            self._post(bodies[i % len(bodies)])
        taken = []
        started = time.perf_counter()
        for i in range(most):
            before = time.perf_counter_ns()
            self._post(bodies[i % len(bodies)])
            after = time.perf_counter_ns()
            taken.append((after - before) / 1e6)
            if len(taken) >= fewest and time.perf_counter() - started > seconds:
                break
        return np.array(taken)

    def _post(self, body: bytes) -> bytes:
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != _OK:
            said = answer[:_SHOWN].decode("utf-8", "replace")
            raise RefusedError(f"the server answered {response.status}: {said}")
        return answer


def _encode(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
