"""The schema gate: bad rows above the limit refuse, and no row may be lost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import steelyard as sy
from steelyard.validate.candidate import Candidate
from steelyard.validate.schema import check_schema

FAULTS = [
    {"field": "charge", "reason": "not a number", "rows": 4},
    {"field": "tenure", "reason": "null", "rows": 9},
]


def counted(candidate: Candidate, **counts: Any) -> Candidate:
    return replace(candidate, counts={**candidate.counts, **counts})


def test_a_clean_table_passes(good: Candidate) -> None:
    bad, accounted = check_schema(good)
    assert (bad.passed, bad.value, bad.threshold) == (True, 0.0, 0.001)
    assert accounted.passed


def test_too_many_bad_rows_are_refused_with_field_reason_and_file(good: Candidate) -> None:
    bad, _ = check_schema(
        counted(good, rows_in=1010, good=990, bad=12, label_null=8, faults=FAULTS, bad_file="b.csv")
    )
    assert not bad.passed
    assert bad.value == 12 / 1002  # rows without a label are no bad rows
    assert bad.evidence["faults"][0] == FAULTS[1]
    for told in ("12 labelled rows", "'tenure': null in 9", "b.csv"):
        assert told in bad.evidence["message"]


def test_few_bad_rows_pass_and_a_definition_may_tighten_or_loosen(
    good: Candidate, make: Callable[..., Candidate]
) -> None:
    counts: dict[str, Any] = {"rows_in": 10_000, "good": 9_995, "bad": 5, "faults": FAULTS}
    usual, _ = check_schema(counted(good, **counts))
    assert usual.passed
    assert not usual.flagged
    tight, _ = check_schema(counted(make(gates=(sy.Schema(max_bad=0.0),)), **counts))
    assert not tight.passed
    loose, _ = check_schema(counted(make(gates=(sy.Schema(max_bad=0.5),)), **counts))
    assert loose.passed
    assert loose.flagged  # looser than usual shows


def test_a_lost_row_is_told(good: Candidate) -> None:
    _, accounted = check_schema(counted(good, rows_in=1003, good=1000, bad=1, label_null=1))
    assert (accounted.passed, accounted.value) == (False, 1)
