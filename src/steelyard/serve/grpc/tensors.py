"""Tensors of gRPC messages: their values raw, or in lists by datatype."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.documents import parameters_of
from steelyard.serve.contracts.tensors import Tensor, raw_bytes, shown_name
from steelyard.serve.grpc.messages import message

__all__ = ["output_names", "response_of", "tensors_of"]

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_IMPOSSIBLE: Final = ("shared_memory_region", "classification")


def tensors_of(request: Any) -> Iterator[Tensor]:
    """Yield the tensors of a ModelInferRequest. Raises UsageError where they are none."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise UsageError(
            f"expected raw_input_contents of {len(request.inputs)} inputs, got {len(raws)}."
        )
    for i, found in enumerate(request.inputs):
        _check_parameters("input", found)
        if not raws:
            data: Sequence[Any] | bytes = _listed(found)
        elif found.HasField("contents"):
            raise UsageError(
                f"input {shown_name(found.name)}: expected its values in contents or in "
                "raw_input_contents, got both."
            )
        else:
            data = raws[i]
        yield Tensor(found.name, found.datatype, list(found.shape), data)


def _check_parameters(kind: str, found: Any) -> None:
    for impossible in _IMPOSSIBLE:
        if impossible in found.parameters:
            raise UsageError(f"{kind} {shown_name(found.name)}: there is no {impossible} here.")


def _listed(found: Any) -> list[Any]:
    """Return the values in the one list that a tensor's datatype has."""
    name, datatype = shown_name(found.name), found.datatype
    own = _CONTENTS.get(datatype)
    if own is None and datatype == "FP16":
        raise UsageError(f"input {name}: expected FP16 in raw_input_contents.")
    for field, _ in found.contents.ListFields():
        if own is not None and field.name != own:
            raise UsageError(
                f"input {name}: expected the values of {datatype} in {own}, got {field.name}."
            )
    values = list(getattr(found.contents, own)) if own else []
    if datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise UsageError(f"input {name}: expected text in UTF-8.") from None


def output_names(request: Any) -> list[str]:
    """Return the names of the outputs that a request wants, none for all. Raises UsageError."""
    for output in request.outputs:
        _check_parameters("output", output)
    return [output.name for output in request.outputs]


def response_of(
    loaded: LoadedVersion, request: Any, outputs: Sequence[Tensor], answers: Sequence[Answered]
) -> bytes:
    """Return the ModelInferResponse to a request; its tensors are raw where those of the request are."""
    made = message("ModelInferResponse")(
        model_name=loaded.predictor.model,
        model_version=str(loaded.served.version),
        id=request.id,
    )
    for name, text in parameters_of(answers).items():
        made.parameters[name].string_param = text
    for output in outputs:
        tensor = made.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if request.raw_input_contents:
            made.raw_output_contents.append(raw_bytes(output.datatype, output.data))
        elif output.datatype == "BYTES":
            texts = [str(value).encode() for value in output.data]
            tensor.contents.bytes_contents.extend(texts)
        else:
            getattr(tensor.contents, _CONTENTS[output.datatype]).extend(output.data)
    data: bytes = made.SerializeToString()
    return data
