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


def outputs_in_json(exchange):
    """Ignore that outputs are wanted as bytes."""
    request = exchange.request if exchange.asked[:1] == b"{" and exchange.asked[-1:] == b"}" else {}
    wanted = request.get("parameters") or [o.get("parameters") for o in request.get("outputs", ())]
    if exchange.status != 200 or not wanted or b"binary" not in exchange.asked:
        return exchange
    outputs = [EXTRA | {"name": "prediction"}]
    return replace(
        exchange.answering({"model_name": "churn", "outputs": outputs}),
        given={"content-type": "application/json"},
    )


def is_binary(exchange):
    return "inference-header-content-length" in exchange.headers | exchange.given


def on_binary(sin):
    return lambda exchange: sin(exchange) if is_binary(exchange) else exchange


V2 |= {
    "binary inputs": [
        on_binary(answers(400, "/infer")),
        on_binary(lambda e: e.answering(drifted(e.document)) if e.status == 200 else e),
    ],
    "binary outputs": [
        outputs_in_json,
        on_binary(lambda e: replace(e, body=e.body[:-1])),
        on_binary(lambda e: replace(e, body=e.body + b"\0")),
        on_binary(lambda e: replace(e, given={"content-type": "application/octet-stream"})),
        on_binary(lambda e: replace(e, body=e.body[:-8] + b"\0" * 8)),
    ],
    "one binary output": [outputs_in_json, on_binary(lambda e: replace(e, body=e.body[:-1]))],
    "binary data that end too early": REFUSES,
    "binary data of another size than their shape": REFUSES,
    "a false Inference-Header-Content-Length": REFUSES,
}


# Contracts of instances and predictions.


def several_predictions(change, route):
    """Change what a request of several rows is answered with."""

    def edit(document):
        if len(document.get("predictions", ())) > 1:
            document["predictions"] = change(document["predictions"])

    return edits(edit, route)


def reversed_always(predictions):
    return sorted(predictions, key=json.dumps)


def of_instances(route, errors):
    """Return the sins of the cases about a route that takes instances."""
    return {
        "one row": [
            answers(500, route),
            edits(sets({}, "predictions"), route),
            edits(lambda document: {"answers": document["predictions"]}, route),
            lambda e: replace(e, given={"content-type": "text/html"}) if e.path == route else e,
        ],
        "several rows": [several_predictions(lambda found: found[:-1], route)],
        "answers keep their order": [several_predictions(reversed_always, route)],
        "several rows are answered as one by one": [several_predictions(drifted, route)],
        "the same row has the same answer": [lambda: wavers(route)],
        "clients at the same time do not mix": [lambda: mixes(route, 3)],
        **dict.fromkeys(
            (
                "no instances",
                "instances that are no list",
                "an instance that is a text",
                "an instance that is an object of other fields",
                "a bad instance among good ones",
                "values of another type",
            ),
            errors,
        ),
    }


def hostile(errors):
    """Return the sins of the hostile cases; a contract without a form of errors has no mumbling."""
    return {
        name: [sin for sin in sins if sin is not mumbles or sin in errors]
        for name, sins in HOSTILE.items()
    }


KSERVE_ROUTE = "/v1/models/churn:predict"
KSERVE = {
    "the list of models": [
        answers(404, "/v1/models", "GET"),
        edits(sets(["other"], "models"), "/v1/models", "GET"),
    ],
    "model ready": [
        answers(503, "/v1/models/churn", "GET"),
        edits(sets(False, "ready"), "/v1/models/churn", "GET"),
        edits(sets("other", "name"), "/v1/models/churn", "GET"),
    ],
    **of_instances(KSERVE_ROUTE, REFUSES),
    "an unknown model": REFUSES,
    **HOSTILE,
}
DEPLOYED = "/v1/endpoints/1/deployedModels/1"
FORMLESS = [accepts, crashes]
VERTEX = {
    "healthy": [answers(503, DEPLOYED, "GET")],
    **of_instances(f"{DEPLOYED}:predict", FORMLESS),
    "empty parameters": [answers(400, ":predict")],
    **hostile(FORMLESS),
}


def with_type(kind, sin):
    """Sin at requests of a content type."""
    return lambda e: sin(e) if e.headers.get("content-type", "").startswith(kind) else e


