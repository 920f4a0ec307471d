"""MLflow's scoring server; texts: the scoring protocol of MLflow 2 and 3."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from steelyard.testing.conformance.answers import add_answer_cases, same
from steelyard.testing.conformance.hostile import add_hostile_cases
from steelyard.testing.conformance.instances import learn_rows, predictions_of
from steelyard.testing.conformance.suite import Row, Subject, Suite
from steelyard.testing.conformance.talk import Reply, Talk, expect

__all__ = ["SUITE"]

_ROUTE: Final = "/invocations"
_ERROR: Final = '400 with {"error_code": text, "message": text}.'


def _route(subject: Subject) -> str:
    return _ROUTE


def _split(rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    data = [list(row.values()) for row in rows]
    return {"dataframe_split": {"columns": list(rows[0]), "data": data, **more}}


def _predict(subject: Subject, talk: Talk, rows: Sequence[Row]) -> list[Any]:
    return predictions_of(talk.post(_ROUTE, _split(rows)), len(rows))


def _says_why(reply: Reply) -> None:
    found = reply.object("error_code", "message")
    texts = [found["error_code"], found["message"]]
    expect(all(isinstance(text, str) and text for text in texts), str(reply))


def _refused(reply: Reply) -> None:
    _says_why(reply.must(400))


SUITE: Final = Suite("mlflow", learn_rows("/ping"))


@SUITE.case("ping", "GET /ping answers 200.")
def _ping(subject: Subject) -> None:
    subject.talk.get("/ping").must(200)


@SUITE.case("health", "GET /health answers 200.")
def _health(subject: Subject) -> None:
    subject.talk.get("/health").must(200)


@SUITE.case("version", "GET /version answers 200 with a version.")
def _version(subject: Subject) -> None:
    reply = subject.talk.get("/version").must(200)
    expect(bool(reply.body.strip()), f"{reply}: no version")


@SUITE.case(
    "dataframe_split", '{"columns": [...], "data": [[...]]} is answered by {"predictions": [...]}.'
)
def _one(subject: Subject) -> None:
    reply = subject.talk.post(_ROUTE, _split(subject.rows[:1]))
    predictions_of(reply, 1)
    kind = reply.headers.get("content-type", "none")
    expect(kind.startswith("application/json"), f"Content-Type {kind}")


add_answer_cases(SUITE, _predict)


@SUITE.case("dataframe_split with an index", "The index that pandas writes changes nothing.")
def _index(subject: Subject) -> None:
    _same(subject, _split(subject.rows, index=list(range(len(subject.rows)))))


@SUITE.case("dataframe_records", "A list of objects is answered as dataframe_split.")
def _records(subject: Subject) -> None:
    _same(subject, {"dataframe_records": subject.rows})


@SUITE.case("instances", "A list of objects is answered as dataframe_split.")
def _instances(subject: Subject) -> None:
    _same(subject, {"instances": subject.rows})


@SUITE.case("inputs", "An object of columns is answered as dataframe_split.")
def _inputs(subject: Subject) -> None:
    names = list(subject.rows[0])
    _same(subject, {"inputs": {name: [row[name] for row in subject.rows] for name in names}})


@SUITE.case("CSV", "text/csv with a header is answered as dataframe_split.")
def _csv(subject: Subject) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(subject.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(subject.rows)
    _same(subject, text.getvalue().encode(), "text/csv")


def _same(subject: Subject, body: Any, kind: str = "application/json") -> None:
    """Check that rows in another form are answered by the numbers of dataframe_split."""
    wanted = _predict(subject, subject.talk, subject.rows)
    reply = subject.talk.post(_ROUTE, body, {"Content-Type": kind})
    found = predictions_of(reply, len(subject.rows))
    expect(same(found, wanted), f"{reply}; as dataframe_split {json.dumps(wanted)}")


@SUITE.case("empty params", "params may be there, empty: 200.")
def _params(subject: Subject) -> None:
    predictions_of(subject.talk.post(_ROUTE, {**_split(subject.rows[:1]), "params": {}}), 1)


@SUITE.case("two forms at once", f"Exactly one form is wanted. {_ERROR}")
def _two(subject: Subject) -> None:
    body = {**_split(subject.rows), "dataframe_records": subject.rows}
    _refused(subject.talk.post(_ROUTE, body))


@SUITE.case("no form", _ERROR)
def _no_form(subject: Subject) -> None:
    _refused(subject.talk.post(_ROUTE, {}))
    _refused(subject.talk.post(_ROUTE, {"rows": subject.rows}))


@SUITE.case("a missing column", _ERROR)
def _missing(subject: Subject) -> None:
    _refused(subject.talk.post(_ROUTE, {"dataframe_records": [{"no_such_column": 1}]}))


@SUITE.case("rows of other lengths than the columns", _ERROR)
def _ragged(subject: Subject) -> None:
    table = {"columns": list(subject.rows[0]), "data": [[1]]}
    _refused(subject.talk.post(_ROUTE, {"dataframe_split": table}))


@SUITE.case("a frame that is none", _ERROR)
def _no_frame(subject: Subject) -> None:
    for wrong in (5, "rows", [5]):
        _refused(subject.talk.post(_ROUTE, {"dataframe_split": wrong}))


@SUITE.case("texts in a column of numbers", _ERROR)
def _texts(subject: Subject) -> None:
    row = subject.rows[0]
    numbers = [n for n, v in row.items() if isinstance(v, int | float) and v is not True]
    for name in numbers[:3]:
        _refused(subject.talk.post(_ROUTE, {"dataframe_records": [{**row, name: "five"}]}))


@SUITE.case("CSV that is no UTF-8", _ERROR)
def _broken_csv(subject: Subject) -> None:
    _refused(subject.talk.post(_ROUTE, b"a,b\n\xff,1\n", {"Content-Type": "text/csv"}))


@SUITE.case("another content type", "415 for a type that the server does not take.")
def _type(subject: Subject) -> None:
    body = json.dumps(_split(subject.rows[:1])).encode()
    subject.talk.post(_ROUTE, body, {"Content-Type": "image/png"}).must(415)


@SUITE.case("another charset", "415 for text in another encoding than UTF-8.")
def _charset(subject: Subject) -> None:
    kind = {"Content-Type": "application/json; charset=latin-1"}
    subject.talk.post(_ROUTE, json.dumps(_split(subject.rows[:1])).encode(), kind).must(415)


add_hostile_cases(
    SUITE,
    _route,
    ' with {"error_code": text, "message": text}',
    _says_why,
    lambda subject: _split(subject.rows[:1]),
)
