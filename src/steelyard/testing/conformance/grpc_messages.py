"""The messages of the Open Inference Protocol over gRPC, as the protocol's text numbers them.

They are written down here once more, apart from any server's: a server whose own description is wrong
would otherwise be judged by it.
"""

from functools import cache
from typing import Any, Final

from steelyard.errors import UsageError

__all__ = ["SERVICE", "channel", "contents_field", "grpc_module", "message"]

SERVICE: Final = "inference.GRPCInferenceService"

_BOTH: Final = "name 1 string, version 2 string"
_TENSOR: Final = "name 1 string, datatype 2 string, shape 3 int64*"
_FULL: Final = f"{_TENSOR}, contents 5 .InferTensorContents"
# A member is `name number type`, a list with a star, a message with a dot. Parameters are left out:
# what is not described is passed over.
_MESSAGES: Final = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live 1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready 1 bool",
    "ModelReadyRequest": _BOTH,
    "ModelReadyResponse": "ready 1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": f"{_BOTH}, extensions 3 string*",
    "ModelMetadataRequest": _BOTH,
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "name 1 string, versions 2 string*, platform 3 string, "
    "inputs 4 .TensorMetadata*, outputs 5 .TensorMetadata*",
    "InferTensorContents": "bool_contents 1 bool*, int_contents 2 int32*, int64_contents 3 int64*, "
    "uint_contents 4 uint32*, uint64_contents 5 uint64*, fp32_contents 6 float*, "
    "fp64_contents 7 double*, bytes_contents 8 bytes*",
    "InferInputTensor": _FULL,
    "InferOutputTensor": _FULL,
    "InferRequestedOutputTensor": "name 1 string",
    "ModelInferRequest": "model_name 1 string, model_version 2 string, id 3 string, "
    "inputs 5 .InferInputTensor*, outputs 6 .InferRequestedOutputTensor*, raw_input_contents 7 bytes*",
    "ModelInferResponse": "model_name 1 string, model_version 2 string, id 3 string, "
    "outputs 5 .InferOutputTensor*, raw_output_contents 6 bytes*",
}
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
_LARGEST: Final = 64 * 1024 * 1024


def grpc_module() -> Any:
    """Return the gRPC library. Raises UsageError where it is not installed."""
    try:
        import google.protobuf.message  # noqa: F401  # without it the messages cannot be made
        import grpc
    except ImportError:
        raise UsageError(
            "judging gRPC needs the gRPC extra.", fix="pip install 'steelyard[grpc]'"
        ) from None
    return grpc


def channel(target: str, *, secure: bool) -> Any:
    """Return a channel to `host:port`; it connects when it is used."""
    grpc = grpc_module()
    options = [("grpc.max_receive_message_length", _LARGEST)]
    if secure:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)


def contents_field(datatype: str) -> str | None:
    """Return where typed contents of a datatype lie; None for one that comes raw only."""
    return _CONTENTS.get(datatype)


@cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    file = FileDescriptorProto(name="conformance.proto", package="conformance", syntax="proto3")
    for name, text in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for member in filter(None, text.split(", ")):
            member_name, number, kind = member.split(" ")
            field = described.field.add(name=member_name, number=int(number))
            many, kind = kind.endswith("*"), kind.rstrip("*")
            field.label = getattr(
                FieldDescriptorProto, f"LABEL_{'REPEATED' if many else 'OPTIONAL'}"
            )
            if kind.startswith("."):
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".conformance{kind}"
            else:
                field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return pool


@cache
def message(name: str) -> Any:
    """Return the class of a message."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"conformance.{name}"))
