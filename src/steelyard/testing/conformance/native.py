"""The native contract: `POST /predict/{model}`, one row object or `{"rows": [...]}`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from steelyard.errors import UsageError
from steelyard.testing.conformance.answers import add_answer_cases, same
from steelyard.testing.conformance.hostile import add_hostile_cases
from steelyard.testing.conformance.samples import (
    made_rows,
    openapi,
    reached,
    schema_at,
    served_model,
)
from steelyard.testing.conformance.suite import NotApplicable, Row, Subject, Suite
from steelyard.testing.conformance.talk import Reply, Talk, expect

__all__ = ["SUITE"]

_MEMBERS: Final = ("prediction", "prediction_id", "model", "version", "source")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SUM: Final = 1e-6
_WRONG: Final[dict[str, list[Any]]] = {
    "integer": ["5", True, 5.5, [5], {}],
    "number": ["5", True, [5.0], {}],
    "boolean": ["true", 1, []],
    "string": [5, True, ["a"], {}],
}


@dataclass(slots=True)
class _Native(Subject):
    schema: dict[str, Any] = field(default_factory=dict)
    most: int | None = None

    @property
    def route(self) -> str:
        return f"/predict/{self.model}"

    @property
    def types(self) -> dict[str, str]:
        """The fields of the row whose type the server's OpenAPI document tells."""
        if not self.schema:
            raise NotApplicable("the server's OpenAPI document does not describe the row")
        found = {}
        for name, entry in self.schema["properties"].items():
            types = entry.get("type")
            kinds = types if isinstance(types, list) else [types]
            known = [kind for kind in kinds if kind in _WRONG]
            if known:
                found[name] = known[0]
        return found


def _learn(talk: Talk, model: str | None, rows: list[Row] | None) -> _Native:
    reached(talk, "/health/live")
    document = openapi(talk)
    model = model or served_model(document)
    if model is None:
        raise UsageError("which model?", fix="Name it by --model: /openapi.json does not.")
    schema = schema_at(document, f"/predict/{model}") or {}
    several = document.get("components", {}).get("schemas", {}).get("Rows", {})
    most = several.get("properties", {}).get("rows", {}).get("maxItems")
    return _Native(talk, model, rows or made_rows(schema), schema, most)


def _predict(subject: _Native, talk: Talk, rows: Sequence[Row]) -> list[Any]:
    if len(rows) == 1:
        return [_answer(talk.post(subject.route, rows[0]).must(200))]
    reply = talk.post(subject.route, {"rows": list(rows)}).must(200)
    found = reply.object("predictions")["predictions"]
    expect(len(found) == len(rows), f"{len(found)} predictions for {len(rows)} rows")
    return [_comparable(one) for one in found]


def _answer(reply: Reply) -> Any:
    return _comparable(reply.object(*_MEMBERS))


def _comparable(answer: Mapping[str, Any]) -> Any:
    return [answer["prediction"], answer.get("probabilities")]


def _errors(reply: Reply) -> list[dict[str, Any]]:
    found = reply.must(422).object("errors")["errors"]
    whole = found and all({"field", "message", "got"} <= error.keys() for error in found)
    expect(bool(whole), f"{reply}: an error without field, message or got")
    return list(found)


def _told(reply: Reply) -> None:
    """Check a refusal of a body as a whole: what is wrong, by the field or in one sentence."""
    if reply.status == 422:
        _errors(reply)
    else:
        expect(isinstance(reply.object("error")["error"], str), str(reply))


SUITE: Final = Suite("native", _learn)


@SUITE.case("live", "GET /health/live answers 200.")
def _live(subject: _Native) -> None:
    subject.talk.get("/health/live").must(200)


@SUITE.case("ready", "GET /health/ready answers 200 where predictions are answered.")
def _ready(subject: _Native) -> None:
    subject.talk.get("/health/ready").must(200)


@SUITE.case(
    "the OpenAPI document",
    "GET /openapi.json is OpenAPI 3.1 and describes POST /predict/{model} and its row.",
)
def _document(subject: _Native) -> None:
    reply = subject.talk.get("/openapi.json").must(200)
    found = reply.object("openapi", "info", "paths")
    expect(str(found["openapi"]).startswith("3.1"), f"openapi {found['openapi']}")
    expect(subject.route in found["paths"], f"paths {', '.join(found['paths'])}")
    expect(schema_at(found, subject.route) is not None, "no row in the body's schema")


