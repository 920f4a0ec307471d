"""Cases about answers, the same in every contract: order, company, repetition, neighbours."""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeGuard, TypeVar

from steelyard.testing.conformance.suite import Row, Subject, Suite
from steelyard.testing.conformance.talk import Talk, expect

__all__ = ["Predict", "add_answer_cases", "same"]

S = TypeVar("S", bound=Subject)
Predict = Callable[[S, Talk, Sequence[Row]], list[Any]]
"""Asks about rows in one request; returns what can be compared of each answer, in their order."""

_TOLERANCE: Final = 1e-5
_CLIENTS: Final = 8
_TURNS: Final = 5


def same(one: Any, other: Any) -> bool:
    """Return whether two answers are equal; numbers within 1e-5, relative above 1.

    >>> same([1.0, "yes"], [1.000001, "yes"]), same([1.0], [1.1])
    (True, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if _number(one) and _number(other):
        nans = math.isnan(one), math.isnan(other)
        return all(nans) or abs(one - other) <= _TOLERANCE * max(1.0, abs(other))
    return bool(one == other) and type(one) is type(other)


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(answers: Any) -> str:
    return json.dumps(answers, default=str)


def add_answer_cases(suite: Suite[S], predict: Predict[S]) -> None:
    """Add what every contract means by an answer to a row."""

    @suite.case("answers keep their order", "Rows in another order, answers in that order.")
    def order(subject: S) -> None:
        found = predict(subject, subject.talk, subject.rows)
        turned = predict(subject, subject.talk, subject.rows[::-1])
        expect(same(turned[::-1], found), f"{_text(found)}, and turned {_text(turned)}")

    @suite.case(
        "several rows are answered as one by one",
        "The answer to a row does not depend on the rows that are sent with it (within 1e-5).",
    )
    def company(subject: S) -> None:
        alone = [predict(subject, subject.talk, [row])[0] for row in subject.rows]
        together = predict(subject, subject.talk, subject.rows)
        expect(same(together, alone), f"together {_text(together)}, alone {_text(alone)}")

    @suite.case("the same row has the same answer", "A row sent again is answered the same.")
    def again(subject: S) -> None:
        first, second = (predict(subject, subject.talk, subject.rows[:1]) for _ in range(2))
        expect(same(first, second), f"{_text(first)}, then {_text(second)}")

    @suite.case(
        "clients at the same time do not mix",
        f"{_CLIENTS} clients that ask at the same time each get the answer to their own row.",
    )
    def neighbours(subject: S) -> None:
        rows = [subject.rows[i % len(subject.rows)] for i in range(_CLIENTS)]
        alone = [predict(subject, subject.talk, [row]) for row in subject.rows]

        def ask(number: int) -> None:
            talk = Talk(subject.talk.url, subject.talk.headers, subject.talk.seconds)
            for _ in range(_TURNS):
                found, wanted = predict(subject, talk, [rows[number]]), alone[number % len(alone)]
                expect(same(found, wanted), f"{_text(found)} where alone it is {_text(wanted)}")

        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(ask, range(_CLIENTS)))
