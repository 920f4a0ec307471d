"""The columns that an Arrow schema names: their types, and where their parts stand in a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from steelyard.serve.tables.flatbuffer import BrokenError, Table, root

__all__ = ["SCHEMA", "Column", "Kind", "Schema", "read_schema"]

SCHEMA: Final = 1
"""The number of a schema among the kinds of messages."""

Form = Literal["int", "float", "bool", "text", "date", "time", "null", "other"]

_MOST_FIELDS: Final = 4_096
_DEEPEST: Final = 16
_SMALL: Final = 64 * 1024
_UNITS: Final = ("s", "ms", "us", "ns")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: what its values are (`form`), what it is called, and how its values lie in memory.

    `dtype` is that of the values of fixed width, or of a text's offsets (None where it is views).
    `unit` is a time's or a date's; `aware` times are in UTC. `views` says whether the type, or one
    within it, has as many buffers as each batch says.
    """

    form: Form
    name: str
    dtype: np.dtype[Any] | None = None
    unit: str = ""
    aware: bool = False
    nodes: int = 1
    buffers: int = 2
    views: int = 0

    @property
    def width(self) -> int:
        """Bytes of a value, or of an offset."""
        return 0 if self.dtype is None else self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a schema: its name, the type of its values, and where a batch holds it.

    Its node is the `node`-th, its `buffers` begin with the `first`, its counts of views with the
    `views`-th. Where it is a dictionary's, the batch holds places of type `codes` in the dictionary
    `identity`; they are read as unsigned, so that a negative one is just too large.
    """

    name: str
    kind: Kind
    node: int
    first: int
    views: int
    codes: np.dtype[Any] | None = None
    identity: int = 0


@dataclass(frozen=True, eq=False)
class Schema:
    """The columns of a stream, in order; whether some are views; those of dictionaries by identity."""

    columns: tuple[Column, ...]
    views: bool
    coded: Mapping[int, Column]


def read_schema(metadata: bytes) -> Schema:
    """Read a schema from its message; raises BrokenError.

    The same client sends the same schema again and again: small ones are remembered.
    """
    return _remembered(metadata) if len(metadata) <= _SMALL else _read(metadata)


def _read(metadata: bytes) -> Schema:
    message = root(metadata)
    header = message.table(2)
    if message.number(1, "<B") != SCHEMA or header is None:
        raise BrokenError("expected a schema first")
    if header.number(0, "<h") != 0:
        raise BrokenError("expected numbers with their low byte first")
    left = [_MOST_FIELDS]
    columns: list[Column] = []
    node = first = views = 0
    for found in header.tables(1, _MOST_FIELDS):
        column = _column(found, left, (node, first, views))
        columns.append(column)
        nodes, buffers, variable = _stored(column.kind, column.codes is not None)
        node, first, views = node + nodes, first + buffers, views + variable
    coded = {column.identity: column for column in columns if column.codes is not None}
    return Schema(tuple(columns), bool(views), coded)


_remembered = lru_cache(maxsize=64)(_read)


def _column(found: Table, left: list[int], place: tuple[int, int, int]) -> Column:
    kind = _kind(found, left, 0)
    encoding = found.table(4)
    if encoding is None:
        return Column(found.text(0), kind, *place)
    index = encoding.table(1)
    width = 4 if index is None else _integer(index).width
    return Column(found.text(0), kind, *place, np.dtype(f"u{width}"), encoding.number(0, "<q"))


def _kind(found: Table, left: list[int], depth: int) -> Kind:
    # Offsets may lead to one and the same child many times: what counts is how many are read.
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise BrokenError(f"expected at most {_MOST_FIELDS} fields, {_DEEPEST} deep")
    number, kind = found.number(2, "<B"), found.table(3)
    if kind is None:
        raise BrokenError("a field has no type")
    if number in _PLAIN:
        return _PLAIN[number]
    if number in _READERS:
        return _READERS[number](kind)
    nested = _NESTED.get(number)
    if nested is None:
        raise BrokenError(f"an unknown type, {number}")
    name, buffers = nested
    if name == "union":
        buffers = 1 if kind.number(0, "<h") == 0 else 2
    children = [
        _stored(_kind(child, left, depth + 1), child.table(4) is not None)
        for child in found.tables(5, _MOST_FIELDS)
    ]
    return Kind(
        "other",
        name,
        nodes=1 + sum(child[0] for child in children),
        buffers=buffers + sum(child[1] for child in children),
        views=sum(child[2] for child in children),
    )


def _stored(kind: Kind, coded: bool) -> tuple[int, int, int]:
    """Return how many nodes, buffers and counts of views a column has in a batch."""
    return (1, 2, 0) if coded else (kind.nodes, kind.buffers, kind.views)


def _integer(kind: Table) -> Kind:
    width, signed = kind.number(0), kind.number(1, "<B")
    if width not in (8, 16, 32, 64):
        raise BrokenError(f"expected integers of 8 to 64 bits, got {width}")
    name = f"{'' if signed else 'u'}int{width}"
    return Kind("int", name, np.dtype(name))


def _float(kind: Table) -> Kind:
    precision = kind.number(0, "<h")
    if precision not in (0, 1, 2):
        raise BrokenError(f"an unknown precision, {precision}")
    name = ("float16", "float32", "float64")[precision]
    return Kind("float", name, np.dtype(name))


def _date(kind: Table) -> Kind:
    if kind.number(0, "<h", 1) == 0:
        return Kind("date", "date32", np.dtype(np.int32), "D")
    return Kind("date", "date64", np.dtype(np.int64), "ms")


def _time(kind: Table) -> Kind:
    unit, zone = kind.number(0, "<h"), kind.text(1)
    if not 0 <= unit < len(_UNITS):
        raise BrokenError(f"an unknown unit of time, {unit}")
    name = f"timestamp[{_UNITS[unit]}{', ' + zone if zone else ''}]"
    return Kind("time", name, np.dtype(np.int64), _UNITS[unit], bool(zone))


_READERS: Final[dict[int, Callable[[Table], Kind]]] = {2: _integer, 3: _float, 8: _date, 10: _time}

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)
_PLAIN: Final = {
    1: Kind("null", "null", buffers=0),
    4: Kind("other", "binary", buffers=3),
    5: Kind("text", "utf8", _INT32, buffers=3),
    6: Kind("bool", "bool"),
    7: Kind("other", "decimal"),
    9: Kind("other", "time of day"),
    11: Kind("other", "interval"),
    15: Kind("other", "fixed_size_binary"),
    18: Kind("other", "duration"),
    19: Kind("other", "large_binary", buffers=3),
    20: Kind("text", "large_utf8", _INT64, buffers=3),
    23: Kind("other", "binary_view", buffers=2, views=1),
    24: Kind("text", "utf8_view", buffers=2, views=1),
}
# Name, and buffers of their own beside those of the types within them.
_NESTED: Final = {
    12: ("list", 2),
    13: ("struct", 1),
    14: ("union", 2),
    16: ("fixed_size_list", 1),
    17: ("map", 2),
    21: ("large_list", 2),
    22: ("run_end_encoded", 0),
    25: ("list_view", 3),
    26: ("large_list_view", 3),
}
