"""The loop of an AWS Lambda runtime: the next event, its response; no framework, no client library.

Source: the runtime API of AWS Lambda, version 2018-06-01.
"""

import http.client
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from steelyard.errors import InputError, StoreError
from steelyard.serve.contracts.aws_lambda import Function, FunctionError

__all__ = ["loop"]

_log = logging.getLogger(__name__)

_BASE: Final = "/2018-06-01/runtime"
_KIND: Final = "Lambda-Runtime-Function-Error-Type"
_TRACE: Final = "_X_AMZN_TRACE_ID"
_ACCEPTED: Final = 202
_TOO_LARGE: Final = 413
_EXPECTED: Final = (InputError, FunctionError)


class _Api:
    """The runtime API, over one connection that is kept."""

    def __init__(self, address: str) -> None:
        # No timeout: the environment is frozen while no event comes.
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> tuple[Mapping[str, str], bytes]:
        """Return the headers and the body of the next event."""
        self._connection.request("GET", f"{_BASE}/invocation/next")
        found = self._connection.getresponse()
        body = found.read()
        if found.status != 200:
            raise StoreError(f"the runtime API answers {found.status} where an event was asked for")
        return {name.lower(): value for name, value in found.getheaders()}, body

    def post(self, route: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Hand something over; return the status."""
        given = {"Content-Type": "application/json", **(headers or {})}
        self._connection.request("POST", f"{_BASE}{route}", body, given)
        found = self._connection.getresponse()
        found.read()
        return found.status

    def fail(self, route: str, error: Exception) -> None:
        """Hand over why there is no response."""
        kind = type(error).__name__
        document = {"errorMessage": str(error), "errorType": kind, "stackTrace": []}
        status = self.post(route, msgspec.json.encode(document), {_KIND: f"Steelyard.{kind}"})
        if status != _ACCEPTED:
            raise StoreError(f"the runtime API answers {status} to an error")


def loop(address: str, make: Callable[[], Function]) -> None:
    """Make a function and answer events until the process is ended.

    `address` is the host and port of the runtime API. Raises what `make` raises, told as an error
    of the initialisation; StoreError and OSError where the runtime API fails.
    """
    api = _Api(address)
    try:
        function = make()
    except Exception as error:
        api.fail("/init/error", error)
        raise
    while True:
        _answer_next(api, function)


def _answer_next(api: _Api, function: Function) -> None:
    headers, event = api.next()
    event_id = headers["lambda-runtime-aws-request-id"]
    os.environ.pop(_TRACE, None)
    if "lambda-runtime-trace-id" in headers:
        os.environ[_TRACE] = headers["lambda-runtime-trace-id"]
    try:
        answer = function(event, _remaining(headers.get("lambda-runtime-deadline-ms", "")))
    except Exception as error:  # noqa: BLE001  # the edge: goes to the invoker, the loop goes on
        if not isinstance(error, _EXPECTED):
            _log.exception("An event could not be answered.")
        api.fail(f"/invocation/{event_id}/error", error)
        return
    status = api.post(f"/invocation/{event_id}/response", answer)
    if status == _TOO_LARGE:
        message = f"the runtime API takes no answer of {len(answer)} bytes"
        api.fail(f"/invocation/{event_id}/error", FunctionError(_TOO_LARGE, message))
    elif status != _ACCEPTED:
        raise StoreError(f"the runtime API answers {status} to a response")


def _remaining(deadline: str) -> int | None:
    return int(deadline) - time.time_ns() // 1_000_000 if deadline.isdigit() else None
