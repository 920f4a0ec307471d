"""Tensors of the Open Inference Protocol: made from rows, and judged where they come back."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from steelyard.testing.conformance.suite import Row
from steelyard.testing.conformance.talk import Violation, expect

__all__ = [
    "FORMATS",
    "Input",
    "checked_output",
    "flat",
    "from_binary",
    "inputs_of",
    "metadata_problem",
    "row_values",
    "sample_rows",
    "tensor",
    "to_binary",
]

FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""How an element lies in binary tensor data, little-endian, by `struct`'s letters; BYTES apart."""

_SAMPLES: Final = 4
_PYTHON: Final = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}


@dataclass(frozen=True, slots=True)
class Input:
    """A model's input: one value a row, or as many as `shape` after its first dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def batched(self) -> bool:
        """Whether several rows may be sent at once."""
        return bool(self.shape) and self.shape[0] == -1

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of one row's values; a size that is free is 1."""
        return tuple(1 if size < 0 else size for size in self.shape[1:])


def inputs_of(metadata: Mapping[str, Any], rows: Sequence[Row] | None) -> tuple[Input, ...]:
    """Return a model's inputs: as its metadata tells, else as rows show them."""
    if metadata.get("inputs"):
        return tuple(
            Input(entry["name"], entry["datatype"], tuple(entry["shape"]))
            for entry in metadata["inputs"]
        )
    found = []
    for name, value in (rows[0] if rows else {}).items():
        shape, inside = [-1], value
        while isinstance(inside, list) and inside:
            shape.append(len(inside))
            inside = inside[0]
        found.append(Input(name, _PYTHON.get(type(inside), "BYTES"), tuple(shape)))
    return tuple(found)


def sample_rows(inputs: Sequence[Input]) -> list[Row]:
    """Return a few rows that the inputs' datatypes allow."""
    return [{given.name: _nested(given, number) for given in inputs} for number in range(_SAMPLES)]


def _nested(given: Input, number: int) -> Any:
    values = [_sample(given.datatype, number + i) for i in range(math.prod(given.inner))]
    return values if given.inner else values[0]


def _sample(datatype: str, number: int) -> Any:
    if datatype == "BOOL":
        return number % 2 == 0
    if datatype == "BYTES":
        return "abcdefgh"[number % 8]
    return number + 0.5 if datatype.startswith("FP") else number + 1


def tensor(given: Input, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the tensor of one input over rows, its data flat."""
    data = [
        _element(given.datatype, value) for row in rows for value in flat([row.get(given.name)])
    ]
    return {
        "name": given.name,
        "datatype": given.datatype,
        "shape": [len(rows), *given.inner],
        "data": data,
    }


def _element(datatype: str, value: Any) -> Any:
    """Return a row's value as its tensor holds it; null is NaN, or a text without characters."""
    if datatype.startswith("FP"):
        return math.nan if value is None else float(value)
    if datatype == "BYTES":
        return "" if value is None else str(value)
    return value


def flat(data: Any) -> list[Any]:
    """Return tensor data, flat or nested, in row-major order."""
    return list(_flat(data))


def _flat(data: Any) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def metadata_problem(entry: Any) -> str:
    """Return what is wrong with the metadata of a tensor, or nothing."""
    if not isinstance(entry, dict) or not {"name", "datatype", "shape"} <= entry.keys():
        return f"{entry}: without name, datatype or shape"
    if entry["datatype"] not in FORMATS and entry["datatype"] != "BYTES":
        return f"{entry['name']}: no datatype {entry['datatype']}"
    shape = entry["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= -1 for size in shape):
        return f"{entry['name']}: no shape {shape}"
    return ""


def checked_output(output: Mapping[str, Any], rows: int | None) -> list[Any]:
    """Return an output's values in row-major order; `rows` is its first size, where that is known.

    Raises Violation where it is no tensor of its own datatype and shape.
    """
    problem = metadata_problem(output)
    expect(not problem, problem)
    name, shape, datatype = output["name"], output["shape"], output["datatype"]
    expect(isinstance(output.get("data"), list), f"{name}: without data")
    values = flat(output["data"])
    expect(len(values) == math.prod(shape), f"{name}: shape {shape} for {len(values)} values")
    expect(rows is None or (bool(shape) and shape[0] == rows), f"{name}: shape {shape}")
    wrong = [value for value in values if not _is(datatype, value)]
    expect(not wrong, f"{name}: {wrong[:3]} in a tensor of {datatype}")
    return values


def _is(datatype: str, value: Any) -> bool:
    if datatype == "BOOL":
        return isinstance(value, bool)
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype.startswith("FP"):
        # JSON has no NaN: servers write it bare, or as null.
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return type(value) is int


def row_values(values: Sequence[Any], rows: int) -> list[list[Any]]:
    """Return an output's values parted by rows."""
    width = len(values) // rows if rows else 0
    return [list(values[i * width : (i + 1) * width]) for i in range(rows)]


def to_binary(datatype: str, values: Sequence[Any]) -> bytes:
    r"""Return values as binary tensor data.

    >>> to_binary("BYTES", ["ab"]), to_binary("INT16", [1])
    (b'\x02\x00\x00\x00ab', b'\x01\x00')
    """
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def from_binary(datatype: str, data: bytes) -> list[Any]:
    """Return the values that binary tensor data holds. Raises Violation where it is none."""
    try:
        if datatype != "BYTES":
            letter = FORMATS[datatype]
            return list(struct.unpack(f"<{len(data) // struct.calcsize(letter)}{letter}", data))
        values, at = [], 0
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            expect(at + 4 + size <= len(data), "a BYTES element ends beyond its data")
            values.append(data[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return values
    except (struct.error, UnicodeDecodeError) as error:
        raise Violation(f"binary data that is no {datatype}: {error}") from None
