"""AWS Lambda behind its emulators: events in, the function's responses out.

Texts: the developer guides of AWS Lambda (function URLs, quotas) and of API Gateway's HTTP APIs. The
base URL is that of the emulated invocation (`/2015-03-31/functions/function/invocations`), as the
runtime interface emulator of AWS's images has it. What the function does is the native contract.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from steelyard.testing.conformance.answers import add_answer_cases, same
from steelyard.testing.conformance.hostile import BODIES
from steelyard.testing.conformance.instances import comparable
from steelyard.testing.conformance.samples import made_rows, reached, schema_at, served_model
from steelyard.testing.conformance.suite import Row, Subject, Suite
from steelyard.testing.conformance.talk import Reply, Talk, Violation, expect

__all__ = ["SUITE"]

_ROUTE: Final = "/2015-03-31/functions/function/invocations"
_ERROR: Final = "A function error: errorMessage and errorType, both texts."


def _event(method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    """Return an HTTP request as a function URL hands it on (payload format 2.0)."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "id.lambda-url.region.on.aws"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "id",
            "domainName": "id.lambda-url.region.on.aws",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "steelyard",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": False,
    }
    if body is not None:
        # As a function URL does: text as it is, everything else in base64.
        try:
            event["body"] = body.decode()
        except UnicodeDecodeError:
            event |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return event


def _response(reply: Reply) -> Reply:
    """Return the response that a function made of an HTTP event. Raises Violation: it is none."""
    found = reply.must(200).object("statusCode")
    status, headers, body = found["statusCode"], found.get("headers") or {}, found.get("body") or ""
    expect(type(status) is int and 100 <= status < 600, f"{reply}: statusCode")
    good = all(isinstance(k, str) and isinstance(v, str) for k, v in headers.items())
    expect(good, f"{reply}: headers are no texts")
    expect(isinstance(body, str), f"{reply}: body is no text")
    encoded = found.get("isBase64Encoded", False)
    expect(isinstance(encoded, bool), f"{reply}: isBase64Encoded")
    try:
        data = base64.b64decode(body, validate=True) if encoded else body.encode()
    except ValueError:
        raise Violation(f"{reply}: body is no base64") from None
    return Reply(status, {k.lower(): v for k, v in headers.items()}, data)


def _http(subject: Subject, method: str, path: str, body: bytes | None = None) -> Reply:
    return _response(subject.talk.post(_ROUTE, _event(method, path, body)))


def _answered(talk: Talk, event: Any) -> Any:
    """Return the function's answer to an event that is no HTTP. Raises Violation at an error."""
    reply = talk.post(_ROUTE, event).must(200)
    failed = "x-amz-function-error" in reply.headers or b'"errorType"' in reply.body
    expect(not failed, f"a function error: {reply}")
    return reply.document


def _failed(reply: Reply) -> None:
    found = reply.must(200).object("errorMessage", "errorType")
    texts = [found["errorMessage"], found["errorType"]]
    expect(all(isinstance(text, str) and text for text in texts), str(reply))


def _learn(talk: Talk, model: str | None, rows: list[Row] | None) -> Subject:
    reply = reached(talk, _ROUTE, _event("GET", "/openapi.json"))
    try:
        document = _response(reply).must(200).object("paths")
    except Violation:
        document = {}
    model = model or served_model(document)
    found = rows or made_rows(schema_at(document, f"/predict/{model}") or {})
    return Subject(talk, model or "", found)


def _predict(subject: Subject, talk: Talk, rows: Sequence[Row]) -> list[Any]:
    found = _answered(talk, {"rows": list(rows)})["predictions"]
    expect(len(found) == len(rows), f"{len(found)} predictions for {len(rows)} rows")
    return [comparable(one) for one in found]


def _prediction(reply: Reply) -> Any:
    return comparable(reply.must(200).object("prediction"))


SUITE: Final = Suite("lambda", _learn)


@SUITE.case("one row", "An event that is a row is answered by its prediction.")
def _one(subject: Subject) -> None:
    found = _answered(subject.talk, subject.rows[0])
    expect(isinstance(found, dict) and "prediction" in found, subject.talk.came)


