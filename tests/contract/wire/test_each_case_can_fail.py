"""A suite that passes whatever a server does is none: each case fails for a server that sins."""

import itertools
import json
from dataclasses import replace

import pytest

from steelyard.testing.conformance import CONTRACTS
from steelyard.testing.conformance.hostile import BODIES
from steelyard.testing.conformance.talk import Talk

# Sins that any contract can be broken by.


def answers(status, path="", method=""):
    """Answer requests to a path, below it too, with a status and nothing that is of use."""

    def sin(exchange):
        hit = path in exchange.path and method in ("", exchange.method)
        return exchange.answering({"error": "sin", "errors": []}, status) if hit else exchange

    return sin


def edits(change, path="", method=""):
    """Change the documents that good requests to a path are answered with."""

    def sin(exchange):
        hit = path in exchange.path and method in ("", exchange.method)
        if not hit or exchange.status != 200:
            return exchange
        document = exchange.document
        return exchange.answering(change(document) or document)

    return sin


def without(*path):
    """Take a member out of the documents that good requests are answered with."""

    def change(document):
        inside = document
        for step in path[:-1]:
            inside = inside[step]
        del inside[path[-1]]

    return change


def sets(value, *path):
    def change(document):
        inside = document
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = value

    return change


def accepts(exchange):
    """Take what is to be refused."""
    refused = 400 <= exchange.status < 500
    return exchange.answering({"predictions": [1], "outputs": []}, 200) if refused else exchange


def crashes(exchange):
    refused = 400 <= exchange.status < 500
    return exchange.answering({"error": "sin"}, 500) if refused else exchange


def mumbles(exchange):
    """Refuse without saying why in the contract's form."""
    return exchange.answering(b"no", exchange.status) if exchange.status >= 400 else exchange


def disallows(exchange):
    """Say 405 and not what is allowed."""
    given = {name: value for name, value in exchange.given.items() if name != "allow"}
    return replace(exchange, status=405, given=given)


def hangs_up(exchange):
    """Close a connection that was to be kept, and do not say so."""
    return replace(exchange, given=exchange.given | {"x-then": "close"})


def tires(exchange):
    """Crash at a large body."""
    return exchange.answering({"error": "sin"}, 500) if len(exchange.asked) > 10**6 else exchange


def falls():
    """Answer a large body, and nothing after it."""
    fallen = []

    def sin(exchange):
        if len(exchange.asked) > 10**6:
            fallen.append(True)
            return exchange
        return None if fallen else exchange

    return sin


def mixes(route, alone):
    """Answer what is asked after `alone` good answers with the first of them."""
    seen = []

    def sin(exchange):
        if exchange.path != route or exchange.status != 200:
            return exchange
        seen.append(exchange)
        return seen[0] if len(seen) > alone else exchange

    return sin


def wavers(route):
    """Answer every second request with the answer to another row."""
    count = itertools.count()
    kept = []

    def sin(exchange):
        if exchange.path != route or exchange.status != 200:
            return exchange
        kept.append(exchange)
        return exchange.answering(drifted(exchange.document)) if next(count) % 2 else exchange

    return sin


def drifted(document):
    """Return a document whose numbers are others."""
    if isinstance(document, dict):
        return {name: drifted(value) for name, value in document.items()}
    if isinstance(document, list):
        return [drifted(value) for value in document]
    return document + 0.01 if isinstance(document, float) else document


REFUSES = [accepts, crashes, mumbles]
HOSTILE = {
    **{f"malformed body: {name}": REFUSES for name in BODIES},
    "a charset is no other type": [answers(415, method="POST")],
    **{
        f"{method} on the prediction route": [accepts, crashes, disallows]
        for method in ("GET", "HEAD", "PUT", "DELETE")
    },
    "a large malformed body": [tires, falls, accepts],
    "a connection is used again": [hangs_up],
}


# Native.


def on_rows(change):
    """Change the predictions of a request of several rows."""

    def edit(document):
        if "predictions" in document:
            document["predictions"] = change(document["predictions"])

    return edits(edit, "/predict/")


