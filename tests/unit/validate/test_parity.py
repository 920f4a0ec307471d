"""The parity gate: each way of answering is held equal, and each planted fault is caught."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steelyard.core.records import Check
from steelyard.features.parts import Columns, Scores
from steelyard.validate.candidate import Address, Candidate
from steelyard.validate.parity import check_parity

Change = Callable[[Scores, Columns], Scores]
Retold = Callable[[Callable[[Columns], Scores], Change], Callable[[Columns], Scores]]
HELD_OUT, NASTY, BATCH, SERVER = (
    "held-out rows",
    "nasty rows",
    "batch independence",
    "server over HTTP",
)


def judged(candidate: Candidate, last: str = SERVER) -> dict[str, Check]:
    """Run the gate up to the check named `last`."""
    checks: dict[str, Check] = {}
    for check in check_parity(candidate):
        checks[check.name] = check
        if check.name == last:
            break
    return checks


def moved(amount: float, where: Callable[[Columns], Any] = lambda columns: True) -> Change:
    """Move the probability of the last class, where a mask says so."""

    def change(scores: Scores, columns: Columns) -> Scores:
        assert scores.probabilities is not None
        mask = np.broadcast_to(where(columns), len(scores))
        table = scores.probabilities.copy()
        table[:, -1] += np.where(mask, amount, 0)
        table[:, 0] -= np.where(mask, amount, 0)
        return Scores(scores.prediction, table, scores.classes)

    return change


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_equal_ways_pass(make: Callable[..., Candidate], task: str) -> None:
    checks = judged(make(task))
    assert list(checks) == [HELD_OUT, NASTY, BATCH, SERVER]
    assert all(check.passed and not check.flagged for check in checks.values())
    assert checks[HELD_OUT].evidence["reference"]["rows"] == 500
    assert checks[SERVER].evidence["rows"] == 200 + checks[NASTY].evidence["rows"]
    assert checks[BATCH].evidence["rows_with_other_bits"] == {
        "1": 0, "2": 0, "3": 0, "8": 0, "reversed": 0,
    }  # fmt: skip


def test_a_reference_that_differs_on_one_row_is_caught(good: Candidate, retold: Retold) -> None:
    one = good.test.columns["charge"][17]
    change = moved(3e-5, lambda columns: columns["charge"] == one)
    checks = judged(replace(good, reference=retold(good.reference, change)), HELD_OUT)
    assert not checks[HELD_OUT].passed
    assert checks[HELD_OUT].value == pytest.approx(3e-5)
    assert checks[HELD_OUT].evidence["examples"][0]["charge"] == one
    small = moved(5e-6, lambda columns: columns["charge"] == one)
    assert judged(replace(good, reference=retold(good.reference, small)), HELD_OUT)[HELD_OUT].passed


def test_a_canonical_graph_that_differs_is_caught(good: Candidate, retold: Retold) -> None:
    checks = judged(replace(good, canonical=retold(good.canonical, moved(1e-3))), NASTY)
    assert not checks[HELD_OUT].passed
    assert "canonical graph" in checks[HELD_OUT].evidence["message"]
    assert not checks[NASTY].passed


def test_metrics_of_other_answers_are_caught(good: Candidate) -> None:
    order = np.arange(len(good.test))[::-1]
    assert good.scores.probabilities is not None
    other = Scores(
        good.scores.prediction[order], good.scores.probabilities[order], good.scores.classes
    )
    found = judged(replace(good, scores=other), HELD_OUT)[HELD_OUT]
    assert not found.passed
    assert "judged by other answers" in found.evidence["message"]


def test_a_fault_on_rows_that_nobody_expects_is_caught(good: Candidate, retold: Retold) -> None:
    # Right on every held-out row; wrong where the city is an empty string.
    change = moved(0.01, lambda columns: columns["city"] == "")
    checks = judged(replace(good, reference=retold(good.reference, change)), NASTY)
    assert checks[HELD_OUT].passed
    assert not checks[NASTY].passed
    assert checks[NASTY].evidence["examples"][0]["city"] == ""


def test_a_bundle_that_cannot_answer_an_allowed_row_is_caught(
    good: Candidate, retold: Retold
) -> None:
    def breaks(scores: Scores, columns: Columns) -> Scores:
        if (columns["city"] == "").any():
            raise ZeroDivisionError("integer division by zero")
        return scores

    made = replace(good, packed=retold(good.packed, breaks))
    found = judged(made, NASTY)[NASTY]
    assert not found.passed
    assert "integer division by zero" in found.evidence["message"]


def test_an_answer_without_a_number_is_caught(
    make: Callable[..., Candidate], retold: Retold
) -> None:
    made = make("regression")

    def lost(scores: Scores, columns: Columns) -> Scores:
        return Scores(np.where(columns["city"] == "", np.nan, scores.prediction), None, None)

    everywhere = retold(made.packed, lost)
    made = replace(made, packed=everywhere, canonical=everywhere, reference=everywhere)
    found = judged(made, NASTY)
    assert not found[NASTY].passed
    assert found[NASTY].evidence["no_number"] > 0


def test_rows_that_the_pipeline_in_memory_refuses_are_flagged(
    good: Candidate, retold: Retold
) -> None:
    def refuses(scores: Scores, columns: Columns) -> Scores:
        if (columns["city"] == "").any():
            raise ValueError("Input contains an empty string")
        return scores

    found = judged(replace(good, reference=retold(good.reference, refuses)), NASTY)[NASTY]
    assert found.passed
    assert found.flagged
    assert found.evidence["refused_in_memory"] >= 1


@pytest.mark.parametrize(("amount", "passed"), [(1e-9, True), (1e-4, False)])
def test_an_answer_that_depends_on_its_batch_is_caught(
    good: Candidate, retold: Retold, amount: float, passed: bool
) -> None:
    def company(scores: Scores, columns: Columns) -> Scores:
        alone = len(scores) == 1
        return moved(amount if alone else 0.0)(scores, columns)

    found = judged(replace(good, packed=retold(good.packed, company)), BATCH)[BATCH]
    assert found.passed is passed
    assert found.flagged
    assert found.value == pytest.approx(amount, rel=1e-3)
    assert found.evidence["rows_with_other_bits"]["1"] > 100


def plus_one_bit(answer: dict[str, Any]) -> dict[str, Any]:
    changed = dict(answer["probabilities"])
    changed["yes"] = float(np.nextafter(changed["yes"], 0.123))
    return {**answer, "probabilities": changed}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (plus_one_bit, "expected"),
        (lambda answer: {**answer, "prediction": "maybe"}, "maybe"),
        (lambda answer: {**answer, "source": "fallback"}, "fallback"),
        (lambda answer: {"prediction": answer["prediction"]}, "None"),
    ],
    ids=["last bit", "label", "fallback", "no probabilities"],
)
def test_a_server_that_answers_otherwise_is_caught(
    good: Candidate, serve: Callable[..., Any], change: Any, told: str
) -> None:
    made = replace(good, server=serve(good.definition, good.packed, change))
    found = judged(made, SERVER)[SERVER]
    assert not found.passed
    assert told in found.evidence["message"]
    assert found.value == found.evidence["rows"]


def test_a_server_that_answers_what_a_guard_refuses_is_caught(
    good: Candidate, serve: Callable[..., Any]
) -> None:
    kept = replace(good, takes=lambda rows: [i % 2 == 0 for i in range(len(rows))])
    found = judged(kept, SERVER)[SERVER]
    assert not found.passed
    assert "a guard refuses it" in found.evidence["message"]
    assert found.value == found.evidence["kept_from_the_model"] == found.evidence["rows"] // 2

    def marked(answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "source": "fallback"}

    none = replace(good, takes=lambda rows: [False] * len(rows))
    marking = replace(none, server=serve(good.definition, good.packed, marked))
    found = judged(marking, SERVER)[SERVER]
    assert found.passed
    assert f"keep {found.evidence['rows']} more" in found.evidence["message"]


def test_label_types_are_held(make: Callable[..., Candidate], serve: Callable[..., Any]) -> None:
    made = make("multiclass")
    text = serve(
        made.definition,
        made.packed,
        lambda answer: {**answer, "prediction": str(answer["prediction"])},
    )
    assert not judged(replace(made, server=text), SERVER)[SERVER].passed


def test_a_server_that_knows_no_such_model_is_caught(
    good: Candidate, serve: Callable[..., Any]
) -> None:

    @contextmanager
    def wrong() -> Iterator[Address]:
        with serve(good.definition, good.packed)() as address:
            yield Address(address.url, "nobody")

    found = judged(replace(good, server=wrong), SERVER)[SERVER]
    assert not found.passed
    assert "404" in found.evidence["message"]


def test_without_a_server_nothing_is_proven(good: Candidate) -> None:
    assert not judged(replace(good, server=None), SERVER)[SERVER].passed