SAGEMAKER = {
    "ping": [
        answers(503, "/ping"),
        lambda e: e.answering(b"\n") if e.path == "/ping" else e,
    ],
    **of_instances("/invocations", FORMLESS),
    "headers of the platform": [
        lambda e: e.answering({}, 400) if "x-amzn-sagemaker-inference-id" in e.headers else e
    ],
    "execution parameters": [
        answers(500, "/execution-parameters"),
        edits(without("BatchStrategy"), "/execution-parameters"),
        edits(sets("1", "MaxPayloadInMB"), "/execution-parameters"),
        edits(sets("All", "BatchStrategy"), "/execution-parameters"),
    ],
    "JSON lines": [
        with_type("application/jsonlines", answers(500)),
        with_type("application/jsonlines", lambda e: e.answering(e.body.split(b"\n")[0])),
        with_type("application/jsonlines", lambda e: e.answering(e.body.replace(b"0.", b"1."))),
    ],
    "CSV": [
        with_type("text/csv", answers(500)),
        with_type("text/csv", lambda e: e.answering(e.body.split(b"\n")[0])),
        with_type("text/csv", lambda e: e.answering(e.body.replace(b"Yes", b"No"))),
    ],
    "another content type": FORMLESS,
    **hostile(FORMLESS),
}


def with_form(form, sin):
    """Sin at requests of one of MLflow's forms."""
    return lambda e: sin(e) if e.asked.startswith(b'{"%b"' % form.encode()) else e


def drifts(exchange):
    return exchange.answering({"predictions": ["Perhaps"] * 3})


def drifts_once():
    """Answer the second request for one row otherwise."""
    seen = []

    def sin(exchange):
        if exchange.path != "/invocations":
            return exchange
        seen.append(exchange)
        return exchange.answering({"predictions": ["Perhaps"]}) if len(seen) == 2 else exchange

    return sin


MLFLOW = {
    "ping": [answers(503, "/ping")],
    "health": [answers(503, "/health")],
    "version": [answers(404, "/version"), lambda e: e.answering(b"") if "ver" in e.path else e],
    "dataframe_split": of_instances("/invocations", REFUSES)["one row"],
    "answers keep their order": [several_predictions(sorted, "/invocations")],
    "several rows are answered as one by one": [
        several_predictions(lambda found: found[:1] * 3, "/invocations")
    ],
    "the same row has the same answer": [drifts_once],
    "clients at the same time do not mix": [lambda: mixes("/invocations", 3)],
    "dataframe_split with an index": [
        lambda e: drifts(e) if b'"index"' in e.asked else e,
        lambda e: e.answering({}, 400) if b'"index"' in e.asked else e,
    ],
    **{
        name: [with_form(name, drifts), with_form(name, answers(400))]
        for name in ("dataframe_records", "instances", "inputs")
    },
    "CSV": [with_type("text/csv", drifts), with_type("text/csv", answers(415))],
    "empty params": [lambda e: e.answering({}, 400) if b'"params"' in e.asked else e],
    **dict.fromkeys(
        (
            "two forms at once",
            "no form",
            "a missing column",
            "rows of other lengths than the columns",
            "a frame that is none",
            "texts in a column of numbers",
            "CSV that is no UTF-8",
        ),
        REFUSES,
    ),
    "another content type": [accepts, crashes],
    "another charset": [accepts, crashes],
    **HOSTILE,
}


# AWS Lambda.

INVOCATIONS = "/2015-03-31/functions/function/invocations"


def of_event(kind, change):
    """Change the document that events of a kind are answered with."""

    def sin(exchange):
        http = b'"requestContext"' in exchange.asked
        if http != (kind == "http") or exchange.status != 200:
            return exchange
        document = exchange.document
        return exchange.answering(change(document) or document)

    return sin


def of_answers(change):
    """Change the predictions of events that are rows."""

    def edit(document):
        if len(document.get("predictions", ())) > 1:
            document["predictions"] = change(document["predictions"])

    return of_event("rows", edit)


def takes_what_is_refused(exchange):
    document = exchange.document
    if isinstance(document, dict) and document.get("statusCode", 200) >= 400:
        return exchange.answering(document | {"statusCode": 200})
    return exchange


