"""A column as a batch stores it, in its buffers, and parts of it as values."""

import struct
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.serve.tables.flatbuffer import BrokenError
from steelyard.serve.tables.schema import Column

__all__ = ["Bits", "Part", "Stored", "TooLargeError", "Words"]

Array = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]

_UINT8: Final = np.dtype(np.uint8)
_INLINE: Final = 12
_VIEW: Final = 16
_SHORT: Final = "a column is shorter than its batch"
_BEYOND: Final = "a text lies beyond its column"
_PLACE: Final = "a place lies beyond its dictionary"


class TooLargeError(ValueError):
    """A table is larger, once written out value by value, than it may be."""


@dataclass(slots=True)
class Part:
    """Values [N] of consecutive rows of a column: an array or a list of texts, None where none.

    `valid` is a mask, or None where no value is null. `nbytes` is at least their size, written out
    value by value. Where the texts are a dictionary's, they are those of `words` at `codes`.
    """

    values: Any
    valid: Bits | None
    nbytes: int
    codes: Array | None = None
    words: "Words | None" = None


@dataclass(slots=True, eq=False)
class Words:
    """A dictionary of texts, None for null, with their lengths in bytes; it may grow."""

    texts: list[str | None] = field(default_factory=list)
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    longest: int = 0
    size: int = 0
    notes: dict[Any, Any] = field(default_factory=dict)
    """What others found out about the words that are here, each under a key of its own."""

    def add(self, part: Part) -> None:
        """Append the texts of a part."""
        found: list[str | None] = part.values
        if part.valid is not None:
            found = [t if v else None for t, v in zip(found, part.valid.tolist(), strict=True)]
        lengths = [len(t.encode("utf-8", "surrogateescape")) if t else 0 for t in found]
        self.texts += found
        self.lengths.extend(lengths)
        self.longest = max(self.longest, *lengths, 0)
        self.size += sum(lengths)
        self.notes.clear()

    def nbytes(self, codes: Array, most: int) -> int:
        """Return the size of words at some places; no more than needed to know it below `most`."""
        bound = len(codes) * self.longest
        if bound <= most:
            return bound
        return int(np.frombuffer(self.lengths, np.int64)[codes].sum())


class Stored:
    """A column of a batch in its buffers, of which `most` bytes are written out at once.

    `places` holds where each buffer begins in the batch's body, and its length.
    """

    __slots__ = ("_body", "_column", "_dictionary", "_most", "_nulls", "_places", "rows")

    def __init__(  # one a part of a batch
        self,
        column: Column,
        rows: int,
        nulls: int,
        body: memoryview,
        places: tuple[int, ...],
        dictionary: "Words | Stored | None",
        most: int,
    ) -> None:
        self.rows = rows
        self._column = column
        self._nulls = nulls
        self._body = body
        self._places = places
        self._dictionary = dictionary
        self._most = most

    def part(self, start: int, end: int) -> Part:
        """Return the rows from `start` up to `end`. Raises BrokenError, TooLargeError."""
        kind = self._column.kind
        if kind.form in ("null", "other"):
            return Part(None, np.zeros(end - start, np.bool_), 0)
        valid = self._bits(0, start, end) if self._nulls else None
        if self._column.codes is not None:
            return self._coded(self._fixed(1, self._column.codes, start, end), valid)
        if kind.form == "text":
            if kind.dtype is None:
                return self._viewed(start, end, valid)
            return self._texts(kind.dtype, start, end, valid)
        if kind.form == "bool":
            return Part(self._bits(1, start, end), valid, end - start)
        values = self._fixed(1, kind.dtype, start, end)
        return Part(values, valid, values.nbytes)

    def _coded(self, codes: Array, valid: Bits | None) -> Part:
        found, most = self._dictionary, self._most
        if found is None:
            raise BrokenError("a dictionary does not come before its column")
        if valid is not None:
            if not valid.any():
                return Part(None, valid, 0)
            codes = np.where(valid, codes, codes[valid.argmax()])
        if isinstance(found, Words):
            texts = found.texts
            try:
                values = [texts[i] for i in codes.tolist()]
            except IndexError:
                raise BrokenError(_PLACE) from None
            return Part(values, valid, found.nbytes(codes, most), codes, found)
        whole = found.part(0, found.rows)
        if len(codes) and int(codes.max()) >= found.rows:
            raise BrokenError(_PLACE)
        values = whole.values[codes]
        if whole.valid is not None:
            valid = whole.valid[codes] if valid is None else whole.valid[codes] & valid
        return Part(values, valid, values.nbytes)

    def _texts(self, dtype: np.dtype[Any], start: int, end: int, valid: Bits | None) -> Part:
        if start == end:
            return Part([], valid, 0)
        edges = self._fixed(1, dtype, start, end + 1)
        first, last = int(edges[0]), int(edges[-1])
        begin, length = self._buffer(2)
        if first < 0 or last > length or (edges[1:] < edges[:-1]).any():
            raise BrokenError(_BEYOND)
        raw = bytes(self._body[begin + first : begin + last])
        places = (edges - first).tolist() if first else edges.tolist()
        if raw.isascii():
            text = raw.decode("ascii")
            values = [text[a:b] for a, b in pairwise(places)]
        else:
            values = [_text(raw[a:b]) for a, b in pairwise(places)]
        return Part(values, valid, last - first)

    def _viewed(self, start: int, end: int, valid: Bits | None) -> Part:
        """Return texts that stand in their views, or in the buffers behind these."""
        views = self._fixed(1, _UINT8, start * _VIEW, end * _VIEW).tobytes()
        texts = []
        size = 0
        for i, (length, _, buffer, at) in enumerate(struct.iter_unpack("<4i", views)):
            if valid is not None and not valid[i]:
                texts.append("")
                continue
            size += length
            if size > self._most:  # many views may share one long text
                raise TooLargeError
            if 0 <= length <= _INLINE:
                texts.append(_text(views[i * _VIEW + 4 : i * _VIEW + 4 + length]))
                continue
            begin, most = self._buffer(2 + buffer) if buffer >= 0 else (0, -1)
            if length < 0 or not 0 <= at <= most - length:
                raise BrokenError(_BEYOND)
            texts.append(_text(bytes(self._body[begin + at : begin + at + length])))
        return Part(texts, valid, size)

    def _fixed(self, which: int, dtype: np.dtype[Any] | None, start: int, end: int) -> Array:
        assert dtype is not None
        begin, length = self._buffer(which)
        width = dtype.itemsize
        if end * width > length:
            raise BrokenError(_SHORT)
        return np.frombuffer(self._body, dtype, end - start, begin + start * width)

    def _bits(self, which: int, start: int, end: int) -> Bits:
        first = start // 8
        packed = self._fixed(which, _UINT8, first, (end + 7) // 8)
        bits = np.unpackbits(packed, bitorder="little")
        return bits[start - 8 * first : end - 8 * first].view(np.bool_)

    def _buffer(self, which: int) -> tuple[int, int]:
        try:
            begin, length = self._places[2 * which], self._places[2 * which + 1]
        except IndexError:
            raise BrokenError("a batch lacks a buffer") from None
        if begin < 0 or length < 0 or begin + length > len(self._body):
            raise BrokenError("a column goes beyond its batch")
        return begin, length


def _text(raw: bytes) -> str:
    # What is no UTF-8 stays recognisable as such, for the check to refuse it with its row.
    return raw.decode("utf-8", "surrogateescape")
