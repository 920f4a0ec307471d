"""What contracts have in common that send `{"instances": [...]}` and are answered by predictions."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from steelyard.errors import UsageError
from steelyard.testing.conformance.answers import add_answer_cases
from steelyard.testing.conformance.samples import (
    made_rows,
    openapi,
    reached,
    schema_at,
    served_model,
)
from steelyard.testing.conformance.suite import Row, Subject, Suite
from steelyard.testing.conformance.talk import Reply, Talk, expect

__all__ = [
    "add_instances_cases",
    "comparable",
    "instances",
    "learn_rows",
    "named",
    "predictions_of",
]

_WRONG: Final[dict[str, list[Any]]] = {
    "a text": ["five"],
    "an object of other fields": [{"no_such_field": 1}],
}


def learn_rows(route: str) -> Callable[[Talk, str | None, list[Row] | None], Subject]:
    """Return what finds out the model and its rows; `route` is one that a server has to answer."""

    def learn(talk: Talk, model: str | None, rows: list[Row] | None) -> Subject:
        reached(talk, route)
        document = openapi(talk)
        model = model or served_model(document)
        found = rows or made_rows(schema_at(document, f"/predict/{model}") or {})
        return Subject(talk, model or "", found)

    return learn


def named(subject: Subject) -> str:
    """Return the model's name. Raises UsageError where it has to be given."""
    if not subject.model:
        raise UsageError("which model?", fix="Name it by --model: the server does not.")
    return subject.model


def instances(rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    """Return a request for rows."""
    return {"instances": list(rows), **more}


def predictions_of(reply: Reply, rows: int) -> list[Any]:
    """Return the predictions of an answer, comparable. Raises Violation where they do not fit."""
    found = reply.must(200).object("predictions")["predictions"]
    expect(isinstance(found, list), f"{reply}: predictions is no list")
    expect(len(found) == rows, f"{len(found)} predictions for {rows} rows: {reply}")
    return [comparable(one) for one in found]


def comparable(answer: Any) -> Any:
    """Return what of a prediction does not differ from one answer to the next: no ids.

    >>> comparable({"prediction": 1.5, "prediction_id": "018f"}), comparable([0.2, 0.8])
    ([1.5, None], [0.2, 0.8])
    """
    if isinstance(answer, dict) and "prediction" in answer:
        return [answer["prediction"], answer.get("probabilities")]
    return answer


def add_instances_cases(
    suite: Suite[Subject],
    route: Callable[[Subject], str],
    error: str,
    check: Callable[[Reply], object],
) -> None:
    """Add what such contracts demand of a prediction route; `error` and `check` as for hostile."""

    def predict(subject: Subject, talk: Talk, rows: Sequence[Row]) -> list[Any]:
        return predictions_of(talk.post(route(subject), instances(rows)), len(rows))

    @suite.case("one row", '{"instances": [row]} is answered by 200, {"predictions": [x]}, JSON.')
    def one(subject: Subject) -> None:
        reply = subject.talk.post(route(subject), instances(subject.rows[:1]))
        predictions_of(reply, 1)
        kind = reply.headers.get("content-type", "none")
        expect(kind.startswith("application/json"), f"Content-Type {kind}")

    @suite.case("several rows", "As many predictions as instances.")
    def several(subject: Subject) -> None:
        predict(subject, subject.talk, subject.rows)

    add_answer_cases(suite, predict)
    _add_mistakes(suite, route, error, check)


def _add_mistakes(
    suite: Suite[Subject],
    route: Callable[[Subject], str],
    error: str,
    check: Callable[[Reply], object],
) -> None:
    @suite.case("no instances", error)
    def none(subject: Subject) -> None:
        check(subject.talk.post(route(subject), {}).refused())
        check(subject.talk.post(route(subject), {"rows": subject.rows}).refused())

    @suite.case("instances that are no list", error)
    def no_list(subject: Subject) -> None:
        for wrong in (5, "row", None, {"a": 1}):
            check(subject.talk.post(route(subject), {"instances": wrong}).refused())

    def add_wrong(name: str, wrong: list[Any]) -> None:
        @suite.case(f"an instance that is {name}", error)
        def bad(subject: Subject) -> None:
            check(subject.talk.post(route(subject), {"instances": wrong}).refused())

    for name, wrong in _WRONG.items():
        add_wrong(name, wrong)

    @suite.case("a bad instance among good ones", error)
    def among(subject: Subject) -> None:
        mixed = [subject.rows[0], {"no_such_field": 1}]
        check(subject.talk.post(route(subject), {"instances": mixed}).refused())

    @suite.case("values of another type", f"A text where the row has a number. {error}")
    def types(subject: Subject) -> None:
        row = subject.rows[0]
        numbers = [n for n, v in row.items() if isinstance(v, int | float) and v is not True]
        for name in numbers[:3]:
            spoiled = instances([{**row, name: "five"}])
            check(subject.talk.post(route(subject), spoiled).refused())