def by_probability(predictions):
    return sorted(predictions, key=lambda one: one["probabilities"]["Yes"])


NATIVE = {
    "live": [answers(503, "/health/live")],
    "ready": [answers(503, "/health/ready")],
    "the OpenAPI document": [
        answers(404, "/openapi.json"),
        edits(sets("2.0", "openapi"), "/openapi.json"),
        edits(sets({}, "paths"), "/openapi.json"),
        edits(without("components", "schemas", "Row"), "/openapi.json"),
    ],
    "one row": [
        edits(without("source"), "/predict/"),
        edits(sets("guess", "source"), "/predict/"),
        edits(sets("1", "version"), "/predict/"),
        edits(sets("other", "model"), "/predict/"),
        lambda exchange: replace(exchange, given={"content-type": "text/html"}),
    ],
    "probabilities": [
        edits(sets(0.9, "probabilities", "Yes"), "/predict/"),
        edits(sets("Perhaps", "prediction"), "/predict/"),
        edits(without("probabilities"), "/predict/"),
    ],
    "prediction ids": [
        edits(sets("1", "prediction_id"), "/predict/"),
        on_rows(
            lambda found: [{**one, "prediction_id": found[0]["prediction_id"]} for one in found]
        ),
    ],
    "several rows": [
        on_rows(lambda found: found[:-1]),
        on_rows(lambda found: [{"prediction": one["prediction"]} for one in found]),
    ],
    "no rows": [on_rows(lambda found: found or [None])],
    "answers keep their order": [on_rows(by_probability)],
    "several rows are answered as one by one": [on_rows(drifted)],
    "the same row has the same answer": [lambda: wavers("/predict/churn")],
    "clients at the same time do not mix": [lambda: mixes("/predict/churn", 3)],
    "an unknown model": [*REFUSES, answers(400, "/no-such-model")],
    "a missing field": REFUSES,
    "an unknown field": REFUSES,
    "strict types": REFUSES,
    "numbers that JSON does not have": REFUSES,
    "an integer for a number": [answers(422, "/predict/")],
    "a whole number for an integer": [answers(422, "/predict/"), lambda: wavers("/predict/churn")],
    "null": REFUSES,
    "every bad field is listed": [
        *REFUSES,
        lambda e: e.answering({"errors": e.document["errors"][:1]}) if e.status == 422 else e,
    ],
    "a bad row among rows": [
        *REFUSES,
        lambda e: e.answering(json.loads(e.body.replace(b"rows.1.", b""))),
    ],
    "a field twice": REFUSES,
    "another content type": REFUSES,
    "too many rows": [accepts, crashes],
    **HOSTILE,
}


# The Open Inference Protocol.

INFER = "/v2/models/churn/infer"


def on_outputs(change):
    def edit(document):
        for output in document["outputs"]:
            change(output)

    return edits(edit, "/infer")


def shifts(output):
    """Turn the first answer of several into the last."""
    if output["shape"][0] > 1:
        output["data"] = output["data"][::-1]


def sorts(output):
    output["data"] = sorted(output["data"])


def drifts_in_company(output):
    if output["shape"][0] > 1:
        output["data"] = drifted(output["data"])


