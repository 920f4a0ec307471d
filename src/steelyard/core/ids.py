"""Prediction ids: UUIDv7, which sort by time and carry it."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import accumulate, count, islice
from time import time_ns
from typing import Final

from steelyard.errors import UsageError

__all__ = [
    "CLOCK_TOLERANCE_MS",
    "floor_of",
    "is_uuid7",
    "milliseconds_of",
    "number_of",
    "row_ids",
    "time_of",
    "uuid7",
]

CLOCK_TOLERANCE_MS: Final = 300_000
"""How far the clock of a client that makes its own ids may be from the server's: a log is searched
by the time in its ids."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_POOL_BYTES = 1024
_SLEEP_MS = 1000
_LAST_SERIES = (1 << 26) - 1


class _Series:
    """Ids of one millisecond: 26 bits name the series, 48 bits climb in it by random steps.

    A new series is random in a new millisecond and greater than the last within one, so ids
    ascend, and none tells the next. `next` on the climbing counter is one call into C and thus
    atomic; only a change of series takes the lock.
    """

    __slots__ = ("_current", "_lock", "_ms", "_noise", "_number")

    def __init__(self) -> None:
        self._ms = self._number = 0
        self.forget()

    def forget(self) -> None:
        """Drop what a forked child shares with its parent: the lock's state and the noise."""
        self._lock = threading.Lock()
        self._noise: Iterator[int] = iter(())
        self._current: tuple[int, str, Callable[[], int]] = (0, "", iter(()).__next__)

    def _change(self) -> None:
        with self._lock:
            now = time_ns() // 1_000_000
            drawn = list(islice(self._noise, 3))
            # Long asleep is maybe copied: two restored images of a machine share their noise.
            if len(drawn) < 3 or now > self._ms + _SLEEP_MS:
                self._noise = map((1).__or__, memoryview(os.urandom(_POOL_BYTES)).cast("I"))
                drawn = list(islice(self._noise, 3))
            if now > self._ms:
                self._ms, self._number = now, drawn[0] >> 7
            else:
                self._number += 1 + (drawn[0] >> 22)
            if self._number > _LAST_SERIES:
                self._ms, self._number = self._ms + 1, drawn[0] >> 7
            high, low = self._number >> 14, 0x8000 | self._number & 0x3FFF
            prefix = f"{floor_of(self._ms)}-7{high:03x}-{low:04x}-%012x"
            counter = accumulate(self._noise, initial=(drawn[1] << 32 | drawn[2]) >> 17)
            self._current = ((self._ms + 1) * 1_000_000, prefix, counter.__next__)

    def next_id(self) -> str:
        while True:
            end, prefix, following = self._current
            try:
                if time_ns() < end:
                    return prefix % following()
            except StopIteration:
                pass
            self._change()


_series = _Series()
_next_id = _series.next_id
os.register_at_fork(after_in_child=_series.forget)


def uuid7() -> str:
    """Return a new UUIDv7, greater than every id that this process had before the call.

    >>> first, second = uuid7(), uuid7()
    >>> first < second, len(first), first[14]
    (True, 36, '7')
    """
    return _next_id()


def row_ids(key: str) -> Iterator[str]:
    """Give the ids of the rows of a request whose key is a UUIDv7: always the same for a key.

    They carry the key's time. Rows of different keys do not meet: where they begin is a hash.

    >>> list(islice(row_ids("01a20e21-9020-7e2a-b4b1-0230b800b3eb"), 2))
    ['01a20e21-9020-7e2a-a94d-2585e7bb2a73', '01a20e21-9020-7e2a-a94d-2585e7bb2a74']
    """
    for number in count(int.from_bytes(blake2b(key.encode(), digest_size=8).digest())):
        low = 1 << 63 | number % (1 << 62)
        yield f"{key[:19]}{low >> 48:04x}-{low & (1 << 48) - 1:012x}"


def is_uuid7(text: str) -> bool:
    """Say whether `text` is a UUIDv7 in its canonical lower-case form."""
    return _SHAPE.fullmatch(text) is not None


def milliseconds_of(prediction_id: str) -> int:
    """Return the milliseconds since 1970 that a valid UUIDv7 carries."""
    return int(prediction_id[:8] + prediction_id[9:13], 16)


def number_of(text: str) -> int:
    """Return an id, or a floor, as a number of 128 bits in the same order.

    >>> number_of(floor_of(1)) == 1 << 80
    True
    """
    return int(text.replace("-", "").ljust(32, "0"), 16)


def floor_of(milliseconds: int) -> str:
    """Return a text that sorts at or before every id of this millisecond and after all earlier.

    >>> floor_of(0x0192F3A4B5C6)
    '0192f3a4-b5c6'
    """
    stamp = f"{max(milliseconds, 0):012x}"
    return f"{stamp[:8]}-{stamp[8:]}"


def time_of(prediction_id: str) -> datetime:
    """Return when an id was made, in UTC, to the millisecond.

    >>> time_of("01a20e21-9020-7e2a-b4b1-0230b800b3eb").isoformat()
    '2026-11-24T15:16:50.336000+00:00'

    Raises:
        UsageError: The text is no UUIDv7, or its time lies beyond the year 9999.
    """
    if not is_uuid7(prediction_id):
        raise UsageError(
            f"expected a prediction id (a UUIDv7), got {prediction_id[:60]!r}",
            fix="Copy the prediction_id from an answer or from `steelyard log`.",
        )
    try:
        return EPOCH + timedelta(milliseconds=milliseconds_of(prediction_id))
    except OverflowError:
        raise UsageError(f"the time in {prediction_id} lies beyond the year 9999") from None
