"""Tensors of the Open Inference Protocol, whatever carries them: one column of rows each.

Source: the protocol's datatypes, and the framing of raw tensors of its binary and gRPC forms.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from steelyard.core.fields import FieldSpec
from steelyard.errors import UsageError, nearest
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion

__all__ = [
    "Tensor",
    "accepted",
    "datatype_of",
    "metadata",
    "output_tensors",
    "raw_bytes",
    "raw_values",
    "rows_of",
    "shown_name",
    "wanted_outputs",
]

_INTEGERS: Final = frozenset(
    ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
_FLOATS: Final = frozenset(["FP16", "FP32", "FP64"])
_LABELS: Final = {bool: "BOOL", int: "INT64", str: "BYTES"}
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_LENGTH: Final = struct.Struct("<I")
_SHOWN: Final = 100


@dataclass(slots=True)
class Tensor:
    """A named tensor: `data` is flat in row-major order, as a list or as raw bytes."""

    name: str
    datatype: str
    shape: list[int]
    data: Sequence[Any] | bytes


def datatype_of(field: FieldSpec) -> str:
    """Return the datatype by which a field's column is declared; a null number is NaN in FP64."""
    if field.kind == "str" or field.temporal:
        return "BYTES"
    if field.optional or field.kind == "float":
        return "FP64"
    return "INT64" if field.kind == "int" else "BOOL"


def accepted(field: FieldSpec) -> frozenset[str]:
    """Return the datatypes whose values a field can take."""
    own = datatype_of(field)
    if own == "FP64":
        return _FLOATS | _INTEGERS | ({"BOOL"} if field.kind == "bool" else frozenset())
    return _INTEGERS if own == "INT64" else frozenset([own])


def metadata(loaded: LoadedVersion) -> dict[str, Any]:
    """Return a model's metadata: the columns of its graph, its prediction and probabilities."""
    predictor = loaded.predictor
    classes = predictor.classes
    datatype = "FP64" if classes is None else _LABELS[type(classes[0])]
    outputs: list[dict[str, Any]] = [{"name": "prediction", "datatype": datatype, "shape": [-1]}]
    if classes is not None:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(classes)]})
    return {
        "name": predictor.model,
        "versions": [str(loaded.served.version)],
        "platform": "onnx_onnxruntime",
        "inputs": [
            {"name": field.name, "datatype": datatype_of(field), "shape": [-1]}
            for field in predictor.fields
        ],
        "outputs": outputs,
    }


def shown_name(value: object) -> str:
    """Return a name or the like as an error may show it."""
    return (value if isinstance(value, str) else type(value).__name__)[:_SHOWN]


def raw_values(name: str, datatype: str, raw: bytes, count: int) -> list[Any]:
    """Return the `count` values of a raw tensor: little-endian numbers, or length-prefixed texts.

    Raises UsageError, naming the input, where the bytes are not exactly that.

    >>> raw_values("age", "INT16", bytes([1, 0, 255, 255]), 2)
    [1, -1]
    >>> raw_values("city", "BYTES", bytes([2, 0, 0, 0]) + b"Ur", 1)
    ['Ur']
    """
    if datatype == "BYTES":
        return _texts(name, raw, count)
    dtype = _DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise UsageError(
            f"input {name}: {len(raw)} bytes do not hold {count} values of {datatype}."
        )
    if datatype == "BOOL" and raw.strip(b"\0\1"):
        raise UsageError(f"input {name}: expected bytes 0 and 1 for BOOL.")
    values: list[Any] = np.frombuffer(raw, dtype).tolist()
    return values


def _texts(name: str, raw: bytes, count: int) -> list[str]:
    texts: list[str] = []
    place, end = 0, len(raw)
    try:
        while place < end and len(texts) < count:
            (length,) = _LENGTH.unpack_from(raw, place)
            place += _LENGTH.size + length
            texts.append(raw[place - length : place].decode())
    except struct.error:
        place = -1  # the bytes end within a length
    except UnicodeDecodeError:
        raise UsageError(f"input {name}: value {len(texts)} is not text in UTF-8.") from None
    if place != end or len(texts) != count:
        raise UsageError(f"input {name}: its {end} bytes do not hold {count} values of BYTES.")
    return texts


def raw_bytes(datatype: str, values: Sequence[Any]) -> bytes:
    """Return values as a raw tensor, which `raw_values` reads back.

    >>> list(raw_bytes("INT16", [1, -1]))
    [1, 0, 255, 255]
    """
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    return np.array(values, _DTYPES[datatype]).tobytes()


def rows_of(fields: Sequence[FieldSpec], tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Return the rows of a request's tensors. Raises UsageError where they do not fit the fields."""
    by_name = {field.name: field for field in fields}
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        name = tensor.name
        if name not in by_name:
            raise UsageError(f"no input {shown_name(name)!r}. {nearest(shown_name(name), by_name)}")
        if name in columns:
            raise UsageError(f"input {name} is given twice.")
        columns[name] = _column(by_name[name], tensor)
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        raise UsageError("expected inputs, all with the same number of rows.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(field: FieldSpec, tensor: Tensor) -> list[Any]:
    name, datatype, shape = field.name, tensor.datatype, tensor.shape
    if datatype not in accepted(field):
        raise UsageError(
            f"input {name}: expected {datatype_of(field)}, got {shown_name(datatype)}."
        )
    # A column has one value a row: [N], or [N, 1] as some clients shape it.
    if not shape or min(shape) < 0 or math.prod(shape[1:]) != 1:
        raise UsageError(f"input {name}: expected the shape [N] or [N, 1].")
    data = tensor.data
    if isinstance(data, bytes):
        data = raw_values(name, datatype, data, shape[0])
    elif len(data) != shape[0]:
        raise UsageError(f"input {name}: shape {shape} does not hold {len(data)} values.")
    values = list(data)
    if field.optional:  # an empty text and NaN are null
        values = [None if value == "" or value != value else value for value in values]
    if field.kind == "bool":
        values = [_boolean(value) for value in values]
    elif field.kind == "int" and datatype in _FLOATS:
        values = [_whole(value) for value in values]
    return values


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _boolean(value: Any) -> Any:
    return bool(value) if type(value) in (int, float) and value in (0, 1) else value


def wanted_outputs(loaded: LoadedVersion, names: Iterable[object]) -> list[dict[str, Any]]:
    """Return the metadata of the outputs that a request names, or of all. Raises UsageError."""
    known = {output["name"]: output for output in metadata(loaded)["outputs"]}
    wanted = []
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UsageError(f"no output {shown_name(name)!r}. {nearest(shown_name(name), known)}")
        wanted.append(known[name])
    return wanted or list(known.values())


def output_tensors(wanted: Iterable[dict[str, Any]], answers: Sequence[Answered]) -> list[Tensor]:
    """Return the outputs, by their metadata, of N answers: N predictions, N x K probabilities."""
    tensors = []
    for output in wanted:
        if output["name"] == "prediction":
            data = [answer.prediction for answer in answers]
        else:
            data = [p for answer in answers for p in answer.probabilities or ()]
        shape = [len(answers), *output["shape"][1:]]
        tensors.append(Tensor(output["name"], output["datatype"], shape, data))
    return tensors
