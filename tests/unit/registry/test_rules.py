"""The ledger against a simple model of its rules, whatever the order of calls."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from steelyard.core.reference import Reference
from steelyard.errors import NotFoundError, RefusedError
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore

ALIASES = st.sampled_from(["champion", "challenger"])
READERS = st.integers(0, 2)


class Rules(RuleBasedStateMachine):
    """Three readers of one store, used in turns; each must know what the others did."""

    candidate = None

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.ledgers = [Ledger(FolderStore(self.root)) for _ in range(3)]
        self.contents = []  # (content, made) in the order of their numbers
        self.outcomes = {}  # number -> newest outcome
        self.held = {}  # alias -> numbers that a rollback would go through, the holder last
        self.moves = 0
        self.judgements = 0

    def teardown(self):
        shutil.rmtree(self.root)

    @rule(
        who=READERS,
        content=st.integers(1, 3),
        made=st.integers(1, 2),
        outcome=st.sampled_from(["passed", "failed", "waived", "empty"]),
        measured=st.sampled_from([1.0, 2.0]),
    )
    def register(self, who, content, made, outcome, measured):
        given = self.candidate(
            content, made=made, outcome=outcome, measured=None if outcome == "empty" else measured
        )
        version = given.register(self.ledgers[who])
        if (content, made) in self.contents:
            number = self.contents.index((content, made)) + 1
        else:
            self.contents.append((content, made))
            number = len(self.contents)
        if self.outcomes.get(number) != outcome:
            self.outcomes[number] = outcome
            self.judgements += 1
        assert version.number == number
        assert version.passed is (outcome in ("passed", "waived"))

    @rule(who=READERS, number=st.integers(1, 6), alias=ALIASES)
    def promote(self, who, number, alias):
        def move():
            return self.ledgers[who].promote(
                Reference("churn", version=number), alias=alias, reason="", by="ann"
            )

        stack = self.held.get(alias, [])
        if number > len(self.contents):
            with pytest.raises(NotFoundError):
                move()
        elif stack and stack[-1] == number:
            assert not move().moved
        elif self.outcomes[number] in ("failed", "empty"):
            with pytest.raises(RefusedError):
                move()
        else:
            found = move()
            assert (found.before, found.to) == (stack[-1] if stack else None, number)
            self.held[alias] = [*stack, number]
            self.moves += 1

    @rule(who=READERS, alias=ALIASES)
    def rollback(self, who, alias):
        stack = self.held.get(alias, [])
        below = [
            place
            for place, number in enumerate(stack[:-1])
            if number != stack[-1] and self.outcomes[number] in ("passed", "waived")
        ]
        if below:
            found = self.ledgers[who].rollback("churn", alias=alias, reason="", by="ann")
            self.held[alias] = stack[: below[-1] + 1]
            assert (found.before, found.to) == (stack[-1], self.held[alias][-1])
            self.moves += 1
        else:
            with pytest.raises(RefusedError if stack else NotFoundError):
                self.ledgers[who].rollback("churn", alias=alias, reason="", by="ann")

    @rule(who=READERS)
    def reopen(self, who):
        self.ledgers[who] = Ledger(FolderStore(self.root))

    @precondition(lambda self: self.contents)
    @rule(who=READERS)
    def agree(self, who):
        ledger = self.ledgers[who]
        versions = ledger.versions("churn")
        assert [v.number for v in versions] == list(range(1, len(self.contents) + 1))
        assert dict(ledger.aliases("churn")) == {a: s[-1] for a, s in self.held.items()}
        assert ledger.tail("churn") == self.moves + self.judgements

    @invariant()
    def no_alias_without_a_bound_verdict_that_passed(self):
        for alias, stack in self.held.items():
            version = self.ledgers[0].resolve(Reference("churn", alias=alias))
            assert version.number == stack[-1]
            verdict = self.ledgers[0].prove(version)
            assert (verdict.bundle, verdict.provenance) == (version.bundle, version.provenance)

    @precondition(lambda self: self.contents)
    @rule()
    def nothing_is_damaged(self):
        assert [f for f in audit(self.ledgers[0]) if f.state == "error"] == []


@pytest.mark.parametrize(
    "examples", [15, pytest.param(200, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_the_ledger_keeps_its_rules(candidate, examples):
    class Bound(Rules):
        pass

    Bound.candidate = staticmethod(candidate)
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
