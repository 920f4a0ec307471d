"""An Arrow IPC stream, read in place: columns are views of the body wherever they can be.

Nothing is taken on trust: each part is looked for within the body before it is read, so that a
damaged or hostile body is an error and never more memory than its own size calls for.
"""

import struct
from collections.abc import Generator, Mapping
from functools import lru_cache
from typing import Final

from steelyard.serve.tables.flatbuffer import BrokenError, Table, root
from steelyard.serve.tables.schema import SCHEMA, Column, Kind, Schema, read_schema
from steelyard.serve.tables.stored import Stored, TooLargeError, Words

__all__ = ["Batch", "CompressedError", "read_stream"]

_DICTIONARY, _RECORDS = 2, 3
_CONTINUED: Final = b"\xff\xff\xff\xff"
_END: Final = _CONTINUED + bytes(4)
_FILE: Final = b"ARROW1"
_HEAD: Final = 8
_AT_ONCE: Final = 64
_WORDS_AT_ONCE: Final = 4_096
_SMALL: Final = 4_096


class CompressedError(BrokenError):
    """A batch is compressed."""


class Batch:
    """Some rows of a stream; of a column, `most` bytes are written out at once."""

    def __init__(
        self,
        schema: Schema,
        records: Table,
        body: memoryview,
        dictionaries: Mapping[int, Words | Stored],
        most: int,
    ) -> None:
        if records.table(3) is not None:
            raise CompressedError("a batch is compressed")
        self.rows = records.number(0, "<q")
        if self.rows < 0:
            raise BrokenError("expected a number of rows")
        self._schema = schema
        self._nodes = records.numbers(1, width=2)
        self._buffers = records.numbers(2, width=2)
        self._views = records.numbers(4) if schema.views else ()
        self._body = body
        self._dictionaries = dictionaries
        self._most = most

    def column(self, place: int) -> Stored:
        """Return a column by its place in the schema. Raises BrokenError."""
        column = self._schema.columns[place]
        node, first = 2 * column.node, column.first
        views = 0
        if self._schema.views:
            if min(self._views, default=0) < 0:
                raise BrokenError("expected a number of buffers")
            first += sum(self._views[: column.views])
            views = sum(self._views[column.views : column.views + column.kind.views])
        try:
            rows, nulls = self._nodes[node], self._nodes[node + 1]
        except IndexError:
            raise BrokenError("a batch lacks a column") from None
        if rows != self.rows or not 0 <= nulls <= rows:
            raise BrokenError("a column is longer or shorter than its batch")
        last = first + (2 if column.codes is not None else column.kind.buffers) + views
        places = self._buffers[2 * first : 2 * last]
        dictionary = None if column.codes is None else self._dictionaries.get(column.identity)
        return Stored(column, rows, nulls, self._body, places, dictionary, self._most)


def read_stream(body: bytes, most: int) -> Generator[None, None, tuple[Schema, list[Batch]]]:
    """Read a stream's schema and batches, in steps.

    `most` bytes of a column are written out at once. Raises BrokenError, CompressedError,
    TooLargeError.
    """
    if body.startswith(_FILE):
        raise BrokenError("expected a stream; this is the file format (Feather)")
    schema: Schema | None = None
    batches: list[Batch] = []
    dictionaries: dict[int, Words | Stored] = {}
    at = count = 0
    while body[at : at + _HEAD] != _END:
        metadata, at = _metadata(body, at)
        if schema is None:
            schema = read_schema(metadata)
            continue
        kind, header, length = _message(metadata)
        if length < 0 or at + length > len(body):
            raise BrokenError("it breaks off")
        if kind == _RECORDS:
            content = memoryview(body)[at : at + length]
            batches.append(Batch(schema, header, content, dictionaries, most))
        elif kind == _DICTIONARY:
            # What was read before keeps the dictionaries of its time.
            dictionaries = dict(dictionaries)
            content = memoryview(body)[at : at + length]
            yield from _add_dictionary(schema, metadata, content, dictionaries, most)
        else:
            raise BrokenError("a second schema" if kind == SCHEMA else "a message of no table")
        at += length
        count += 1
        if count % _AT_ONCE == 0:
            yield
    if schema is None:
        raise BrokenError("it holds no schema")
    if at + _HEAD != len(body):
        raise BrokenError("something follows its end")
    return schema, batches


def _metadata(body: bytes, at: int) -> tuple[bytes, int]:
    """Return a message's description, and where its content begins."""
    head = body[at : at + _HEAD]
    if len(head) < _HEAD:
        raise BrokenError("it breaks off; its end mark is missing")
    if head[:4] != _CONTINUED:
        raise BrokenError("a message does not begin as it should")
    start = at + _HEAD
    (size,) = struct.unpack_from("<i", head, 4)
    if size < 0 or start + size > len(body):
        raise BrokenError("it breaks off")
    return body[start : start + size], start + size


def _described(metadata: bytes) -> tuple[int, Table, int]:
    """Return a message's kind, its header, and the length of its content."""
    message = root(metadata)
    header = message.table(2)
    if header is None:
        raise BrokenError("a message holds nothing")
    return message.number(1, "<B"), header, message.number(3, "<q")


# The same client sends the same descriptions and small dictionaries again and again.
_known_message = lru_cache(maxsize=512)(_described)


def _message(metadata: bytes) -> tuple[int, Table, int]:
    return _known_message(metadata) if len(metadata) <= _SMALL else _described(metadata)


def _add_dictionary(
    schema: Schema,
    metadata: bytes,
    body: memoryview,
    dictionaries: dict[int, Words | Stored],
    most: int,
) -> Generator[None, None, None]:
    _, header, _ = _message(metadata)
    identity, grows = header.number(0, "<q"), bool(header.number(2, "<B"))
    column = schema.coded.get(identity)
    if column is None or column.kind.form in ("null", "other"):
        return  # nobody will look anything up in it
    if column.kind.form != "text":
        if grows:
            raise BrokenError("a dictionary of numbers grows; send it whole")
        dictionaries[identity] = _stored(column.kind, header, body, most)
        return
    if not grows and len(metadata) + len(body) <= _SMALL and most >= _SMALL:
        dictionaries[identity] = _known_words(column.kind, metadata, bytes(body))
        return
    before = dictionaries.get(identity) if grows else None
    words = before if isinstance(before, Words) else Words()
    dictionaries[identity] = words
    stored = _stored(column.kind, header, body, most)
    for start in range(0, stored.rows, _WORDS_AT_ONCE):
        words.add(stored.part(start, min(start + _WORDS_AT_ONCE, stored.rows)))
        if words.size > most:
            raise TooLargeError
        yield


def _stored(kind: Kind, header: Table, body: memoryview, most: int) -> Stored:
    """Return the one column that a dictionary's message holds."""
    records = header.table(1)
    if records is None:
        raise BrokenError("a dictionary holds nothing")
    schema = Schema((Column("", kind, 0, 0, 0),), bool(kind.views), {})
    return Batch(schema, records, body, {}, most).column(0)


@lru_cache(maxsize=1_024)
def _known_words(kind: Kind, metadata: bytes, body: bytes) -> Words:
    words = Words()
    stored = _stored(kind, _described(metadata)[1], memoryview(body), _SMALL)
    words.add(stored.part(0, stored.rows))
    return words
