"""The suite of v2 over gRPC: our own server passes it, and each case fails for one that sins."""

import inspect
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from steelyard.cli.serve import serve
from steelyard.errors import UsageError
from steelyard.testing.conformance import CONTRACTS, conform
from steelyard.testing.conformance.grpc_messages import message
from steelyard.testing.conformance.talk import Talk

grpc = pytest.importorskip("grpc", reason="the gRPC extra is not installed")

SUITE = CONTRACTS["v2-grpc"]
LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Call:
    """A call with the outcome that the real server gave it."""

    method: str
    request: bytes
    code: grpc.StatusCode
    reply: bytes = b""

    def edited(self, change):
        """Return the call with a good response changed."""
        if self.code is not grpc.StatusCode.OK:
            return self
        found = message(f"{self.method}Response").FromString(self.reply)
        change(found)
        return replace(self, reply=found.SerializeToString())


class Liar(grpc.GenericRpcHandler):
    """A proxy that sins."""

    def __init__(self, upstream):
        self.upstream = grpc.insecure_channel(upstream)
        self.sin = lambda call: call

    def service(self, details):
        method = details.method

        def answer(request, context):
            ask = self.upstream.unary_unary(method)
            try:
                reply = ask(request, timeout=30)
                call = Call(method.rpartition("/")[2], request, grpc.StatusCode.OK, reply)
            except grpc.RpcError as error:
                call = Call(method.rpartition("/")[2], request, error.code())
            found = self.sin(call)
            if found.code is not grpc.StatusCode.OK:
                context.abort(found.code, "refused")
            return found.reply

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def target(servers):
    if "grpc_port" not in inspect.signature(serve).parameters:
        pytest.skip("the server does not speak gRPC yet")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = servers.process("--port", "0", "--grpc-port", str(port))
    assert "http://" in process.stdout.readline()
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def liar(target):
    proxy = Liar(target)
    options = [("grpc.max_receive_message_length", LARGEST)]
    server = grpc.server(ThreadPoolExecutor(16), handlers=[proxy], options=options)
    proxy.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield proxy
    server.stop(0).wait()
    proxy.upstream.close()


def test_the_server_conforms(target, rows, tmp_path):
    report = SUITE.run(Talk(f"grpc://{target}"), "churn", rows)
    assert [(case.name, case.sent, case.got) for case in report.cases if not case.passed] == []
    assert report.skipped == {}


def test_what_has_to_be_named_is_told(target):
    with pytest.raises(UsageError, match="--model"):
        conform(f"grpc://{target}", "v2-grpc")
    with pytest.raises(UsageError, match="refuses rows made from its metadata"):
        conform(f"grpc://{target}", "v2-grpc", model="churn")
    with pytest.raises(UsageError, match="tells no inputs"):
        conform(f"grpc://{target}", "v2-grpc", model="chrun")


# Sins.


def edits(method, change):
    return lambda call: call.edited(change) if call.method == method else call


def fails(method, code=grpc.StatusCode.UNAVAILABLE):
    return lambda call: replace(call, code=code) if call.method == method else call


def on_outputs(change):
    def edit(found):
        for output in found.outputs:
            change(found, output)

    return edits("ModelInfer", edit)


def sets(name, value):
    return lambda found: setattr(found, name, value)


def accepts(call):
    """Take what is to be refused."""
    if call.code is grpc.StatusCode.OK or call.method == "ModelReady":
        return call
    return replace(call, code=grpc.StatusCode.OK, reply=b"")


def blames_itself(call):
    refused = call.code is not grpc.StatusCode.OK
    return replace(call, code=grpc.StatusCode.INTERNAL) if refused else call


REFUSES = [accepts, blames_itself]


def values(output):
    """Return the list that holds an output's values."""
    return next(found for _, found in output.contents.ListFields())


def typed(change):
    """Change outputs whose contents are typed and hold numbers."""

    def edit(found, output):
        if output.datatype == "FP64" and not found.raw_output_contents:
            data = list(output.contents.fp64_contents)
            output.contents.fp64_contents[:] = change(data)

    return on_outputs(edit)


def drifts(call):
    """Answer other numbers."""

    def change(found):
        for i, output in enumerate(found.outputs):
            if output.datatype != "FP64":
                continue
            if found.raw_output_contents:
                found.raw_output_contents[i] = bytes(len(found.raw_output_contents[i]))
            else:
                data = output.contents.fp64_contents
                data[:] = [number + 0.01 for number in data]

    return call.edited(change) if call.method == "ModelInfer" else call


def rows_of(call):
    return message("ModelInferRequest").FromString(call.request).inputs[0].shape[0]


def only(condition, sin):
    def found(call):
        return sin(call) if call.method == "ModelInfer" and condition(call) else call

    return found


def counted(sin):
    """Sin at every second inference."""
    seen = []

    def found(call):
        if call.method != "ModelInfer" or call.code is not grpc.StatusCode.OK:
            return call
        seen.append(call)
        return sin(call) if len(seen) % 2 == 0 else call

    return found