@SUITE.case(
    "one row",
    "200 with prediction, prediction_id, model, version, source (model or fallback).",
)
def _one(subject: _Native) -> None:
    reply = subject.talk.post(subject.route, subject.rows[0]).must(200)
    found = reply.object(*_MEMBERS)
    expect(found["model"] == subject.model, f"{reply}: another model")
    expect(type(found["version"]) is int, f"{reply}: version is no number")
    expect(found["source"] in ("model", "fallback"), f"{reply}: source {found['source']}")
    kind = reply.headers.get("content-type", "none")
    expect(kind.startswith("application/json"), f"Content-Type {kind}")


@SUITE.case(
    "probabilities",
    "Where an answer has probabilities, they sum to 1 and one of their keys is the prediction.",
)
def _probabilities(subject: _Native) -> None:
    for row in subject.rows:
        found = subject.talk.post(subject.route, row).must(200).object(*_MEMBERS)
        shares = found.get("probabilities")
        if shares is None:
            expect(type(found["prediction"]) in (int, float), f"prediction {found['prediction']!r}")
            continue
        expect(abs(sum(shares.values()) - 1) <= _SUM, f"{shares}: their sum is not 1")
        expect(str(found["prediction"]) in shares, f"{found['prediction']!r} is none of {shares}")


@SUITE.case(
    "prediction ids",
    "Every answer has an id of its own, a UUID: it joins the outcome to the prediction later.",
)
def _ids(subject: _Native) -> None:
    alone = subject.talk.post(subject.route, subject.rows[0]).object("prediction_id")
    reply = subject.talk.post(subject.route, {"rows": subject.rows}).must(200)
    found = [alone, *reply.object("predictions")["predictions"]]
    ids = [one["prediction_id"] for one in found]
    expect(all(_UUID.fullmatch(one) for one in ids), f"ids {ids}")
    expect(len(set(ids)) == len(ids), f"ids {ids}")


@SUITE.case("several rows", '{"rows": [...]} is answered by {"predictions": [...]}, in order.')
def _several(subject: _Native) -> None:
    reply = subject.talk.post(subject.route, {"rows": subject.rows}).must(200)
    found = reply.object("predictions")["predictions"]
    expect(len(found) == len(subject.rows), f"{len(found)} answers to {len(subject.rows)} rows")
    expect(all(name in one for one in found for name in _MEMBERS), str(reply))


@SUITE.case("no rows", '{"rows": []} is answered by {"predictions": []}.')
def _none(subject: _Native) -> None:
    reply = subject.talk.post(subject.route, {"rows": []}).must(200)
    expect(reply.document == {"predictions": []}, str(reply))


add_answer_cases(SUITE, _predict)


@SUITE.case("an unknown model", 'POST /predict/no-such-model answers 404 with {"error": text}.')
def _unknown(subject: _Native) -> None:
    reply = subject.talk.post("/predict/no-such-model", subject.rows[0]).must(404)
    expect(isinstance(reply.object("error")["error"], str), str(reply))


@SUITE.case(
    "a missing field", '422 with {"errors": [{"field", "message", "got"}]} that names the field.'
)
def _missing(subject: _Native) -> None:
    required = subject.schema.get("required") or []
    if not required:
        raise NotApplicable("no field is known to be required")
    for name in required:
        row = {k: v for k, v in subject.rows[0].items() if k != name}
        _names(subject.talk.post(subject.route, row), name)


@SUITE.case(
    "an unknown field", "422 that names the field, unless the definition allows unknown fields."
)
def _unknown_field(subject: _Native) -> None:
    if subject.schema.get("additionalProperties") is not False:
        raise NotApplicable("the definition allows unknown fields, or the schema is not known")
    row = {**subject.rows[0], "no_such_field": 1}
    _names(subject.talk.post(subject.route, row), "no_such_field")


@SUITE.case(
    "strict types",
    "A text is no number, true is no number, 5.5 is no integer, 1 is no boolean: 422 that names "
    "the field.",
)
def _strict(subject: _Native) -> None:
    for name, kind in subject.types.items():
        for wrong in _WRONG[kind]:
            _names(subject.talk.post(subject.route, {**subject.rows[0], name: wrong}), name)