@SUITE.case("several rows", 'An event {"rows": [...]} is answered by {"predictions": [...]}.')
def _several(subject: Subject) -> None:
    _predict(subject, subject.talk, subject.rows)


add_answer_cases(SUITE, _predict)


@SUITE.case(
    "an HTTP event",
    "A request by a function URL is answered by statusCode, headers, body (texts) and "
    "isBase64Encoded; the numbers are those of the row.",
)
def _request(subject: Subject) -> None:
    row = subject.rows[0]
    reply = _http(subject, "POST", "/", json.dumps(row).encode())
    kind = reply.headers.get("content-type", "none")
    expect(kind.startswith("application/json"), f"content-type {kind}")
    wanted = comparable(_answered(subject.talk, row))
    found = _prediction(reply)
    expect(same(found, wanted), f"{reply}; the row alone {json.dumps(wanted)}")


@SUITE.case("an HTTP event in base64", "A body with isBase64Encoded is read as what it encodes.")
def _encoded(subject: Subject) -> None:
    body = base64.b64encode(json.dumps(subject.rows[0]).encode()).decode()
    event = {**_event("POST", "/"), "body": body, "isBase64Encoded": True}
    found = _prediction(_response(subject.talk.post(_ROUTE, event)))
    wanted = comparable(_answered(subject.talk, subject.rows[0]))
    expect(same(found, wanted), f"{json.dumps(found)}; the row alone {json.dumps(wanted)}")


@SUITE.case("another method", "GET and HEAD on the prediction's path are answered by 4xx.")
def _methods(subject: Subject) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        _http(subject, method, "/").refused()


@SUITE.case("an unknown path", "404.")
def _nowhere(subject: Subject) -> None:
    _http(subject, "GET", "/no-such-path").must(404)
    _http(subject, "POST", "/predict/no-such-model", b"{}").must(404)


@SUITE.case("a row with a bad field", _ERROR)
def _bad(subject: Subject) -> None:
    _failed(subject.talk.post(_ROUTE, {**subject.rows[0], next(iter(subject.rows[0])): []}))


@SUITE.case("a bad row among rows", _ERROR)
def _among(subject: Subject) -> None:
    bad = {**subject.rows[0], next(iter(subject.rows[0])): []}
    _failed(subject.talk.post(_ROUTE, {"rows": [subject.rows[0], bad]}))


def _add_body(name: str, body: bytes) -> None:
    @SUITE.case(f"malformed body: {name}", "An HTTP event with it is answered by 4xx.")
    def malformed(subject: Subject) -> None:
        _http(subject, "POST", "/", body).refused()


def _add_event(name: str, event: Any) -> None:
    @SUITE.case(f"an event that is {name}", _ERROR)
    def no_row(subject: Subject) -> None:
        _failed(subject.talk.post(_ROUTE, json.dumps(event).encode()))


for _name, _body in BODIES.items():
    _add_body(_name, _body)
for _name, _value in {"null": None, "a number": 5, "a text": "row", "a list": [1]}.items():
    _add_event(_name, _value)


@SUITE.case("an HTTP event without a body", "4xx.")
def _no_body(subject: Subject) -> None:
    _http(subject, "POST", "/").refused()


@SUITE.case("an HTTP event whose base64 is none", "4xx.")
def _no_base64(subject: Subject) -> None:
    event = {**_event("POST", "/"), "body": "%", "isBase64Encoded": True}
    _response(subject.talk.post(_ROUTE, event)).refused()


@SUITE.case("a large answer or none", "Rows near the limit of 6 MB are answered, or refused.")
def _large(subject: Subject) -> None:
    size = len(json.dumps(subject.rows[0])) + 2
    rows = subject.rows[:1] * min(5_000_000 // size, 30_000)
    reply = subject.talk.post(_ROUTE, {"rows": rows}).must(200)
    if b'"errorType"' in reply.body[:1000]:
        _failed(reply)
    else:
        found = reply.object("predictions")["predictions"]
        expect(len(found) == len(rows), f"{len(found)} predictions for {len(rows)} rows")
    _answered(subject.talk, subject.rows[0])
