"""The Open Inference Protocol v2 over REST; texts: its REST specification, and RFC 9110."""

from collections.abc import Mapping
from typing import Any, Final

from steelyard.testing.conformance.answers import add_answer_cases
from steelyard.testing.conformance.hostile import add_hostile_cases, error_text
from steelyard.testing.conformance.suite import NotApplicable, Suite
from steelyard.testing.conformance.talk import Reply, expect
from steelyard.testing.conformance.tensors import metadata_problem, row_values, tensor
from steelyard.testing.conformance.v2_binary import add_binary_cases
from steelyard.testing.conformance.v2_subject import V2, learn, outputs_of, predict

__all__ = ["SUITE"]

_ERROR: Final = 'An HTTP error status, typically 400, with {"error": text}.'
_NOBODY: Final = "no-such-model"


def _failed(reply: Reply) -> None:
    _says_why(reply.refused())


_says_why = error_text("error")

SUITE: Final = Suite("v2", learn)


@SUITE.case("server live", "GET /v2/health/live answers 200.")
def _live(subject: V2) -> None:
    subject.talk.get("/v2/health/live").must(200)


@SUITE.case("server ready", "GET /v2/health/ready answers 200.")
def _server_ready(subject: V2) -> None:
    subject.talk.get("/v2/health/ready").must(200)


@SUITE.case("model ready", "GET /v2/models/{model}/ready answers 200.")
def _ready(subject: V2) -> None:
    subject.talk.get(f"{subject.base}/ready").must(200)


@SUITE.case("server metadata", "GET /v2 answers 200 with name, version and extensions, a list.")
def _about(subject: V2) -> None:
    reply = subject.talk.get("/v2").must(200)
    found = reply.object("name", "version", "extensions")
    texts = [found["name"], found["version"], *found["extensions"]]
    expect(all(isinstance(text, str) for text in texts), str(reply))
    expect(isinstance(found["extensions"], list), str(reply))


@SUITE.case(
    "model metadata",
    "GET /v2/models/{model} answers 200 with name, platform, inputs and outputs; each tensor has a "
    "name, a datatype of the protocol and a shape of integers, -1 where free.",
)
def _metadata(subject: V2) -> None:
    reply = subject.talk.get(subject.base).must(200)
    found = reply.object("name", "platform", "inputs", "outputs")
    expect(found["name"] == subject.model, f"{reply}: another name")
    expect(isinstance(found["platform"], str), f"{reply}: platform is no text")
    for entry in [*found["inputs"], *found["outputs"]]:
        problem = metadata_problem(entry)
        expect(not problem, problem)
    versions = found.get("versions") or []
    expect(all(isinstance(one, str) for one in versions), f"versions {versions} are no texts")


@SUITE.case(
    "one row",
    "200 with model_name and outputs; each output has name, shape, datatype and data, as many values "
    "as its shape says, of its datatype.",
)
def _one(subject: V2) -> None:
    reply = subject.talk.post(subject.route, subject.request())
    outputs_of(subject, reply, 1)
    kind = reply.headers.get("content-type", "none")
    expect(kind.startswith("application/json"), f"Content-Type {kind}")


@SUITE.case("several rows", "Inputs whose first size is N are answered by outputs with N rows.")
def _rows(subject: V2) -> None:
    rows = subject.several()
    outputs_of(subject, subject.talk.post(subject.route, subject.request(rows)), len(rows))


add_answer_cases(SUITE, predict)


@SUITE.case("the outputs of the metadata", "All outputs of the metadata, in its datatypes.")
def _as_told(subject: V2) -> None:
    told = {one["name"]: one["datatype"] for one in subject.metadata.get("outputs") or ()}
    if not told:
        raise NotApplicable("the model's metadata tells no outputs")
    reply = subject.talk.post(subject.route, subject.request()).must(200)
    found = {one["name"]: one["datatype"] for one in reply.object("outputs")["outputs"]}
    expect(found == told, f"outputs {found}; the metadata says {told}")


@SUITE.case("the request's id", "An id in the request is returned in the response.")
def _id(subject: V2) -> None:
    reply = subject.talk.post(subject.route, subject.request(id="request 42")).must(200)
    found = reply.object("id")["id"]
    expect(found == "request 42", f"id {found!r}")


@SUITE.case("requested outputs", "Only the outputs that a request names are returned.")
def _requested(subject: V2) -> None:
    first = next(iter(outputs_of(subject, subject.talk.post(subject.route, subject.request()), 1)))
    request = subject.request(outputs=[{"name": first}])
    found = list(outputs_of(subject, subject.talk.post(subject.route, request), 1))
    expect(found == [first], f"outputs {found} where {first} was asked for")


@SUITE.case("nested data", "Tensor data may be nested as its shape, or flat.")
def _nested(subject: V2) -> None:
    rows = subject.several()
    request = subject.request(rows)
    for entry in request["inputs"]:
        width = len(entry["data"]) // len(rows)
        if entry["shape"][1:] == []:
            entry["shape"] = [len(rows), 1]
        entry["data"] = row_values(entry["data"], len(rows)) if width else entry["data"]
    subject.talk.post(subject.route, request).must(200)