@SUITE.case(
    "numbers that JSON does not have", "NaN and Infinity are refused: 422, the field named."
)
def _not_finite(subject: _Native) -> None:
    numbers = [name for name, kind in subject.types.items() if kind in ("integer", "number")]
    if not numbers:
        raise NotApplicable("no field is a number")
    for name in numbers:
        for wrong in (float("nan"), float("inf"), -float("inf")):
            _names(subject.talk.post(subject.route, {**subject.rows[0], name: wrong}), name)


@SUITE.case("an integer for a number", "An integer is taken where a number is wanted: 200.")
def _integer(subject: _Native) -> None:
    numbers = [name for name, kind in subject.types.items() if kind == "number"]
    row = subject.rows[0]
    whole = {n: int(row[n]) for n in numbers if isinstance(row.get(n), float) and row[n] % 1 == 0}
    if not whole:
        raise NotApplicable("no field of the rows is a whole number")
    subject.talk.post(subject.route, {**row, **whole}).must(200)


@SUITE.case("a whole number for an integer", "5.0 is taken where an integer is wanted: 200.")
def _whole(subject: _Native) -> None:
    row = subject.rows[0]
    kinds = subject.types
    wholes = {n: float(v) for n, v in row.items() if kinds.get(n) == "integer" and type(v) is int}
    if not wholes:
        raise NotApplicable("no field of the rows is an integer")
    first = _answer(subject.talk.post(subject.route, row).must(200))
    reply = subject.talk.post(subject.route, {**row, **wholes}).must(200)
    expect(same(_answer(reply), first), f"{reply}: another answer than to integers")


@SUITE.case("null", "null is refused, the field named, where the schema does not list it.")
def _null(subject: _Native) -> None:
    for name in subject.types:
        types = subject.schema["properties"][name]["type"]
        if "null" in types if isinstance(types, list) else types == "null":
            continue
        _names(subject.talk.post(subject.route, {**subject.rows[0], name: None}), name)


@SUITE.case("every bad field is listed", "422 lists every bad field, not the first only.")
def _every(subject: _Native) -> None:
    names = list(subject.types)
    if len(names) < 2:
        raise NotApplicable("the row has one field")
    row = {**subject.rows[0], **{name: _WRONG[subject.types[name]][-1] for name in names}}
    _names(subject.talk.post(subject.route, row), *names)


@SUITE.case(
    "a bad row among rows",
    "422 names the row too, as rows.N.field counted from 0; none is answered.",
)
def _bad_row(subject: _Native) -> None:
    name, kind = next(iter(subject.types.items()))
    bad = {**subject.rows[0], name: _WRONG[kind][-1]}
    _names(subject.talk.post(subject.route, {"rows": [subject.rows[0], bad]}), f"rows.1.{name}")


@SUITE.case("a field twice", "A row that repeats a field is refused with 422, the field named.")
def _twice(subject: _Native) -> None:
    name, value = next(iter(subject.rows[0].items()))
    pair = json.dumps({name: value})[1:-1]
    body = json.dumps(subject.rows[0])[:-1] + f", {pair}}}"
    _names(subject.talk.post(subject.route, body.encode()), name)


@SUITE.case("another content type", 'text/plain is refused with 415 and {"error": text}.')
def _type(subject: _Native) -> None:
    body = json.dumps(subject.rows[0]).encode()
    reply = subject.talk.post(subject.route, body, {"Content-Type": "text/plain"}).must(415)
    expect(isinstance(reply.object("error")["error"], str), str(reply))


@SUITE.case("too many rows", "More rows than the OpenAPI document allows (maxItems) answer 413.")
def _many(subject: _Native) -> None:
    if subject.most is None:
        raise NotApplicable("the OpenAPI document names no limit")
    rows = [subject.rows[0]] * (subject.most + 1)
    subject.talk.post(subject.route, {"rows": rows}).must(413)


def _names(reply: Reply, *names: str) -> None:
    """Check that a refusal names the fields."""
    found = [error["field"] for error in _errors(reply)]
    missing = [name for name in names if name not in found]
    expect(not missing, f"{reply}: without {', '.join(missing)}")


add_hostile_cases(
    SUITE,
    lambda subject: subject.route,
    ' and {"errors": [...]} or {"error": text}',
    _told,
    lambda subject: subject.rows[0],
)
