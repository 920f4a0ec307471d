"""The id of a table: a hash over its values and schema, whatever file or memory holds them.

Column names count, their order does not; the order of rows does. Chunks, row groups, compression,
library versions and bits under a null leave the id as it is.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.hashing import hash_json
from steelyard.errors import DataError

__all__ = ["column_digests", "column_types", "table_id"]

_FORMAT: Final = 1
_SLICE: Final = 1 << 16
"""Strings joined at once: Polars holds a string's length in 32 bits."""


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def table_id(rows: int, types: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """Return the id of a table with these column types and column digests, in hexadecimal."""
    columns = {name: [types[name], digests[name]] for name in types}
    return hash_json({"format": _FORMAT, "rows": rows, "columns": columns})


def column_types(table: pl.DataFrame) -> dict[str, str]:
    """Return the logical type of each column, by name in sorted order.

    >>> column_types(pl.DataFrame({"b": [1], "a": ["x"]}))
    {'a': 'string', 'b': 'int64'}
    """
    return {name: _type_name(name, table.schema[name]) for name in sorted(table.columns)}


def column_digests(table: pl.DataFrame) -> dict[str, str]:
    """Return the sha256 of each column's values, by name in sorted order.

    >>> whole, chunked = pl.Series("a", ["x", None]), pl.Series("a", ["x"]).append(
    ...     pl.Series("a", [None], dtype=pl.String))
    >>> column_digests(whole.to_frame()) == column_digests(chunked.to_frame())
    True
    """
    digests: dict[str, str] = {}
    for name in sorted(table.columns):
        digest = hashlib.sha256()
        _feed(digest, table[name])
        digests[name] = digest.hexdigest()
    return digests


# Our own names rather than Polars' str(dtype), whose wording may change between versions.
_PLAIN: dict[pl.DataType, str] = {
    pl.Boolean(): "bool",
    pl.Int8(): "int8",
    pl.Int16(): "int16",
    pl.Int32(): "int32",
    pl.Int64(): "int64",
    pl.Int128(): "int128",
    pl.UInt8(): "uint8",
    pl.UInt16(): "uint16",
    pl.UInt32(): "uint32",
    pl.UInt64(): "uint64",
    pl.UInt128(): "uint128",
    pl.Float16(): "float16",
    pl.Float32(): "float32",
    pl.Float64(): "float64",
    pl.String(): "string",
    pl.Binary(): "binary",
    pl.Date(): "date",
    pl.Time(): "time",
    pl.Null(): "null",
}


def _type_name(column: str, dtype: Any) -> str:
    dtype = dtype() if isinstance(dtype, type) else dtype
    name: str | None = _PLAIN.get(dtype)
    match dtype:
        case pl.Datetime():
            zone = f", {dtype.time_zone}" if dtype.time_zone else ""
            name = f"datetime[{dtype.time_unit}{zone}]"
        case pl.Duration():
            name = f"duration[{dtype.time_unit}]"
        case pl.Decimal():
            name = f"decimal[{dtype.precision}, {dtype.scale}]"
        case pl.List():
            name = f"list[{_type_name(column, dtype.inner)}]"
        case pl.Array():
            name = f"array[{_type_name(column, dtype.inner)}, {dtype.size}]"
        case pl.Struct():
            parts = [f"{part.name}: {_type_name(column, part.dtype)}" for part in dtype.fields]
            name = f"struct[{', '.join(parts)}]"
    if name is None:
        raise DataError(
            f"column {column!r} has the type {dtype}, which a snapshot cannot hold.",
            fix="Cast it to a string or number, or leave it out.",
        )
    return name


def _feed(digest: _Hash, column: pl.Series) -> None:
    """Feed the count, the null mask and the values, with one value under every null."""
    digest.update(np.array(len(column), dtype="<u8").tobytes())
    digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    dtype = column.dtype
    if dtype == pl.Null:
        return
    if dtype.is_nested():
        _feed_nested(digest, column)
    elif dtype == pl.String:
        _feed_text(digest, column)
    elif dtype == pl.Binary:
        _feed_text(digest, column.bin.encode("hex"))
    elif dtype == pl.Boolean:
        digest.update(np.packbits(column.fill_null(False).to_numpy()).tobytes())
    elif dtype.is_float():
        values = column.fill_null(0.0).to_numpy()
        # There are many NaN; arithmetic and files do not keep them apart.
        _feed_numbers(digest, np.where(np.isnan(values), values.dtype.type(np.nan), values))
    elif dtype in (pl.Int128, pl.UInt128) or isinstance(dtype, pl.Decimal):
        _feed_text(digest, column.cast(pl.String))
    else:
        _feed_numbers(digest, column.to_physical().fill_null(0).to_numpy())


def _feed_numbers(digest: _Hash, values: npt.NDArray[Any]) -> None:
    digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))))


def _feed_text(digest: _Hash, column: pl.Series) -> None:
    lengths = column.str.len_bytes().fill_null(0).to_numpy()
    _feed_numbers(digest, lengths.astype(np.uint32))
    for start in range(0, len(column), _SLICE):
        digest.update(column.slice(start, _SLICE).str.join("").item().encode())


def _feed_nested(digest: _Hash, column: pl.Series) -> None:
    if isinstance(column.dtype, pl.Struct):
        for field in column.dtype.fields:
            _feed(digest, column.struct.field(field.name))
        return
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len().fill_null(0)
    _feed_numbers(digest, lengths.to_numpy().astype(np.uint32))
    filled = column.filter(lengths > 0)
    if len(filled):
        _feed(digest, filled.explode())