def crashes_at_what_is_refused(exchange):
    document = exchange.document
    if isinstance(document, dict) and document.get("statusCode", 200) >= 400:
        return exchange.answering(document | {"statusCode": 500})
    return exchange


def hides_errors(exchange):
    failed = b'"errorType"' in exchange.body
    return exchange.answering({"prediction": "Yes"}) if failed else exchange


def says_no_why(exchange):
    failed = b'"errorType"' in exchange.body
    return exchange.answering({"errorMessage": "", "errorType": ""}) if failed else exchange


RESPONSES = [takes_what_is_refused, crashes_at_what_is_refused]
ERRORS = [hides_errors, says_no_why]
FUNCTION = {
    "one row": [
        of_event("rows", lambda document: {"answer": 1}),
        of_event("rows", lambda document: {"errorType": "X", "errorMessage": "no"}),
    ],
    "several rows": [of_answers(lambda found: found[:-1])],
    "answers keep their order": [of_answers(by_probability)],
    "several rows are answered as one by one": [of_answers(drifted)],
    "the same row has the same answer": [lambda: wavers(INVOCATIONS)],
    "clients at the same time do not mix": [lambda: mixes(INVOCATIONS, 4)],
    "an HTTP event": [
        of_event("http", without("statusCode")),
        of_event("http", sets("200", "statusCode")),
        of_event("http", sets(5, "body")),
        of_event("http", sets({"content-length": 5}, "headers")),
        of_event("http", sets("no", "isBase64Encoded")),
        of_event("http", sets(True, "isBase64Encoded")),
        of_event("http", sets({}, "headers")),
        of_event("http", lambda d: d | {"body": d["body"].replace("0.", "1.")}),
    ],
    "an HTTP event in base64": [
        of_event("http", sets(400, "statusCode")),
        of_event("http", lambda d: d | {"body": d["body"].replace("0.", "1.")}),
    ],
    "another method": RESPONSES,
    "an unknown path": RESPONSES,
    "a row with a bad field": ERRORS,
    "a bad row among rows": ERRORS,
    **{f"malformed body: {name}": RESPONSES for name in BODIES},
    **{f"an event that is {name}": ERRORS for name in ("null", "a number", "a text", "a list")},
    "an HTTP event without a body": RESPONSES,
    "an HTTP event whose base64 is none": RESPONSES,
    "a large answer or none": ERRORS,
}

SINS = {
    "native": NATIVE,
    "v2": V2,
    "kserve-v1": KSERVE,
    "vertex": VERTEX,
    "sagemaker": SAGEMAKER,
    "mlflow": MLFLOW,
    "lambda": FUNCTION,
}
UNREACHABLE = {"sagemaker": {"connections"}}
"""What no proxy of ours can break: another process accepts connections for it."""


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
def test_a_server_that_sins_fails_the_case(contract, case, sin, liars, rows):
    liar = liars(contract)
    liar.sin = made(sin)
    report = CONTRACTS[contract].run(Talk(liar.url), "churn", rows, only=case)
    assert report.skipped == {}
    (found,) = report.cases
    assert not found.passed, f"{found.sent} was answered by {found.got}, and that passed"
    assert found.got


@pytest.mark.parametrize("contract", list(SINS))
def test_every_case_has_its_sin(contract):
    names = set(CONTRACTS[contract].names) - UNREACHABLE.get(contract, set())
    assert set(SINS[contract]) == names


@pytest.mark.parametrize("contract", list(SINS))
def test_the_proxy_alone_fails_nothing(contract, liars, rows):
    liar = liars(contract)
    liar.sin = lambda exchange: exchange
    report = CONTRACTS[contract].run(Talk(liar.url), "churn", rows)
    assert [(case.name, case.got) for case in report.cases if not case.passed] == []


def test_connections_that_nobody_accepts_in_time_fail_their_case(monkeypatch, servers, rows):
    monkeypatch.setattr("steelyard.testing.conformance.sagemaker._ACCEPT_SECONDS", 0)
    talk = Talk(servers.url("sagemaker"))
    report = CONTRACTS["sagemaker"].run(talk, "churn", rows, only="connections")
    assert report.failed == 1
