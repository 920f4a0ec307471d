"""The Open Inference Protocol v2 over gRPC; texts: its gRPC specification, gRPC's status codes."""

from collections.abc import Callable
from typing import Any, Final

from steelyard.testing.conformance.answers import add_answer_cases, same
from steelyard.testing.conformance.grpc_messages import contents_field, message
from steelyard.testing.conformance.suite import NotApplicable, Suite
from steelyard.testing.conformance.talk import Violation, expect
from steelyard.testing.conformance.tensors import metadata_problem, tensor
from steelyard.testing.conformance.v2_grpc_subject import (
    CallError,
    V2Grpc,
    call,
    infer,
    learn,
    metadata_of,
    ok,
    predict,
    refused,
)

__all__ = ["SUITE"]

_ERROR: Final = "A status other than OK, and none that blames the server."
_LARGE: Final = 32 * 1024 * 1024
_NOBODY: Final = "no-such-model"

SUITE: Final = Suite("v2-grpc", learn)


@SUITE.case("server live", "ServerLive answers live: true.")
def _live(subject: V2Grpc) -> None:
    found = ok(subject, "ServerLive", message("ServerLiveRequest")())
    expect(found.live, "live: false")


@SUITE.case("server ready", "ServerReady answers ready: true.")
def _server_ready(subject: V2Grpc) -> None:
    found = ok(subject, "ServerReady", message("ServerReadyRequest")())
    expect(found.ready, "ready: false")


@SUITE.case("model ready", "ModelReady answers ready: true.")
def _ready(subject: V2Grpc) -> None:
    found = ok(subject, "ModelReady", message("ModelReadyRequest")(name=subject.model))
    expect(found.ready, "ready: false")


@SUITE.case("server metadata", "ServerMetadata answers a name and a version.")
def _about(subject: V2Grpc) -> None:
    found = ok(subject, "ServerMetadata", message("ServerMetadataRequest")())
    expect(bool(found.name) and bool(found.version), "without name or version")


@SUITE.case(
    "model metadata",
    "ModelMetadata answers the name and tensors, each with a name, a datatype of the protocol and a "
    "shape, -1 where free.",
)
def _metadata(subject: V2Grpc) -> None:
    request = message("ModelMetadataRequest")(name=subject.model)
    found = metadata_of(ok(subject, "ModelMetadata", request))
    expect(found["name"] == subject.model, f"name {found['name']!r}")
    for entry in [*found["inputs"], *found["outputs"]]:
        problem = metadata_problem(entry)
        expect(not problem, problem)


@SUITE.case(
    "one row",
    "OK with model_name and outputs, each with as many values as its shape says, in the contents of "
    "its datatype or raw.",
)
def _one(subject: V2Grpc) -> None:
    infer(subject, subject.request())


@SUITE.case("several rows", "Inputs whose first size is N are answered by outputs with N rows.")
def _rows(subject: V2Grpc) -> None:
    rows = subject.several()
    infer(subject, subject.request(rows), len(rows))


add_answer_cases(SUITE, predict)


@SUITE.case("raw contents", "raw_input_contents are answered as the same values in contents.")
def _raw(subject: V2Grpc) -> None:
    rows = subject.rows if subject.batched else subject.rows[:1]
    wanted = infer(subject, subject.request(rows), len(rows))
    found = infer(subject, subject.request(rows, raw=True), len(rows))
    expect(same(found, wanted), f"{found}; by contents {wanted}")


@SUITE.case("the outputs of the metadata", "All outputs of the metadata, in its datatypes.")
def _as_told(subject: V2Grpc) -> None:
    told = {one["name"]: one["datatype"] for one in subject.metadata.get("outputs") or ()}
    if not told:
        raise NotApplicable("the model's metadata tells no outputs")
    answer = ok(subject, "ModelInfer", subject.request())
    found = {output.name: output.datatype for output in answer.outputs}
    expect(found == told, f"outputs {found}; the metadata says {told}")


@SUITE.case("the request's id", "An id in the request is returned in the response.")
def _id(subject: V2Grpc) -> None:
    found = ok(subject, "ModelInfer", subject.request(id="request 42"))
    expect(found.id == "request 42", f"id {found.id!r}")


@SUITE.case("requested outputs", "Only the outputs that a request names are returned.")
def _requested(subject: V2Grpc) -> None:
    first = next(iter(infer(subject, subject.request())))
    found = list(infer(subject, subject.request(outputs=[{"name": first}])))
    expect(found == [first], f"outputs {found} where {first} was asked for")


@SUITE.case("a version by its name", "A version that the metadata lists is served under its name.")
def _version(subject: V2Grpc) -> None:
    version = _a_version(subject)
    about = {"name": subject.model, "version": version}
    expect(ok(subject, "ModelReady", message("ModelReadyRequest")(**about)).ready, "ready: false")
    ok(subject, "ModelMetadata", message("ModelMetadataRequest")(**about))
    found = ok(subject, "ModelInfer", subject.request(model_version=version))
    expect(found.model_version == version, f"model_version {found.model_version!r}")


@SUITE.case("an unknown version", _ERROR)
def _no_version(subject: V2Grpc) -> None:
    _a_version(subject)
    version = "987654321"
    about = message("ModelMetadataRequest")(name=subject.model, version=version)
    refused(subject, about, "ModelMetadata")
    refused(subject, subject.request(model_version=version))


def _a_version(subject: V2Grpc) -> str:
    versions = subject.metadata.get("versions")
    if not versions:
        raise NotApplicable("the metadata lists no versions")
    return str(versions[0])


