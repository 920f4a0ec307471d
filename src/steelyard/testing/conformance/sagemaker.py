"""Amazon SageMaker's containers; texts: custom inference code with hosting and batch transform.

The contract leaves the body to the container. Rows are sent as `{"instances": [...]}`, and, where the
container takes them, as JSON lines and as CSV without a header.
"""

import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Any, Final

from steelyard.testing.conformance.answers import same
from steelyard.testing.conformance.hostile import add_hostile_cases
from steelyard.testing.conformance.instances import (
    add_instances_cases,
    comparable,
    instances,
    learn_rows,
    predictions_of,
)
from steelyard.testing.conformance.suite import NotApplicable, Row, Subject, Suite
from steelyard.testing.conformance.talk import Reply, expect

__all__ = ["SUITE"]

_ROUTE: Final = "/invocations"
_PING_SECONDS: Final = 2
_ACCEPT_SECONDS: Final = 0.25
_ERROR: Final = "4xx."
_PLATFORM: Final = {
    "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
    "X-Amzn-SageMaker-Target-Variant": "AllTraffic",
    "X-Amzn-SageMaker-Inference-Id": "42",
}
_PARAMETERS: Final = {
    "MaxConcurrentTransforms": int,
    "BatchStrategy": str,
    "MaxPayloadInMB": int,
}


def _any(reply: Reply) -> None:
    """Accept whatever a refusal says: the contract gives it no form."""


def _route(subject: Subject) -> str:
    return _ROUTE


SUITE: Final = Suite("sagemaker", learn_rows("/ping"))


@SUITE.case("ping", "GET /ping answers 200 with an empty body within 2 seconds.")
def _ping(subject: Subject) -> None:
    begun = time.monotonic()
    reply = subject.talk.get("/ping").must(200)
    spent = time.monotonic() - begun
    expect(spent < _PING_SECONDS, f"200 after {spent:.1f} seconds")
    expect(not reply.body, f"{reply.body[:50]!r} as the body")


@SUITE.case("connections", "A connection is accepted within 250 milliseconds.")
def _connects(subject: Subject) -> None:
    connection = subject.talk.connection()
    begun = time.monotonic()
    try:
        connection.connect()
    except OSError as error:
        expect(False, f"no connection: {error}")
    spent = time.monotonic() - begun
    connection.close()
    expect(spent < _ACCEPT_SECONDS, f"accepted after {spent:.2f} seconds")


add_instances_cases(SUITE, _route, _ERROR, _any)


@SUITE.case("headers of the platform", "Further headers of SageMaker's are ignored: 200.")
def _headers(subject: Subject) -> None:
    predictions_of(subject.talk.post(_ROUTE, instances(subject.rows[:1]), _PLATFORM), 1)


@SUITE.case(
    "execution parameters",
    "Where GET /execution-parameters is there, it answers MaxConcurrentTransforms, BatchStrategy, "
    "MaxPayloadInMB.",
)
def _parameters(subject: Subject) -> None:
    reply = subject.talk.get("/execution-parameters")
    if reply.status == 404:
        raise NotApplicable("there is no /execution-parameters")
    found = reply.must(200).object(*_PARAMETERS)
    wrong = [name for name, kind in _PARAMETERS.items() if type(found[name]) is not kind]
    expect(not wrong, f"{reply}: {', '.join(wrong)} of another type")
    expect(found["BatchStrategy"] in ("MultiRecord", "SingleRecord"), f"{reply}: BatchStrategy")


@SUITE.case("JSON lines", "A row a line is answered by the numbers of the same rows as instances.")
def _lines(subject: Subject) -> None:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in subject.rows)
    reply = subject.talk.post(_ROUTE, body, {"Content-Type": "application/jsonlines"})
    _taken(reply, "application/jsonlines")
    found = [comparable(json.loads(line)) for line in reply.body.splitlines() if line.strip()]
    wanted = _wanted(subject)
    expect(same(found, wanted), f"{reply}; as instances {json.dumps(wanted)}")


@SUITE.case(
    "CSV", "A line a row, without a header, is answered by a line a row, the prediction first."
)
def _csv(subject: Subject) -> None:
    reply = subject.talk.post(_ROUTE, _lines_of(subject.rows), {"Content-Type": "text/csv"})
    _taken(reply, "text/csv")
    found = list(csv.reader(io.StringIO(reply.body.decode())))
    expect(len(found) == len(subject.rows), f"{reply}: {len(found)} lines")
    for line, answer in zip(found, _wanted(subject), strict=True):
        label = answer[0] if isinstance(answer, list) else answer
        wanted = label if isinstance(label, str) else json.dumps(label)
        told = same(json.loads(line[0]), label) if _numeric(label) else line[0] == wanted
        expect(told, f"{reply}: the first cell {line[0]!r} where {wanted} is the prediction")


@SUITE.case("another content type", "A type that the container does not take is refused with 4xx.")
def _type(subject: Subject) -> None:
    body = json.dumps(instances(subject.rows[:1])).encode()
    subject.talk.post(_ROUTE, body, {"Content-Type": "image/png"}).refused()


def _taken(reply: Reply, kind: str) -> None:
    if 400 <= reply.status < 500:
        raise NotApplicable(f"the container does not take {kind} of this form")
    reply.must(200)


def _wanted(subject: Subject) -> list[Any]:
    reply = subject.talk.post(_ROUTE, instances(subject.rows))
    return predictions_of(reply, len(subject.rows))


def _lines_of(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        cells = [json.dumps(v) if isinstance(v, bool) else v for v in row.values()]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue().encode()


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


add_hostile_cases(SUITE, _route, "", _any, lambda subject: instances(subject.rows[:1]))
