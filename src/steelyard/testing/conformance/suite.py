"""A wire contract as cases; each says what the contract demands and judges what came."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic, TypeVar

from steelyard.errors import UsageError, nearest
from steelyard.testing.conformance.talk import Talk, Violation, shown

__all__ = ["Case", "NotApplicable", "Report", "Row", "Subject", "Suite"]

Row = dict[str, Any]
"""Values by the names of the model's inputs, as JSON holds them."""

_FEWEST: Final = 3
_SHAPES: Final = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(slots=True)
class Subject:
    """What a suite knows about the server under test: how to reach it, and rows that it takes."""

    talk: Talk
    model: str
    rows: list[Row]

    def __post_init__(self) -> None:
        # A batch of several rows is asked for also where only one is known.
        self.rows = (self.rows * _FEWEST)[: max(_FEWEST, len(self.rows))]


S = TypeVar("S", bound=Subject)
Learn = Callable[[Talk, str | None, list[Row] | None], S]


class NotApplicable(Exception):
    """A case does not concern this server; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """How a case went: what the contract demands, what was sent last, and what came."""

    name: str
    passed: bool
    expected: str
    got: str
    sent: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a suite found. `skipped` holds the cases that do not concern the server, and why."""

    contract: str
    url: str
    model: str
    cases: tuple[Case, ...]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> int:
        """How many cases passed."""
        return sum(case.passed for case in self.cases)

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return len(self.cases) - self.passed

    def document(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {
            "contract": self.contract,
            "url": self.url,
            "model": self.model,
            "passed": self.passed,
            "failed": self.failed,
            "cases": [asdict(case) for case in self.cases],
            "skipped": [{"name": name, "why": why} for name, why in self.skipped.items()],
        }


class Suite(Generic[S]):
    """The cases of one contract, in the order in which they are asked.

    `learn` finds out what the server serves; it raises UsageError where that cannot be judged.
    """

    def __init__(self, contract: str, learn: Learn[S]) -> None:
        self.contract = contract
        self._learn = learn
        self._cases: dict[str, tuple[str, Callable[[S], object]]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the cases."""
        return list(self._cases)

    def case(
        self, name: str, demand: str
    ) -> Callable[[Callable[[S], object]], Callable[[S], object]]:
        """Add a function as a case; it raises Violation, or NotApplicable."""

        def add(check: Callable[[S], object]) -> Callable[[S], object]:
            assert name not in self._cases, name
            self._cases[name] = (demand, check)
            return check

        return add

    def run(
        self,
        talk: Talk,
        model: str | None = None,
        rows: list[Row] | None = None,
        only: str | None = None,
    ) -> Report:
        """Ask a server about every case, or about the one that is named.

        `rows` are rows that the model takes; without them they are made from what the server says
        about its model. Raises UsageError where no server answers, or no row can be had.
        """
        if only is not None and only not in self._cases:
            raise UsageError(f"{self.contract} has no case {only!r}. {nearest(only, self._cases)}")
        subject = self._learn(talk, model, rows)
        cases: list[Case] = []
        skipped: dict[str, str] = {}
        for name, (demand, check) in self._cases.items():
            if only in (None, name):
                try:
                    cases.append(_judged(name, demand, check, subject))
                except NotApplicable as why:
                    skipped[name] = str(why)
        return Report(self.contract, talk.url, subject.model, tuple(cases), skipped)


def _judged(name: str, demand: str, check: Callable[[S], object], subject: S) -> Case:
    talk = subject.talk
    talk.sent = talk.came = ""
    try:
        check(subject)
    except Violation as violation:
        return Case(name, False, demand, shown(str(violation)), talk.sent)
    except _SHAPES as error:
        # An answer of a shape that no check foresees is no conforming one.
        got = f"{talk.came}: {type(error).__name__}: {error}"
        return Case(name, False, demand, shown(got), talk.sent)
    return Case(name, True, demand, talk.came, talk.sent)