@SUITE.case("parameters", "Parameters that a server does not know do not keep it from answering.")
def _parameters(subject: V2) -> None:
    request = subject.request(parameters={"no_such_parameter": 1})
    outputs_of(subject, subject.talk.post(subject.route, request), 1)


@SUITE.case(
    "a version by its name",
    "A version that the metadata lists is served at /v2/models/{model}/versions/{version}.",
)
def _version(subject: V2) -> None:
    version = _a_version(subject)
    base = f"{subject.base}/versions/{version}"
    subject.talk.get(f"{base}/ready").must(200)
    subject.talk.get(base).must(200).object("name", "inputs", "outputs")
    reply = subject.talk.post(f"{base}/infer", subject.request()).must(200)
    found = reply.object().get("model_version")
    expect(found == version, f"model_version {found!r} where {version!r} was asked for")


@SUITE.case("an unknown version", _ERROR)
def _no_version(subject: V2) -> None:
    _a_version(subject)
    base = f"{subject.base}/versions/987654321"
    _failed(subject.talk.get(base))
    _failed(subject.talk.post(f"{base}/infer", subject.request()))


def _a_version(subject: V2) -> str:
    versions = subject.metadata.get("versions")
    if not versions:
        raise NotApplicable("the metadata lists no versions")
    return str(versions[0])


@SUITE.case("an unknown model", f"{_ERROR} Its ready is not 200.")
def _unknown(subject: V2) -> None:
    _failed(subject.talk.get(f"/v2/models/{_NOBODY}"))
    _failed(subject.talk.post(f"/v2/models/{_NOBODY}/infer", subject.request()))
    reply = subject.talk.get(f"/v2/models/{_NOBODY}/ready")
    expect(not 200 <= reply.status < 300, str(reply))


def _spoiled(subject: V2, **changes: Any) -> Mapping[str, Any]:
    """Return a request whose first tensor is changed; None takes a member away."""
    request = subject.request()
    first = {**request["inputs"][0], **changes}
    kept = {name: value for name, value in first.items() if value is not None}
    return {**request, "inputs": [kept, *request["inputs"][1:]]}


def _add_mistake(case: str, /, **changes: Any) -> None:
    @SUITE.case(case, _ERROR)
    def mistake(subject: V2) -> None:
        _failed(subject.talk.post(subject.route, _spoiled(subject, **changes)))


_add_mistake("a tensor without a name", name=None)
_add_mistake("a tensor without a shape", shape=None)
_add_mistake("a tensor without a datatype", datatype=None)
_add_mistake("a tensor without data", data=None)
_add_mistake("a datatype that there is not", datatype="FP128")
_add_mistake("a shape that is no list", shape="1")
_add_mistake("a negative size", shape=[-1])
_add_mistake("data that are no list", data={"a": 1})
_add_mistake("a shape for more values than there are", shape=[7, 7])


@SUITE.case("inputs that are no list", _ERROR)
def _no_list(subject: V2) -> None:
    for inputs in (5, "inputs", {"name": "a"}, [5]):
        _failed(subject.talk.post(subject.route, {"inputs": inputs}))


@SUITE.case("no inputs", _ERROR)
def _no_inputs(subject: V2) -> None:
    _failed(subject.talk.post(subject.route, {}))


@SUITE.case("a missing input", f"The metadata lists what the model requires. {_ERROR}")
def _missing(subject: V2) -> None:
    if not subject.metadata.get("inputs"):
        raise NotApplicable("the metadata lists no inputs")
    inputs = subject.request()["inputs"]
    refused = 0
    for i in range(len(inputs)):
        reply = subject.talk.post(subject.route, {"inputs": inputs[:i] + inputs[i + 1 :]})
        # The metadata has no word for an input that may be left out, and models have such.
        if reply.status != 200:
            _failed(reply)
            refused += 1
    expect(refused > 0, "answers whichever input is left out")


@SUITE.case("texts in a tensor of numbers", _ERROR)
def _texts(subject: V2) -> None:
    numbers = [given.name for given in subject.inputs if given.datatype != "BYTES"]
    if not numbers:
        raise NotApplicable("no input is a number")
    for name in numbers:
        request = subject.request()
        for entry in request["inputs"]:
            if entry["name"] == name:
                entry["data"] = ["five"] * len(entry["data"])
        _failed(subject.talk.post(subject.route, request))


@SUITE.case("inputs of several lengths", _ERROR)
def _unequal(subject: V2) -> None:
    rows = subject.several()
    if len(subject.inputs) < 2:
        raise NotApplicable("the model has one input")
    request = subject.request(rows)
    request["inputs"][0] = tensor(subject.inputs[0], rows[:-1])
    _failed(subject.talk.post(subject.route, request))


@SUITE.case("an unknown output", _ERROR)
def _no_output(subject: V2) -> None:
    request = subject.request(outputs=[{"name": "no_such_output"}])
    _failed(subject.talk.post(subject.route, request))


add_binary_cases(SUITE)
add_hostile_cases(
    SUITE,
    lambda subject: subject.route,
    ' and {"error": text}',
    _says_why,
    lambda subject: subject.request(),
)