def mixes(alone):
    seen = []

    def found(call):
        if call.method == "ModelInfer":
            seen.append(call)
        return seen[0] if len(seen) > alone and call.method == "ModelInfer" else call

    return found


def is_raw(call):
    return bool(message("ModelInferRequest").FromString(call.request).raw_input_contents)


def is_whole(call):
    """Say whether a request is one that is answered, whatever the proxy makes of it."""
    return call.code is grpc.StatusCode.OK


def turns(call):
    """Turn the answers around where there are several, whatever their rows."""

    def change(found):
        for output in found.outputs:
            data = values(output)
            data[:] = sorted(data)

    return call.edited(change)


def is_always_ready(call):
    if call.method != "ModelReady":
        return call
    ready = message("ModelReadyResponse")(ready=True)
    return replace(call, code=grpc.StatusCode.OK, reply=ready.SerializeToString())


def falls():
    """Answer nothing after bytes that are no message, or a message that is too large."""
    fallen = []

    def found(call):
        if call.code is not grpc.StatusCode.OK and call.method == "ModelInfer":
            fallen.append(call)
        return replace(call, code=grpc.StatusCode.UNAVAILABLE) if fallen else call

    return found


SINS = {
    "server live": [fails("ServerLive", grpc.StatusCode.INTERNAL), edits("ServerLive", sets("live", False))],
    "server ready": [fails("ServerReady"), edits("ServerReady", sets("ready", False))],
    "model ready": [fails("ModelReady"), edits("ModelReady", sets("ready", False))],
    "server metadata": [
        fails("ServerMetadata"),
        edits("ServerMetadata", sets("name", "")),
        edits("ServerMetadata", sets("version", "")),
    ],
    "model metadata": [
        fails("ModelMetadata"),
        edits("ModelMetadata", sets("name", "other")),
        edits("ModelMetadata", lambda found: setattr(found.inputs[0], "datatype", "DOUBLE")),
        edits("ModelMetadata", lambda found: found.outputs[0].shape.append(-2)),
    ],
    "one row": [
        fails("ModelInfer"),
        edits("ModelInfer", sets("model_name", "other")),
        edits("ModelInfer", lambda found: found.ClearField("outputs")),
        on_outputs(lambda found, output: output.shape.append(7)),
        on_outputs(lambda found, output: setattr(output, "datatype", "INT64")),
        edits("ModelInfer", lambda found: found.raw_output_contents.append(b"")),
    ],
    "several rows": [on_outputs(lambda found, output: output.shape.__setitem__(0, 1))],
    "answers keep their order": [only(is_whole, turns)],
    "several rows are answered as one by one": [only(lambda call: rows_of(call) > 1, drifts)],
    "the same row has the same answer": [lambda: counted(drifts)],
    "clients at the same time do not mix": [lambda: mixes(3)],
    "raw contents": [only(is_raw, drifts), only(is_raw, fails("ModelInfer"))],
    "the outputs of the metadata": [edits("ModelInfer", lambda found: found.outputs.pop())],
    "the request's id": [edits("ModelInfer", sets("id", ""))],
    "requested outputs": [
        edits("ModelInfer", lambda found: found.outputs.add().CopyFrom(found.outputs[0]) or
              setattr(found.outputs[-1], "name", "extra")),
    ],
    "a version by its name": [
        edits("ModelInfer", sets("model_version", "7")),
        fails("ModelReady", grpc.StatusCode.NOT_FOUND),
    ],
    "an unknown version": REFUSES,
    "an unknown model": [*REFUSES, is_always_ready],
    **dict.fromkeys(
        (
            "a tensor without a name",
            "a tensor without a shape",
            "a tensor without a datatype",
            "a tensor without contents",
            "a datatype that there is not",
            "a negative size",
            "a shape for more values than there are",
            "no inputs",
            "a missing input",
            "contents of another datatype",
            "inputs of several lengths",
            "an unknown output",
            "raw contents of another size",
            "fewer raw contents than inputs",
            "raw contents beside others",
        ),
        REFUSES,
    ),
    "a method that there is not": REFUSES,
    "bytes that are no message": [accepts, falls],
    "a large message": [accepts, falls],
}  # fmt: skip


def test_every_case_has_its_sin():
    assert set(SINS) == set(SUITE.names)


@pytest.mark.parametrize(
    ("case", "sin"),
    [
        pytest.param(case, sin, id=f"{case} {number}")
        for case, sins in SINS.items()
        for number, sin in enumerate(sins)
    ],
)
def test_a_server_that_sins_fails_the_case(case, sin, liar, rows):
    liar.sin = sin() if sin.__code__.co_argcount == 0 else sin
    report = SUITE.run(Talk(liar.url), "churn", rows, only=case)
    assert report.skipped == {}
    (found,) = report.cases
    assert not found.passed, f"{found.sent} was answered by {found.got}, and that passed"


def test_the_proxy_alone_fails_nothing(liar, rows):
    liar.sin = lambda call: call
    report = SUITE.run(Talk(liar.url), "churn", rows)
    assert [(case.name, case.got) for case in report.cases if not case.passed] == []
