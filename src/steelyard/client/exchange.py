"""One request and what became of it, without the connection: headers, errors, when to ask again."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from steelyard.core.ids import CLOCK_TOLERANCE_MS, floor_of, milliseconds_of, time_of, uuid7
from steelyard.errors import (
    AccessError,
    InputError,
    NotFoundError,
    SteelyardError,
    UnavailableError,
    UsageError,
)

__all__ = ["Call", "Clock"]

_JSON: Final = "application/json"
_KEY: Final = "Idempotency-Key"
_DEADLINE: Final = "Steelyard-Timeout-Ms"
_OK: Final = 200
_NOT_NOW: Final = frozenset([429, 502, 503, 504])
"""Statuses, of a server or of a balancer before it, that may be others the next time."""
_SHARE: Final = 0.9
"""The server is told so much of the time that is left: its answer has to travel."""
_SHOWN: Final = 1_000
_KEY_WANTED: Final = "Give the client api_key=, or set STEELYARD_API_KEY."
_URL_WANTED: Final = "Give the client the URL that `steelyard serve` prints."


class Clock:
    """Makes keys by the server's clock: how far that is ahead (ms) is learnt when it minds."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def new_key(self) -> str:
        """Return a new UUIDv7 with the server's time."""
        made = uuid7()
        if not self.ahead_ms:
            return made
        return floor_of(milliseconds_of(made) + self.ahead_ms) + made[13:]

    def learn(self, headers: Mapping[str, str]) -> bool:
        """Take the server's time from the header Date; say whether it is another one than thought."""
        at = _seconds_of(headers.get("date", ""))
        if at is None:
            return False
        ahead = int((at - time.time()) * 1_000)
        changed = abs(ahead - self.ahead_ms) > CLOCK_TOLERANCE_MS // 2
        if changed:
            self.ahead_ms = ahead
        return changed


class Call:
    """One request, sent under one key until it is answered or `seconds` are over.

    Without a body it asks what the server offers. Raises UsageError where `key` is no UUIDv7.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        body: bytes | None = None,
        *,
        key: str = "",
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> None:
        if key:
            time_of(key)
        self.method = "GET" if body is None else "POST"
        self.body = body
        self.key = key or clock.new_key()
        self.tries = 0
        self._own_key = bool(key)
        self._forms = {"Content-Type": content_type, "Accept": accept}
        self._clock = clock
        self._deadline = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, a little at least."""
        return max(self._deadline - time.monotonic(), 0.001)

    def headers(self) -> dict[str, str]:
        """Return the headers of the next try, and count it."""
        self.tries += 1
        if self.body is None:
            return {"Accept": _JSON}
        told = max(int(self.left() * _SHARE * 1_000), 1)
        return {**self._forms, _KEY: self.key, _DEADLINE: str(told)}

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
        """Return the body of a good answer.

        Raises InputError, NotFoundError, AccessError or UsageError where the request is wrong,
        UnavailableError where the server is.
        """
        if status == _OK:
            return body
        raise self._error(status, headers, _told(body))

    def _error(
        self, status: int, headers: Mapping[str, str], told: str | list[dict[str, Any]]
    ) -> SteelyardError:
        if isinstance(told, list):
            minds_key = told[0]["field"] == _KEY and not self._own_key
            if minds_key and self._clock.learn(headers):
                self.key = self._clock.new_key()
                return UnavailableError("its clock is another one", status=status, retry_after=0.0)
            return InputError(told)
        said = f"it answered {status}" + (f": {told}" if told else "")
        if status in _NOT_NOW:
            return UnavailableError(said, status=status, retry_after=_retry_after(headers))
        if status in (401, 403):
            return AccessError(told or said, fix=_KEY_WANTED)
        if not told or status >= 500:
            fix = None if told else _URL_WANTED
            return UnavailableError(said, status=status, fix=fix)
        return NotFoundError(told) if status == 404 else UsageError(said)


def _told(body: bytes) -> str | list[dict[str, Any]]:
    """Return what a server says is wrong: with which fields, or in one message."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    if isinstance(errors, list) and errors and all(isinstance(e, dict) for e in errors):
        return [{"field": "", "message": "", **error} for error in errors]
    return str(document.get("error", ""))[:_SHOWN]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After names, as a number or as a date."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    at = _seconds_of(text)
    return 0.0 if at is None else max(at - time.time(), 0.0)


def _seconds_of(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
