"""Requests that are like an earlier one: one row of raw tensors, described by the same bytes.

A client describes its tensors in every request anew, and always alike. The first request is read with
all its checks, and leaves a plan: how to read each tensor's bytes, and the response but what differs.
A request by plan has the same answer; whatever a plan cannot read is read with all checks again.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from steelyard.core.fields import FieldSpec
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.documents import parameters_of
from steelyard.serve.contracts.tensors import raw_bytes
from steelyard.serve.grpc.messages import message

__all__ = ["Plan", "Plans"]

_Read = Callable[[bytes], Any]
_NUMBERS: Final = {
    **{f"INT{8 << i}": struct.Struct(f"<{code}") for i, code in enumerate("bhiq")},
    **{f"UINT{8 << i}": struct.Struct(f"<{code}") for i, code in enumerate("BHIQ")},
    **{f"FP{16 << i}": struct.Struct(f"<{code}") for i, code in enumerate("efd")},
}
_BOOLS: Final = {b"\0": False, b"\1": True}
_UNREADABLE: Final = (KeyError, ValueError, struct.error)
_AN_ID: Final = str(UUID(int=0))
_MOST: Final = 64
_LONGEST: Final = 64 * 1024


class Plan:
    """How to read the raw tensors of one row, and to write its answer. `wanted` are its outputs."""

    def __init__(
        self, loaded: LoadedVersion, request: Any, wanted: Sequence[dict[str, Any]]
    ) -> None:
        fields = {field.name: field for field in loaded.predictor.fields}
        self.wanted = wanted
        self._names = [found.name for found in request.inputs]
        self._reads = [_reader(fields[found.name], found.datatype) for found in request.inputs]
        self._writes = [_writer(loaded, output) for output in wanted]
        made = message("ModelInferResponse")(
            model_name=loaded.predictor.model, model_version=str(loaded.served.version)
        )
        for output in wanted:
            shape = [1, *output["shape"][1:]]
            made.outputs.add(name=output["name"], datatype=output["datatype"], shape=shape)
        self._head = made.SerializeToString() + _until_last(_AN_ID, parameters=_parameters(_AN_ID))

    def row(self, raws: Sequence[bytes]) -> dict[str, Any] | None:
        """Return the row of raw tensors; None where it has to be read with all checks."""
        try:
            values = [read(raw) for read, raw in zip(self._reads, raws, strict=True)]
        except _UNREADABLE:
            return None
        return dict(zip(self._names, values, strict=True))

    def response(self, request_id: str, answered: Answered) -> bytes | None:
        """Return the response; None where it holds more than the usual answer does."""
        prediction_id = answered.prediction_id.encode()
        if answered.source != "model" or answered.flags or len(prediction_id) != len(_AN_ID):
            return None
        # A message may be written in parts, one behind the other.
        parts = [self._head, prediction_id, *[write(answered) for write in self._writes]]
        if request_id:
            parts.append(_part(id=request_id))
        return b"".join(parts)


class Plans:
    """The plans of one version, by the bytes that describe a request."""

    def __init__(self) -> None:
        self._loaded: LoadedVersion | None = None
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def find(self, loaded: LoadedVersion, view: Any) -> Plan | None:
        """Return the plan of a ModelInferView, if an earlier request of its kind left one."""
        return self._plans.get(_kind(view)) if loaded is self._loaded else None

    def learn(
        self, loaded: LoadedVersion, view: Any, request: Any, wanted: Sequence[dict[str, Any]]
    ) -> None:
        """Make a plan of a request of one row that was answered, where its tensors are raw."""
        if not request.raw_input_contents or sum(map(len, view.inputs)) > _LONGEST:
            return
        # What clients may invent has a bound.
        if loaded is not self._loaded or len(self._plans) >= _MOST:
            self._loaded, self._plans = loaded, {}
        self._plans[_kind(view)] = Plan(loaded, request, wanted)


def _kind(view: Any) -> tuple[Any, ...]:
    return view.model_name, view.model_version, *view.inputs, None, *view.outputs


def _reader(field: FieldSpec, datatype: str) -> _Read:
    """Return what reads one value as `rows_of` does, and raises one of `_UNREADABLE` if it cannot."""
    if datatype == "BOOL":
        return _BOOLS.__getitem__
    if datatype == "BYTES":
        return _text_reader(field)
    unpack = _NUMBERS[datatype].unpack
    if field.kind == "bool":
        # 0 and 1 are what numbers say of it; anything else is for the checks to refuse.
        known = {0: False, 1: True}
        if not field.optional:
            return lambda raw: known[unpack(raw)[0]]
        return lambda raw: None if (value := unpack(raw)[0]) != value else known[value]
    if field.optional and datatype.startswith("FP"):
        return lambda raw: None if (value := unpack(raw)[0]) != value else value
    return lambda raw: unpack(raw)[0]


def _text_reader(field: FieldSpec) -> _Read:
    optional = field.optional

    def read(raw: bytes) -> str | None:
        if int.from_bytes(raw[:4], "little") != len(raw) - 4:
            raise ValueError
        text = raw[4:].decode()
        return None if optional and not text else text

    if field.choices is None:
        return read
    return {raw: read(raw) for raw in (raw_bytes("BYTES", [c]) for c in _texts(field))}.__getitem__


def _texts(field: FieldSpec) -> list[str]:
    texts = [choice for choice in field.choices or () if isinstance(choice, str)]
    return [*texts, ""] if field.optional else texts


def _writer(loaded: LoadedVersion, output: dict[str, Any]) -> Callable[[Answered], bytes]:
    """Return what writes an output of one answer as `raw_bytes` does, as a part of a response."""
    classes = loaded.predictor.classes
    if output["name"] == "prediction" and classes is not None:
        raws = {label: raw_bytes(output["datatype"], [label]) for label in classes}
        parts: dict[Any, bytes] = {
            label: _part(raw_output_contents=[raw]) for label, raw in raws.items()
        }
        return lambda answered: parts[answered.prediction]
    count = 1 if output["name"] == "prediction" else output["shape"][1]
    numbers = struct.Struct(f"<{count}d")
    empty = bytes(numbers.size)
    head, pack = _until_last(empty, raw_output_contents=[empty]), numbers.pack
    if output["name"] == "prediction":
        return lambda answered: head + pack(answered.prediction)
    return lambda answered: head + pack(*(answered.probabilities or ()))


def _part(**fields: Any) -> bytes:
    data: bytes = message("ModelInferResponse")(**fields).SerializeToString()
    return data


def _until_last(last: bytes | str, **fields: Any) -> bytes:
    """Return a part of a response without what it ends with, which is always as long."""
    return _part(**fields)[: -len(last)]


def _parameters(prediction_id: str) -> dict[str, Any]:
    texts = parameters_of([Answered(0.0, None, prediction_id)])
    return {name: message("InferParameter")(string_param=text) for name, text in texts.items()}
