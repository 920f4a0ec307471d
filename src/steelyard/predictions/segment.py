r"""A segment: one writer's file of records, a line each, with a checksum.

    steelyard-log 5f1e3b7a 96 {"format":1,"model":"churn",...}\n
    9ae0daaf 412 {"prediction_id":"01a2...",...}\n

A frame is the CRC-32 of the payload in hexadecimal, the payload's length in bytes, the payload,
a line end. `less`, `grep` and `jq` read it; the reader below trusts only the checksum.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import msgspec

from steelyard.core.ids import is_uuid7, milliseconds_of
from steelyard.errors import StoreError, UsageError

__all__ = ["Damage", "Header", "SegmentReader", "framed", "framed_many", "read_segment"]

FORMAT = 1
NEW = ".new"
"""What a segment's name ends with until it is locked and has its header."""
_MAGIC = b"steelyard-log "
_LONGEST_LENGTH = 20
_LINE_END = 10
_NAME = re.compile(r"([0-9a-f-]{36})-[0-9]+\.log")


class Header(msgspec.Struct, frozen=True):
    """Who writes a segment, and in which format."""

    format: int
    model: str
    worker: int
    pid: int


class _Format(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment that cannot be used.

    `torn`: the tail that a killed writer did not finish; `corrupt`: the checksum fails;
    `unreadable`: the bytes are as written, but no record of a known form.
    """

    path: Path
    offset: int
    length: int
    reason: Literal["torn", "corrupt", "unreadable"]

    def __str__(self) -> str:
        return f"{self.path}: {self.length} bytes at offset {self.offset} are {self.reason}"


def framed(payload: bytes) -> bytes:
    r"""Return a payload as one checked line.

    >>> framed(b'{"a":1}')
    b'561bacaf 7 {"a":1}\n'

    Raises:
        UsageError: The payload holds a line end.
    """
    return framed_many((payload,))


def framed_many(payloads: Iterable[bytes]) -> bytes:
    r"""Return payloads as checked lines, one behind the other.

    Raises:
        UsageError: A payload holds a line end.
    """
    parts: list[bytes] = []
    for payload in payloads:
        if b"\n" in payload:
            raise UsageError(
                f"a record is one line of JSON, got a line end at byte {payload.index(_LINE_END)}",
                fix="Encode it without indentation; JSON escapes line ends inside strings.",
            )
        parts += (b"%08x %d " % (crc32(payload), len(payload)), payload, b"\n")
    return b"".join(parts)


def header_line(header: Header) -> bytes:
    """Return a segment's first line."""
    return _MAGIC + framed(msgspec.json.encode(header))


def start_of(path: Path) -> int | None:
    """Return a segment's start in milliseconds since 1970 by its name; None for other files."""
    match = _NAME.fullmatch(path.name)
    if match is None or not is_uuid7(match[1]):
        return None
    return milliseconds_of(match[1])


def _payload_at(line: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `start` begins and ends, if its checksum holds."""
    begin = line.find(b" ", start + 9, start + 10 + _LONGEST_LENGTH) + 1
    digits = line[start + 9 : begin - 1]
    if not begin or not digits.isdigit():
        return None
    end = begin + int(digits)
    payload = line[begin:end]
    # Built anew and compared, so that a flip which leaves the numbers equal is seen too.
    if not line.startswith(b"%08x %d " % (crc32(payload), len(payload)), start):
        return None
    return begin, end


def _header_of(path: Path, payload: bytes) -> Header:
    try:
        number = msgspec.json.decode(payload, type=_Format).format
        if number == FORMAT:
            return msgspec.json.decode(payload, type=Header)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{path} has no readable header: {error}") from error
    raise StoreError(
        f"{path} has log format {number}, expected {FORMAT}",
        fix="Read it with the version of steelyard that wrote it, or a newer one.",
    )


class SegmentReader(Iterator[bytes]):
    """Gives a segment's payloads in the order of writing.

    Ends cleanly at a tail that was not written whole: `dropped_bytes` tells its length. What is
    broken before the tail is passed over and listed in `damage`, as is the tail. Bytes that a living writer adds
    after the first `next` are not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.offset = 0
        """Where in the file the last given payload begins."""
        self.dropped_bytes = 0
        """Length of the torn tail."""
        self.damage: list[Damage] = []
        """Every stretch that was left out, the torn tail among them."""
        self._payloads = self._walk()

    def __next__(self) -> bytes:
        return next(self._payloads)

    def _walk(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=1 << 18) as file:
            size = file.seek(0, 2)
            file.seek(0)
            first = file.readline()
            yield from self._read_header(first)
            place = len(first)
            # Without this bound a slow reader would run after a fast writer for ever.
            while place < size:
                line = file.readline()
                where = _payload_at(line, 0)
                if where is None:
                    self._note(line, 0, place)
                else:
                    self.offset = place + where[0]
                    yield line[where[0] : where[1]]
                    if where[1] != len(line) - 1:
                        yield from self._after(line, where[1], place)
                place += len(line)

    def _read_header(self, line: bytes) -> Iterator[bytes]:
        where = _payload_at(line, len(_MAGIC)) if line.startswith(_MAGIC) else None
        if where is None:
            self._note(line, 0, 0)
            return
        self.header = _header_of(self.path, line[where[0] : where[1]])
        yield from self._after(line, where[1], 0)

    def _after(self, line: bytes, end: int, place: int) -> Iterator[bytes]:
        """Give the frames that follow a good one in its line, where the line end is damaged."""
        while end < len(line):
            if line[end] != _LINE_END:
                self.damage.append(Damage(self.path, place + end, 1, "corrupt"))
            if end + 1 == len(line):
                return
            where = _payload_at(line, end + 1)
            if where is None:
                self._note(line, end + 1, place)
                return
            self.offset = place + where[0]
            yield line[where[0] : where[1]]
            end = where[1]

    def _note(self, line: bytes, start: int, place: int) -> None:
        rest = len(line) - start
        torn = not line.endswith(b"\n")
        self.damage.append(Damage(self.path, place + start, rest, "torn" if torn else "corrupt"))
        if torn:
            self.dropped_bytes = rest


def read_segment(path: Path) -> SegmentReader:
    """Return an iterator over a segment's payloads that reports what it had to leave out.

    Raises (when iterated):
        FileNotFoundError: There is no such segment (any more).
        StoreError: The segment was written in another format.
    """
    return SegmentReader(path)
