"""FlatBuffers, in which Arrow describes its messages: as much as reading and writing those takes.

Every place that the bytes of a stranger name is checked before it is read.
"""

import struct
from typing import Any, Final

__all__ = ["BrokenError", "Node", "Table", "root", "written"]

_SLOTS: Final = 4
"""Where the first field stands in a vtable: behind its own size and the table's."""
_ALIGNMENT: Final = 8


class BrokenError(ValueError):
    """The bytes are not what they should be."""


class Table:
    """A table in a buffer. Fields are read by their number; absent ones have a default."""

    __slots__ = ("_at", "_buffer", "_fields", "_vtable")

    def __init__(self, buffer: bytes, at: int) -> None:
        self._buffer = buffer
        self._at = at
        self._vtable = at - _number(buffer, "<i", at)
        self._fields = _number(buffer, "<H", self._vtable)

    def number(self, field: int, kind: str = "<i", default: int = 0) -> int:
        """Return an integer, read as the `struct` format says."""
        place = self._place(field)
        return _number(self._buffer, kind, place) if place else default

    def text(self, field: int) -> str:
        """Return a string; an absent one is empty."""
        start, length = self.vector(field)
        if start + length > len(self._buffer):
            raise BrokenError("a text goes beyond its end")
        try:
            return self._buffer[start : start + length].decode()
        except UnicodeDecodeError:
            raise BrokenError("a text is not UTF-8") from None

    def table(self, field: int) -> "Table | None":
        """Return a table within this one, if it is there."""
        place = self._place(field)
        return Table(self._buffer, self._target(place)) if place else None

    def tables(self, field: int, most: int) -> "list[Table]":
        """Return a vector of at most `most` tables."""
        start, count = self.vector(field)
        if count > most:
            raise BrokenError(f"expected at most {most} fields, got {count}")
        return [Table(self._buffer, self._target(start + 4 * i)) for i in range(count)]

    def numbers(self, field: int, width: int = 1) -> tuple[int, ...]:
        """Return a vector of N int64, or of N structs of `width` of them, as one tuple."""
        start, count = self.vector(field)
        if start + 8 * width * count > len(self._buffer):
            raise BrokenError("a list goes beyond its end")
        return struct.unpack_from(f"<{width * count}q", self._buffer, start)

    def vector(self, field: int) -> tuple[int, int]:
        """Return where the elements of a vector start, and how many there are."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._target(place)
        return start + 4, _number(self._buffer, "<I", start)

    def _place(self, field: int) -> int:
        slot = _SLOTS + 2 * field
        if slot + 2 > self._fields:
            return 0
        offset = _number(self._buffer, "<H", self._vtable + slot)
        return self._at + offset if offset else 0

    def _target(self, place: int) -> int:
        return place + _number(self._buffer, "<I", place)


def root(buffer: bytes) -> Table:
    """Return the table that a buffer holds."""
    return Table(buffer, _number(buffer, "<I", 0))


def _number(buffer: bytes, kind: str, at: int) -> int:
    if at < 0:  # which `struct` would count from the end
        raise BrokenError("a place lies before the beginning")
    try:
        found: int = struct.unpack_from(kind, buffer, at)[0]
    except struct.error:
        raise BrokenError("a place lies beyond the end") from None
    return found


class Node:
    """A table to be written: its fields by number.

    A field is a number with its `struct` code, a text, a table, a list of tables, or the bytes of a
    whole vector with its count.
    """

    def __init__(self, fields: dict[int, Any]) -> None:
        self.fields = fields


def written(node: Node) -> bytes:
    """Return the buffer that holds a table.

    >>> root(written(Node({0: ("i", 7), 2: "text"}))).text(2)
    'text'
    """
    buffer = bytearray(8)
    struct.pack_into("<I", buffer, 0, _put_table(buffer, node))
    return bytes(buffer)


def _put_table(buffer: bytearray, node: Node) -> int:
    """Append a table, and behind it what it refers to; return its place."""
    places: dict[int, int] = {}
    size = 4
    # Large ones first, so that none needs a gap before it.
    for width in (8, 4, 2, 1):
        for field, value in node.fields.items():
            if _width(value) == width:
                size += -size % width
                places[field] = size
                size += width
    slots = 1 + max(node.fields, default=-1)
    vtable = struct.pack(
        f"<HH{slots}H", _SLOTS + 2 * slots, size, *(places.get(i, 0) for i in range(slots))
    )
    _pad(buffer, len(vtable))
    buffer += vtable
    at = len(buffer)
    buffer += bytes(size)
    struct.pack_into("<i", buffer, at, len(vtable))
    for field, value in node.fields.items():
        place = at + places[field]
        if isinstance(value, tuple):
            struct.pack_into(f"<{value[0]}", buffer, place, value[1])
        else:
            struct.pack_into("<I", buffer, place, _put(buffer, value) - place)
    return at


def _put(buffer: bytearray, value: Any) -> int:
    """Append what a field refers to; return its place."""
    if isinstance(value, Node):
        return _put_table(buffer, value)
    if isinstance(value, str):
        _pad(buffer)
        at, text = len(buffer), value.encode()
        buffer += struct.pack("<I", len(text)) + text + b"\0"
        return at
    if isinstance(value, bytes):  # structs of int64, which stand behind their number aligned
        _pad(buffer, 4)
        at = len(buffer)
        buffer += value
        return at
    _pad(buffer)
    at = len(buffer)
    buffer += struct.pack("<I", len(value)) + bytes(4 * len(value))
    for i, node in enumerate(value):
        place = at + 4 + 4 * i
        struct.pack_into("<I", buffer, place, _put_table(buffer, node) - place)
    return at


def _pad(buffer: bytearray, ahead: int = 0) -> None:
    """Fill up, so that what stands `ahead` bytes from here is aligned."""
    buffer += bytes(-(len(buffer) + ahead) % _ALIGNMENT)


def _width(value: Any) -> int:
    return struct.calcsize(f"<{value[0]}") if isinstance(value, tuple) else 4
