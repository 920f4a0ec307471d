"""The protocol's messages, made of the checked-in description that `make proto` compiles.

They live in a pool of their own: clients of the protocol, which may be in the same process, describe
messages of the same names.
"""

from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Final

from steelyard.errors import UsageError

__all__ = ["SERVICE", "check_installed", "decode_error", "message"]

SERVICE: Final = "inference.GRPCInferenceService"
_DESCRIPTION: Final = "inference.binpb"


def check_installed() -> None:
    """Raise UsageError where what gRPC needs is not installed; nothing is imported yet."""
    for module, name in (
        ("grpc", "grpcio"),
        ("google", "protobuf"),
        ("google.protobuf", "protobuf"),
    ):
        if find_spec(module) is None:
            raise UsageError(
                f"gRPC needs {name}, which is not installed.",
                fix="Install it: pip install 'steelyard[grpc]'",
            )


@cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    data = (files("steelyard.serve.grpc") / _DESCRIPTION).read_bytes()
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def message(name: str) -> Any:
    """Return the class of a message of the protocol, like ModelInferRequest."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


def decode_error() -> type[Exception]:
    """Return what is raised over bytes that are no message."""
    from google.protobuf.message import DecodeError

    error: type[Exception] = DecodeError
    return error
