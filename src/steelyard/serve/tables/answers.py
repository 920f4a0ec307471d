"""Answers as an Arrow IPC stream: one column for each member of a JSON answer."""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.answers import class_keys
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
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
    for a regression), `prediction_id`, `model`, `version`, `source`, `reason` and `flags`; of a
    null there is nothing to say.
    """

    def __init__(self, loaded: LoadedVersion) -> None:
        predictor = loaded.predictor
        self._model = predictor.model
        self._version = loaded.served.version
        self._keys = None if predictor.classes is None else class_keys(predictor.classes)
        label = float if predictor.classes is None else type(predictor.classes[0])
        self._label: type = label
        fields = [_field("prediction", _TYPES[label])]
        if self._keys is not None:
            members = [_field(key, _FLOAT) for key in self._keys]
            fields.append(_field("probabilities", _STRUCT, members))
        fields += [
            _field("prediction_id", _TEXT),
            _field("model", _TEXT),
            _field("version", _INT),
            _field("source", _TEXT),
            _field("reason", _TEXT, nullable=True),
            _field("flags", _LIST, [_field("item", _TEXT)], nullable=True),
        ]
        schema = Node({0: ("h", 0), 1: fields})
        self.head = _message(_SCHEMA, schema, 0)
        """The schema's message, with which the stream begins."""

    def batch(self, answers: Sequence[Answered]) -> bytes:
        """Return the message that holds some answers."""
        columns = _Columns(len(answers))
        predictions = [one.prediction for one in answers]
        if self._label is str:
            columns.texts(predictions)
        elif self._label is bool:
            columns.bits(np.array(predictions, np.bool_))
        else:
            columns.numbers(np.array(predictions, np.int64 if self._label is int else np.float64))
        if self._keys is not None:
            scores = np.array([one.probabilities for one in answers], np.float64)
            columns.nothing()
            for i in range(len(self._keys)):
                columns.numbers(scores[:, i])
        columns.same_width([one.prediction_id for one in answers])
        columns.same_width([self._model] * len(answers))
        columns.numbers(np.full(len(answers), self._version, np.int64))
        columns.texts([one.source for one in answers])
        columns.texts([one.reason or None for one in answers])
        columns.lists([one.flags or None for one in answers])
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
        self._node(self._rows, None)

    def numbers(self, values: npt.NDArray[Any]) -> None:
        """Add a column [N] of numbers of fixed width."""
        self._node(len(values), None)
        self._buffer(values.tobytes())

    def bits(self, values: npt.NDArray[np.bool_]) -> None:
        """Add a column [N] of booleans."""
        self._node(len(values), None)
        self._buffer(np.packbits(values, bitorder="little").tobytes())

    def same_width(self, texts: Sequence[str]) -> None:
        """Add a column of ASCII texts [N] of one length."""
        width = len(texts[0].encode()) if texts else 0
        self._node(len(texts), None)
        self._buffer((np.arange(len(texts) + 1, dtype=_OFFSET) * width).tobytes())
        self._buffer("".join(texts).encode())

    def texts(self, texts: Sequence[Any]) -> None:
        """Add a column of texts, None for null."""
        self._node(len(texts), _valid(texts))
        raw = [text.encode() if text else b"" for text in texts]
        self._offsets([len(text) for text in raw])
        self._buffer(b"".join(raw))

    def lists(self, lists: Sequence[Sequence[str] | None]) -> None:
        """Add a column of lists of texts, None for null."""
        self._node(len(lists), _valid(lists))
        self._offsets([len(found) if found else 0 for found in lists])
        self.texts([text for found in lists for text in found or ()])

    def message(self) -> bytes:
        """Return the message of the columns that were added."""
        nodes = struct.pack(f"<I{len(self._nodes)}q", len(self._nodes) // 2, *self._nodes)
        places = struct.pack(f"<I{len(self._places)}q", len(self._places) // 2, *self._places)
        records = Node({0: ("q", self._rows), 1: nodes, 2: places})
        return b"".join([_message(_RECORDS, records, self._size), *self._parts])

    def _node(self, rows: int, valid: npt.NDArray[np.bool_] | None) -> None:
        if valid is None:
            self._nodes += (rows, 0)
            self._buffer(b"")
        else:
            self._nodes += (rows, rows - int(valid.sum()))
            self._buffer(np.packbits(valid, bitorder="little").tobytes())

    def _offsets(self, lengths: Sequence[int]) -> None:
        edges = np.zeros(len(lengths) + 1, _OFFSET)
        np.cumsum(np.array(lengths, _OFFSET), out=edges[1:])
        self._buffer(edges.tobytes())

    def _buffer(self, data: bytes) -> None:
        self._places += (self._size, len(data))
        gap = -len(data) % _ALIGNMENT
        self._parts += (data, bytes(gap))
        self._size += len(data) + gap


def _valid(values: Sequence[object]) -> npt.NDArray[np.bool_] | None:
    if None not in values:
        return None
    return np.array([value is not None for value in values], np.bool_)


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
