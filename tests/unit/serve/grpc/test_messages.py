import importlib.util
import subprocess
import sys
from importlib.resources import files

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import service_pb2

from steelyard.errors import UsageError
from steelyard.serve.grpc.messages import check_installed, message

MESSAGES = [
    f"{method}{kind}"
    for method in (
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    )
    for kind in ("Request", "Response")
] + ["InferParameter", "InferTensorContents"]  # fmt: skip


def described(descriptor):
    """Return number -> name, type and kind of a message's fields, and the same of what they hold."""
    found = {}
    for field in descriptor.fields:
        inner = field.message_type
        found[field.number] = (
            field.name,
            field.type,
            field.is_repeated,
            None if inner is None else described(inner),
        )
    return found


@pytest.mark.parametrize("name", MESSAGES)
def test_the_messages_are_those_of_the_protocols_own_client(name):
    ours = described(message(name).DESCRIPTOR)
    assert ours == described(getattr(service_pb2, name).DESCRIPTOR)


def test_the_view_of_a_request_has_its_numbers():
    view, whole = message("ModelInferView").DESCRIPTOR, message("ModelInferRequest").DESCRIPTOR
    for field in view.fields:
        other = whole.fields_by_name[field.name]
        assert (field.number, field.is_repeated) == (other.number, other.is_repeated)


def test_the_checked_in_description_is_what_make_proto_compiles(tmp_path):
    folder = files("steelyard.serve.grpc")
    target = tmp_path / "made"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(folder), "inference.proto",
               f"--descriptor_set_out={target}"]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    made = FileDescriptorSet.FromString(target.read_bytes())
    checked_in = FileDescriptorSet.FromString((folder / "inference.binpb").read_bytes())
    assert checked_in == made


@pytest.mark.parametrize(("module", "says"), [("grpc", "grpcio"), ("google.protobuf", "protobuf")])
def test_what_is_not_installed_is_told_with_the_extra(monkeypatch, module, says):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "steelyard.serve.grpc.messages.find_spec",
        lambda name: None if name == module else real(name),
    )
    with pytest.raises(UsageError, match=f"needs {says}") as caught:
        check_installed()
    assert "steelyard[grpc]" in str(caught.value)