V2 = {
    "server live": [answers(503, "/v2/health/live")],
    "server ready": [answers(503, "/v2/health/ready")],
    "model ready": [answers(503, "/v2/models/churn/ready")],
    "server metadata": [
        answers(500, "/v2", "GET"),
        lambda e: edits(without("extensions"))(e) if e.path == "/v2" else e,
        lambda e: edits(sets(2, "version"))(e) if e.path == "/v2" else e,
        lambda e: edits(sets("a", "extensions"))(e) if e.path == "/v2" else e,
    ],
    "model metadata": [
        answers(500, "/v2/models/churn", "GET"),
        edits(without("platform"), "/v2/models/churn", "GET"),
        edits(sets("other", "name"), "/v2/models/churn", "GET"),
        edits(sets("DOUBLE", "inputs", 0, "datatype"), "/v2/models/churn", "GET"),
        edits(sets("[-1]", "outputs", 0, "shape"), "/v2/models/churn", "GET"),
        edits(sets([1], "versions"), "/v2/models/churn", "GET"),
    ],
    "one row": [
        answers(500, "/infer"),
        edits(without("model_name"), "/infer"),
        edits(sets([], "outputs"), "/infer"),
        on_outputs(without("shape")),
        on_outputs(without("data")),
        on_outputs(sets([7], "shape")),
        on_outputs(sets("FP32", "datatype")),
        lambda exchange: replace(exchange, given={"content-type": "text/html"}),
    ],
    "several rows": [answers(400, "/infer"), on_outputs(sets([1], "shape"))],
    "answers keep their order": [on_outputs(sorts)],
    "several rows are answered as one by one": [on_outputs(drifts_in_company), on_outputs(shifts)],
    "the same row has the same answer": [lambda: wavers(INFER)],
    "clients at the same time do not mix": [lambda: mixes(INFER, 3)],
    "the outputs of the metadata": [
        edits(without("outputs", 1), "/infer"),
        on_outputs(sets("FP32", "datatype")),
    ],
    "the request's id": [edits(without("id"), "/infer"), edits(sets("1", "id"), "/infer")],
    "requested outputs": [
        lambda e: (
            e.answering({**e.document, "outputs": e.document["outputs"] + [EXTRA]})
            if e.status == 200 and "outputs" in (e.request if e.asked else ())
            else e
        )
    ],
    "nested data": [answers(400, "/infer")],
    "parameters": [answers(400, "/infer")],
    "a version by its name": [
        answers(404, "/versions/"),
        edits(sets("7", "model_version"), "/infer"),
    ],
    "an unknown version": REFUSES,
    "an unknown model": REFUSES,
    **dict.fromkeys(
        (
            "a tensor without a name",
            "a tensor without a shape",
            "a tensor without a datatype",
            "a tensor without data",
            "a datatype that there is not",
            "a shape that is no list",
            "a negative size",
            "data that are no list",
            "a shape for more values than there are",
            "inputs that are no list",
            "no inputs",
            "a missing input",
            "texts in a tensor of numbers",
            "inputs of several lengths",
            "an unknown output",
        ),
        REFUSES,
    ),
    **HOSTILE,
}
EXTRA = {"name": "extra", "datatype": "INT64", "shape": [1], "data": [1]}
BINARY = [name for name in CONTRACTS["v2"].names if "binary" in name or "Inference-Header" in name]

SINS = {"native": NATIVE, "v2": V2}


def every_sin():
    found = []
    for contract, cases in SINS.items():
        for case, sins in cases.items():
            found += [
                pytest.param(contract, case, sin, id=f"{contract}: {case} {number}")
                for number, sin in enumerate(sins)
            ]
    return found


def made(sin):
    """Return a sin; one that remembers is made anew for each test."""
    return sin() if sin.__code__.co_argcount == 0 else sin


@pytest.mark.parametrize(("contract", "case", "sin"), every_sin())
def test_a_server_that_sins_fails_the_case(contract, case, sin, liar, rows):
    liar.sin = made(sin)
    report = CONTRACTS[contract].run(Talk(liar.url), "churn", rows, only=case)
    assert report.skipped == {}
    (found,) = report.cases
    assert not found.passed, f"{found.sent} was answered by {found.got}, and that passed"
    assert found.got


@pytest.mark.parametrize("contract", list(CONTRACTS))
def test_every_case_has_its_sin(contract):
    names = [name for name in CONTRACTS[contract].names if name not in BINARY]
    assert sorted(SINS[contract]) == sorted(names)


@pytest.mark.parametrize("contract", list(CONTRACTS))
def test_the_proxy_alone_fails_nothing(contract, liar, rows):
    liar.sin = lambda exchange: exchange
    report = CONTRACTS[contract].run(Talk(liar.url), "churn", rows)
    assert [(case.name, case.got) for case in report.cases if not case.passed] == []
