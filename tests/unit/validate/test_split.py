"""The split gate: sizes, shared rows, keys and groups, the order of time, classes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.core.records import Check
from steelyard.validate.candidate import Candidate
from steelyard.validate.split import check_split

Make = Callable[..., Candidate]
WithPart = Callable[..., Candidate]


def named(candidate: Candidate, name: str) -> Check:
    return next(check for check in check_split(candidate) if check.name == name)


def test_a_clean_split_passes(good: Candidate) -> None:
    checks = list(check_split(good))
    assert [check.name for check in checks] == ["held-out rows", "shared rows", "classes"]
    assert all(check.passed and not check.flagged for check in checks)


@pytest.mark.parametrize(
    ("rows", "passed", "flagged"), [(0, False, True), (49, True, True), (50, True, False)]
)
def test_held_out_rows_must_exist_and_few_are_flagged(
    good: Candidate, rows: int, passed: bool, flagged: bool
) -> None:
    found = named(replace(good, test=good.test.take(np.arange(rows))), "held-out rows")
    assert (found.passed, found.flagged, found.value) == (passed, flagged, rows)


def test_nothing_to_learn_from_is_refused(good: Candidate) -> None:
    assert not named(replace(good, train=good.train.take(np.arange(0))), "held-out rows").passed


def test_a_row_in_both_parts_is_refused(good: Candidate, with_part: WithPart) -> None:
    rows = good.test.rows.copy()
    rows[:2] = good.train.rows[:2]
    found = named(with_part(good, "test", rows=rows), "shared rows")
    assert (found.passed, found.value) == (False, 2)


def keyed(make: Make, with_part: WithPart, shared: int, field: str, **definition: Any) -> Candidate:
    made = make(definition=definition)
    train = np.array([f"k{i}" for i in range(len(made.train))], dtype=object)
    test = np.array([f"t{i}" for i in range(len(made.test))], dtype=object)
    test[:shared] = train[:shared]
    return with_part(with_part(made, "train", **{field: train}), "test", **{field: test})


def test_a_key_in_both_parts_is_refused_and_named(make: Make, with_part: WithPart) -> None:
    found = named(keyed(make, with_part, 7, "key", key="customer"), "shared keys")
    assert (found.passed, found.value) == (False, 7)
    assert found.evidence["examples"] == ["k0", "k1", "k2"]
    assert "'customer'" in found.evidence["message"]
    assert 'GroupSplit(group="customer")' in found.evidence["message"]
    assert named(keyed(make, with_part, 0, "key", key="customer"), "shared keys").passed


def test_a_private_key_is_counted_and_not_shown(make: Make, with_part: WithPart) -> None:
    class Person(sy.Row):
        name: str = sy.Field(private=True)
        age: int

    made = keyed(make, with_part, 3, "key", key="name", row=Person)
    assert named(made, "shared keys").evidence["examples"] == []


def test_a_group_in_both_parts_is_refused(make: Make, with_part: WithPart) -> None:
    made = keyed(make, with_part, 2, "group", split=sy.GroupSplit(group="site"))
    assert not named(made, "shared groups").passed
    marked = keyed(make, with_part, 2, "group", split=sy.ColumnSplit(column="part"))
    assert "shared groups" not in [check.name for check in check_split(marked)]


@pytest.mark.parametrize(("first", "passed"), [(1_000_001, True), (1_000_000, False), (5, False)])
def test_held_out_rows_must_be_later_and_ties_stay_together(
    make: Make, with_part: WithPart, first: int, passed: bool
) -> None:
    made = make(definition={"split": sy.TimeSplit(time="at", test="1d")})
    train = np.linspace(0, 1_000_000, len(made.train)).astype(np.int64)
    test = np.full(len(made.test), 2_000_000)
    test[0] = first
    made = with_part(with_part(made, "train", time=train), "test", time=test)
    found = named(made, "time order")
    assert (found.passed, found.value) == (passed, 0 if passed else 1)


def test_missing_times_prove_nothing(make: Make) -> None:
    made = make(definition={"split": sy.TimeSplit(time="at", test="1d")})
    assert not named(made, "time order").passed


def test_a_class_that_was_never_learned_is_flagged(good: Candidate, with_part: WithPart) -> None:
    label = good.test.label.copy()
    label[:4] = "maybe"
    found = named(with_part(good, "test", label=label), "classes")
    assert (found.passed, found.flagged, found.evidence["rows"]) == (True, True, 4)
