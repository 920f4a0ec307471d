"""All gates run in order, waivers show, a broken gate is a failed check, and checks are plain."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import steelyard as sy
from steelyard.core.gates import GATE_NAMES
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.errors import DefinitionError
from steelyard.features.parts import Columns, Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.judge import judge


@pytest.fixture(scope="module")
def checks(good: Candidate) -> tuple[Check, ...]:
    return judge(good)


def test_a_good_candidate_passes_every_gate_in_order(checks: tuple[Check, ...]) -> None:
    assert list(dict.fromkeys(check.gate for check in checks)) == list(GATE_NAMES)
    assert [check.evidence["message"] for check in checks if not check.passed] == []
    assert all(check.waived is None for check in checks)


def test_checks_are_plain_json_and_make_a_verdict(
    checks: tuple[Check, ...], good: Candidate
) -> None:
    verdict = Verdict(good.bundle, good.provenance, checks)
    assert verdict.passed
    text = json.dumps(verdict.document(), allow_nan=False)
    assert Verdict.of(json.loads(text)).document() == verdict.document()
    assert len(verdict.hash) == len(hash_json({}))
    assert len(text) < 60_000
    for check in checks:
        assert check.evidence["message"].endswith((".", "?"))


def test_the_same_candidate_gets_the_same_checks_and_progress_is_told(
    checks: tuple[Check, ...], good: Candidate
) -> None:
    told: list[str] = []
    again = judge(good, told.append)
    assert told == list(GATE_NAMES)
    timed = ("latency",)
    assert [c for c in again if c.gate not in timed] == [c for c in checks if c.gate not in timed]


def test_a_waived_gate_shows_what_it_found_and_why_it_is_waived(
    make: Callable[..., Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEELYARD_USER", "ada")
    gates = (
        sy.AtLeast("roc_auc", 0.999),
        sy.waive("quality", reason="first try, shadow only"),
    )
    checks = judge(make(gates=gates))
    found = next(check for check in checks if check.gate == "quality")
    assert not found.passed
    assert found.value is not None
    assert found.waived is not None
    assert found.waived["reason"] == "first try, shadow only"
    assert found.waived["by"] == "ada"
    assert found.waived["at"].endswith("+00:00")
    assert Verdict("b", "p", checks).passed
    assert [check.gate for check in checks if check.waived] == ["quality"]


def test_a_gate_that_breaks_down_is_a_failed_check(good: Candidate) -> None:
    def broken(columns: Columns) -> Scores:
        raise RuntimeError("no such kernel")

    checks = judge(replace(good, canonical=broken))
    found = next(check for check in checks if check.name == "runs")
    assert (found.gate, found.passed) == ("parity", False)
    assert "no such kernel" in found.evidence["message"]
    assert {check.gate for check in checks} == set(GATE_NAMES)


def test_a_server_that_does_not_start_fails_both_gates_that_ask_it(good: Candidate) -> None:
    def server() -> Any:
        raise OSError("the port is taken")

    failed = [check for check in judge(replace(good, server=server)) if not check.passed]
    assert [check.gate for check in failed] == ["parity", "latency"]
    assert all("the port is taken" in check.evidence["message"] for check in failed)


def test_one_server_is_started_for_all_gates(good: Candidate, serve: Callable[..., Any]) -> None:
    starts: list[str] = []

    def server() -> Any:
        starts.append("start")
        return serve(good.definition, good.packed)()

    judge(replace(good, server=server))
    assert starts == ["start"]


@pytest.mark.parametrize(
    ("gate", "hint"),
    [
        (sy.AtLeast("roc_acu", 0.8), "roc_auc"),
        (sy.AtMost("root_mean_squared_error", 1.0), "roc_auc"),
        (sy.SlicesAtLeast("accuracy", 0.7, by=["plna"]), "plan"),
        (sy.Baseline("acuracy"), "accuracy"),
        (sy.Champion("r2"), "average_precision"),
    ],
)
def test_a_setting_that_cannot_be_judged_is_a_mistake_in_the_definition(
    make: Callable[..., Candidate], gate: Any, hint: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        judge(make(gates=(gate,)))
    assert caught.value.field == "gates"
    assert hint in str(caught.value)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_pass_too(make: Callable[..., Candidate], task: str) -> None:
    checks = judge(make(task))
    assert [check.evidence["message"] for check in checks if not check.passed] == []