@SUITE.case("an unknown model", f"{_ERROR} It is not ready.")
def _unknown(subject: V2Grpc) -> None:
    refused(subject, message("ModelMetadataRequest")(name=_NOBODY), "ModelMetadata")
    request = subject.request()
    request.model_name = _NOBODY
    refused(subject, request)
    try:
        found = call(subject, "ModelReady", message("ModelReadyRequest")(name=_NOBODY))
    except CallError:
        return
    expect(not found.ready, "ready: true")


def _add_mistake(case: str, spoil: Callable[[Any], object]) -> None:
    @SUITE.case(case, _ERROR)
    def mistake(subject: V2Grpc) -> None:
        request = subject.request()
        spoil(request)
        refused(subject, request)


def _set(name: str, value: Any) -> Callable[[Any], object]:
    return lambda request: setattr(request.inputs[0], name, value)


def _shape(*sizes: int) -> Callable[[Any], object]:
    def spoil(request: Any) -> None:
        request.inputs[0].shape[:] = sizes

    return spoil


def _no_contents(request: Any) -> None:
    request.inputs[0].ClearField("contents")
    del request.raw_input_contents[:]


_add_mistake("a tensor without a name", _set("name", ""))
_add_mistake("a tensor without a shape", _shape())
_add_mistake("a tensor without a datatype", _set("datatype", ""))
_add_mistake("a tensor without contents", _no_contents)
_add_mistake("a datatype that there is not", _set("datatype", "FP128"))
_add_mistake("a negative size", _shape(-1))
_add_mistake("a shape for more values than there are", _shape(7, 7))
_add_mistake("no inputs", lambda request: request.ClearField("inputs"))


@SUITE.case("a missing input", f"The metadata lists what the model requires. {_ERROR}")
def _missing(subject: V2Grpc) -> None:
    if not subject.metadata.get("inputs"):
        raise NotApplicable("the metadata lists no inputs")
    found = 0
    for i in range(len(subject.inputs)):
        request = subject.request()
        del request.inputs[i]
        if request.raw_input_contents:
            del request.raw_input_contents[i]
        try:
            call(subject, "ModelInfer", request)
        except CallError:
            refused(subject, request)
            found += 1
    # The metadata has no word for an input that may be left out, and models have such.
    expect(found > 0, "answers whichever input is left out")


@SUITE.case(
    "contents of another datatype", f"The contents have to be those of the datatype. {_ERROR}"
)
def _contents(subject: V2Grpc) -> None:
    for i, given in enumerate(subject.inputs):
        if contents_field(given.datatype) is None or given.datatype == "BYTES":
            continue
        request = subject.request()
        if request.raw_input_contents:
            raise NotApplicable("the model's contents come raw only")
        count = len(tensor(given, subject.rows[:1])["data"])
        request.inputs[i].ClearField("contents")
        request.inputs[i].contents.bytes_contents.extend([b"five"] * count)
        refused(subject, request)


@SUITE.case("inputs of several lengths", _ERROR)
def _unequal(subject: V2Grpc) -> None:
    rows = subject.several()
    if len(subject.inputs) < 2:
        raise NotApplicable("the model has one input")
    request, shorter = subject.request(rows), subject.request(rows[:-1])
    request.inputs[0].CopyFrom(shorter.inputs[0])
    if request.raw_input_contents:
        request.raw_input_contents[0] = shorter.raw_input_contents[0]
    refused(subject, request)


@SUITE.case("an unknown output", _ERROR)
def _no_output(subject: V2Grpc) -> None:
    refused(subject, subject.request(outputs=[{"name": "no_such_output"}]))


@SUITE.case("raw contents of another size", f"Their size has to match shape and datatype. {_ERROR}")
def _raw_size(subject: V2Grpc) -> None:
    request = subject.request(raw=True)
    request.raw_input_contents[0] += b"\0"
    refused(subject, request)


@SUITE.case("fewer raw contents than inputs", _ERROR)
def _raw_count(subject: V2Grpc) -> None:
    request = subject.request(raw=True)
    del request.raw_input_contents[-1]
    refused(subject, request)


@SUITE.case(
    "raw contents beside others", f"Where raw contents are given, others must not be. {_ERROR}"
)
def _raw_and_others(subject: V2Grpc) -> None:
    request = subject.request()
    if request.raw_input_contents:
        raise NotApplicable("the model's contents come raw only")
    request.raw_input_contents.extend(subject.request(raw=True).raw_input_contents)
    refused(subject, request)


def _fails(subject: V2Grpc, method: str, request: Any) -> str:
    """Return the code of a call that must not succeed. Raises Violation."""
    try:
        call(subject, method, request, "ModelInferResponse")
    except CallError as error:
        return error.code
    raise Violation(f"OK {subject.talk.came}")


@SUITE.case("a method that there is not", "UNIMPLEMENTED.")
def _no_method(subject: V2Grpc) -> None:
    code = _fails(subject, "NoSuchMethod", b"")
    expect(code == "UNIMPLEMENTED", code)


@SUITE.case("bytes that are no message", "A status other than OK; the server goes on.")
def _no_message(subject: V2Grpc) -> None:
    for data in (b"\xff\xff\xff", b"{}", b"\x2a\x05ab"):
        _fails(subject, "ModelInfer", data)
    infer(subject, subject.request())


@SUITE.case("a large message", "32 MiB are refused, or answered; the server goes on.")
def _large(subject: V2Grpc) -> None:
    _fails(subject, "ModelInfer", b"\x1a" + b"\xff\xff\xff\x0f" + b"x" * _LARGE)
    infer(subject, subject.request())
