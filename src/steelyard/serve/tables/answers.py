"""Answers as an Arrow IPC stream: one column for each member of a JSON answer."""

import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.bundle.predictor import Predictor
from steelyard.core.answers import Flag, class_keys
from steelyard.serve.answer.several import Several
from steelyard.serve.tables.flatbuffer import Node, written

__all__ = ["END", "AnswerWriter"]

_CONTINUED: Final = b"\xff\xff\xff\xff"
END: Final = _CONTINUED + bytes(4)
_VERSION: Final = ("h", 4)
_SCHEMA, _RECORDS = 1, 3
_ALIGNMENT: Final = 8
_OFFSET: Final = np.dtype("<i4")


class AnswerWriter:
    """Writes the answers of one version, whose schema they all share.

    Columns: `prediction` in the label's type, `probabilities` (a struct with a float64 a class; not
    for a regression), `prediction_id`, `model`, `version`, `source`, `reason` and `flags`. The last
    two are null where the JSON answer does not have them.
    """

    def __init__(self, predictor: Predictor, version: int) -> None:
        self._model = predictor.model
        self._version = version
        self._keys = None if predictor.classes is None else class_keys(predictor.classes)
        label = float if predictor.classes is None else type(predictor.classes[0])
        self._label: type = label
        fields = [_field("prediction", _TYPES[label])]
        if self._keys is not None:
            members = [_field(key, _FLOAT) for key in self._keys]
            fields.append(_field("probabilities", _STRUCT, members))
        flag = [_field(name, _TEXT) for name in Flag.__struct_fields__]
        fields += [
            _field("prediction_id", _TEXT),
            _field("model", _TEXT),
            _field("version", _INT),
            _field("source", _TEXT),
            _field("reason", _TEXT, nullable=True),
            _field("flags", _LIST, [_field("item", _STRUCT, flag)], nullable=True),
        ]
        schema = Node({0: ("h", 0), 1: fields})
        self.head = _message(_SCHEMA, schema, 0)
        """The schema's message, with which the stream begins."""

    def batch(self, several: Several, start: int, end: int) -> bytes:
        """Return the message that holds the answers from `start` up to `end`, of which there is one."""
        answers, ids = several.answers[start:end], several.ids[start:end]
        marks = None if several.marks is None else several.marks[start:end]
        count = len(answers)
        columns = _Columns(count)
        predictions = [prediction for prediction, _ in answers]
        if self._label is str:
            columns.texts(predictions)
        elif self._label is bool:
            columns.bits(np.array(predictions, np.bool_))
        else:
            columns.numbers(np.array(predictions, np.int64 if self._label is int else np.float64))
        if self._keys is not None:
            numbers = chain.from_iterable(scores or () for _, scores in answers)
            scores = np.fromiter(numbers, np.float64, count * len(self._keys))
            columns.nothing()
            for column in scores.reshape(count, len(self._keys)).T:
                columns.numbers(column)
        columns.same_width("".join(ids))
        columns.same_width(self._model * count)
        columns.numbers(np.full(count, self._version, np.int64))
        columns.texts(["model"] * count if marks is None else [mark.source for mark in marks])
        columns.texts([None] * count if marks is None else [mark.reason or None for mark in marks])
        columns.flags([()] * count if marks is None else [mark.flags for mark in marks])
        return columns.message()


class _Columns:
    """The nodes and buffers of one batch of N rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._nodes: list[int] = []
        self._places: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0

    def nothing(self) -> None:
        """Add a column whose values are those of the columns within it."""
        self._node(self._rows)

    def numbers(self, values: npt.NDArray[Any]) -> None:
        """Add a column [N] of numbers of fixed width."""
        self._node(len(values))
        self._buffer(values.tobytes())

    def bits(self, values: npt.NDArray[np.bool_]) -> None:
        """Add a column [N] of booleans."""
        self._node(len(values))
        self._buffer(np.packbits(values, bitorder="little").tobytes())

    def same_width(self, joined: str) -> None:
        """Add a column of ASCII texts [N] of one length, given one behind the other."""
        self._node(self._rows)
        self._buffer(
            (np.arange(self._rows + 1, dtype=_OFFSET) * (len(joined) // self._rows)).tobytes()
        )
        self._buffer(joined.encode())

    def texts(self, texts: Sequence[Any]) -> None:
        """Add a column of texts, None for null."""
        self._node(len(texts), _nulls(texts))
        joined = "".join(filter(None, texts))
        if joined.isascii():
            self._offsets([len(text) if text else 0 for text in texts])
        else:
            self._offsets([len(text.encode()) if text else 0 for text in texts])
        self._buffer(joined.encode())

    def flags(self, flags: Sequence[Sequence[Flag]]) -> None:
        """Add a column of lists of flags; an empty one is null."""
        self._node(len(flags), _nulls(flags))
        self._offsets([len(found) for found in flags])
        found = list(chain.from_iterable(flags))
        self._node(len(found))
        self.texts([flag.field for flag in found])
        self.texts([flag.rule for flag in found])
        self.texts([flag.message for flag in found])

    def message(self) -> bytes:
        """Return the message of the columns that were added."""
        nodes = struct.pack(f"<I{len(self._nodes)}q", len(self._nodes) // 2, *self._nodes)
        places = struct.pack(f"<I{len(self._places)}q", len(self._places) // 2, *self._places)
        records = Node({0: ("q", self._rows), 1: nodes, 2: places})
        return b"".join([_message(_RECORDS, records, self._size), *self._parts])

    def _node(self, rows: int, nulls: npt.NDArray[np.bool_] | None = None) -> None:
        if nulls is None:
            self._nodes += (rows, 0)
            self._buffer(b"")
        else:
            self._nodes += (rows, int(nulls.sum()))
            self._buffer(np.packbits(~nulls, bitorder="little").tobytes())

    def _offsets(self, lengths: Sequence[int]) -> None:
        edges = np.zeros(len(lengths) + 1, _OFFSET)
        np.cumsum(np.array(lengths, _OFFSET), out=edges[1:])
        self._buffer(edges.tobytes())

    def _buffer(self, data: bytes) -> None:
        self._places += (self._size, len(data))
        gap = -len(data) % _ALIGNMENT
        self._parts += (data, bytes(gap))
        self._size += len(data) + gap


def _nulls(values: Sequence[Any]) -> npt.NDArray[np.bool_] | None:
    found = np.array([not value for value in values], np.bool_)
    return found if found.any() else None


def _message(kind: int, header: Node, size: int) -> bytes:
    metadata = written(Node({0: _VERSION, 1: ("B", kind), 2: header, 3: ("q", size)}))
    metadata += bytes(-len(metadata) % _ALIGNMENT)
    return _CONTINUED + struct.pack("<i", len(metadata)) + metadata


_Type = tuple[int, Callable[[], Node]]
_TEXT: Final[_Type] = 5, lambda: Node({})
_INT: Final[_Type] = 2, lambda: Node({0: ("i", 64), 1: ("B", 1)})
_FLOAT: Final[_Type] = 3, lambda: Node({0: ("h", 2)})
_BOOL: Final[_Type] = 6, lambda: Node({})
_LIST: Final[_Type] = 12, lambda: Node({})
_STRUCT: Final[_Type] = 13, lambda: Node({})
_TYPES: Final[dict[type, _Type]] = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL}


def _field(
    name: str, kind: _Type, children: Sequence[Node] = (), *, nullable: bool = False
) -> Node:
    number, make = kind
    return Node({0: name, 1: ("B", int(nullable)), 2: ("B", number), 3: make(), 5: list(children)})
