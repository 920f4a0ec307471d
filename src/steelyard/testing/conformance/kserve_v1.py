"""The KServe v1 protocol; texts: its data plane documentation, TensorFlow Serving's REST API."""

from typing import Final

from steelyard.testing.conformance.hostile import add_hostile_cases, error_text
from steelyard.testing.conformance.instances import (
    add_instances_cases,
    instances,
    learn_rows,
    named,
)
from steelyard.testing.conformance.suite import Subject, Suite
from steelyard.testing.conformance.talk import expect

__all__ = ["SUITE"]

_ERROR: Final = '4xx with {"error": text}.'
_says_why = error_text("error")


def _route(subject: Subject) -> str:
    return f"/v1/models/{named(subject)}:predict"


SUITE: Final = Suite("kserve-v1", learn_rows("/v1/models"))


@SUITE.case("the list of models", 'GET /v1/models answers 200 with {"models": [name, ...]}.')
def _models(subject: Subject) -> None:
    reply = subject.talk.get("/v1/models").must(200)
    found = reply.object("models")["models"]
    expect(isinstance(found, list) and named(subject) in found, str(reply))


@SUITE.case("model ready", 'GET /v1/models/{model} answers 200 with {"name", "ready": true}.')
def _ready(subject: Subject) -> None:
    reply = subject.talk.get(f"/v1/models/{named(subject)}").must(200)
    found = reply.object("name", "ready")
    expect(found["name"] == subject.model, f"{reply}: another name")
    expect(found["ready"] is True, f"{reply}: not ready")


add_instances_cases(SUITE, _route, _ERROR, _says_why)


@SUITE.case("an unknown model", '404 with {"error": text}.')
def _unknown(subject: Subject) -> None:
    _says_why(subject.talk.get("/v1/models/no-such-model").must(404))
    route = "/v1/models/no-such-model:predict"
    _says_why(subject.talk.post(route, instances(subject.rows[:1])).must(404))


add_hostile_cases(
    SUITE,
    _route,
    ' with {"error": text}',
    _says_why,
    lambda subject: instances(subject.rows[:1]),
)
