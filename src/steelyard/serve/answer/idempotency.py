"""Requests that may be sent again: the client names the prediction, and it is made and logged once.

A client that lost the connection cannot know whether its request was answered. With the header
`Idempotency-Key` it chose the prediction's id itself, and asks again under the same id: a worker
that answered it already gives the same bytes; another worker answers anew under the same id, of
which the readers of the log keep one record.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from typing import Final

from steelyard.core.ids import CLOCK_TOLERANCE_MS, is_uuid7, milliseconds_of
from steelyard.core.json_text import field_error
from steelyard.errors import InputError

__all__ = ["HEADER", "Kept", "KeptAnswers", "request_key"]

HEADER: Final = b"idempotency-key"
_FIELD: Final = "Idempotency-Key"
_LONGEST: Final = 100


def request_key(headers: Iterable[tuple[bytes, bytes]], now_ms: int | None = None) -> str:
    """Return the key that a request's headers give, or nothing where they give none.

    Raises InputError where it is no UUIDv7, or was made by a clock that is far from `now_ms`: the
    log could not be searched by time.
    """
    given = next((value for name, value in headers if name == HEADER), None)
    if given is None:
        return ""
    key = given.decode("latin-1").strip('"')  # the header's draft standard wants quotes
    if not is_uuid7(key):
        raise _wrong("expected a UUIDv7 in lower case, which becomes the prediction's id", key)
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if abs(milliseconds_of(key) - now) > CLOCK_TOLERANCE_MS:
        minutes = CLOCK_TOLERANCE_MS // 60_000
        raise _wrong(
            f"expected a UUIDv7 made within {minutes} minutes of this server's clock, "
            "which the Date header tells",
            key,
        )
    return key


def _wrong(message: str, key: str) -> InputError:
    return InputError([field_error(_FIELD, message, key[:_LONGEST])])


class Kept:
    """What a key is used for; its answer once there is one."""

    __slots__ = ("answer", "at", "content", "done", "key")

    def __init__(self, key: str, content: bytes, at: float) -> None:
        self.key = key
        self.content = content
        self.at = at
        self.answer: bytes | None = None
        self.done: asyncio.Event | None = None  # made by who waits: most are never waited for


class KeptAnswers:
    """The latest answers by key, of one event loop: at most so many, so large and so old."""

    def __init__(
        self,
        *,
        most: int = 50_000,
        most_bytes: int = 32 * 1024 * 1024,
        seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def claim(self, key: str, content: bytes) -> tuple[Kept, bool]:
        """Return what is kept for a key, and whether it is new: then the caller has to settle it.

        Raises InputError where the key was used for other `content`.
        """
        digest = blake2b(content, digest_size=16).digest()
        self._forget()
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept(key, digest, self._clock())
            return kept, True
        if kept.content != digest:
            raise _wrong("expected a new key: this one was used for another request", key)
        return kept, False

    def settle(self, kept: Kept, outcome: object) -> None:
        """Keep the answer to what was claimed; anything but bytes is a failure and not kept."""
        if isinstance(outcome, bytes):
            kept.answer = outcome
            self._bytes += len(outcome)
        else:
            del self._kept[kept.key]
        if kept.done is not None:
            kept.done.set()

    async def once(self, key: str, content: bytes, answer: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer kept for a key, or that of `answer`, which is then kept.

        Who asks while the same is being answered waits for it. An answer that fails is not kept.
        Raises InputError where the key was used for other `content`, and what `answer` raises.
        """
        kept, new = self.claim(key, content)
        while not new:
            if kept.answer is not None:
                return kept.answer
            kept.done = kept.done or asyncio.Event()
            await kept.done.wait()
            kept, new = self.claim(key, content)
        found = None
        try:
            found = await answer()
        finally:
            self.settle(kept, found)
        return found

    def _forget(self) -> None:
        """Drop what is too old, and the oldest of what is too much."""
        oldest_wanted = self._clock() - self._seconds
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            crowded = len(self._kept) >= self._most or self._bytes > self._most_bytes
            if kept.answer is None or not (crowded or kept.at < oldest_wanted):
                return  # what is being answered is dropped when it is done
            del self._kept[key]
            self._bytes -= len(kept.answer)
