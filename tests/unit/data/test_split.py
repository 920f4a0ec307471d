"""Splits: two parts that cover the rows, the same everywhere, by the rule that was declared."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.splits import ColumnSplit, GroupSplit, Split, Stratified, TimeSplit
from steelyard.data.split import moment, split
from steelyard.errors import DataError, DefinitionError
from steelyard.features.parts import Part, Task

DAY = 86_400_000_000


def part(label: Any, **companions: Any) -> Part:
    label = np.array(label, dtype=object if isinstance(label[0], str) else None)
    rows = np.arange(len(label)) * 2 + 5
    return Part(rows, {"x": rows * 10}, label, {}, **companions)


def objects(values: list[Any]) -> Any:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


@settings(deadline=None, max_examples=80)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    test=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
    order=st.randoms(use_true_random=False),
)
def test_stratified_keeps_every_class_s_share(
    counts: list[int], test: float, seed: int, order: Any
) -> None:
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    order.shuffle(labels)
    whole = part(labels)
    how = Stratified(test, seed)
    if all(int(count * test) == 0 or count == 1 for count in counts):
        return  # too few rows: the refusal has its own test
    train, held_out = split(whole, how, "multiclass")
    both = np.concatenate([train.rows, held_out.rows])
    assert sorted(both.tolist()) == whole.rows.tolist()
    assert (np.diff(train.rows) > 0).all()
    assert (np.diff(held_out.rows) > 0).all()
    assert (held_out.columns["x"] == held_out.rows * 10).all()
    for k, count in enumerate(counts):
        assert abs(int((held_out.label == k).sum()) - count * test) <= 1
        assert (train.label == k).any()


def test_stratified_holds_out_the_rounded_share_of_all() -> None:
    _, held_out = split(part([0] * 73 + [1] * 27 + [2] * 11), Stratified(0.2), "multiclass")
    assert len(held_out) == round(111 * 0.2)


def test_stratified_is_the_same_on_every_machine_and_version() -> None:
    """A changed constant here means that a rerun of an old version splits its rows otherwise."""
    _, held_out = split(part(["a", "b"] * 10), Stratified(0.3, seed=4), "binary")
    assert held_out.rows.tolist() == [15, 19, 27, 33, 37, 41]
    _, other = split(part(["a", "b"] * 10), Stratified(0.3, seed=5), "binary")
    assert other.rows.tolist() != held_out.rows.tolist()


def test_a_numeric_label_is_held_out_at_every_height() -> None:
    label = np.random.RandomState(0).lognormal(size=1000)
    train, held_out = split(part(label), Stratified(0.2), "regression")
    assert len(held_out) == 200
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(train.label, q) == pytest.approx(np.quantile(label, q), rel=0.05)
        assert (held_out.label <= np.quantile(label, q)).mean() == pytest.approx(q, abs=0.01)


def test_a_numeric_label_that_is_mostly_zero() -> None:
    label = np.zeros(100)
    label[:10] = np.arange(10) + 1.0
    _, held_out = split(part(label), Stratified(0.5), "regression")
    assert int((held_out.label > 0).sum()) == 5


@pytest.mark.parametrize("how", [TimeSplit("t", test="30d"), TimeSplit("t", start="1970-02-01")])
def test_time_split_parts_at_a_moment(how: TimeSplit) -> None:
    days = np.random.RandomState(1).permutation(np.repeat(np.arange(61), 3))
    train, held_out = split(part([0, 1, 1] * 61, time=days * DAY), how, "binary")
    assert train.time is not None
    assert held_out.time is not None
    assert train.time.max() < held_out.time.min()
    assert sorted(set((held_out.time // DAY).tolist())) == list(range(31, 61))
    assert len(train) + len(held_out) == 183


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", (DAY, False)),
        ("1970-01-01T00:00:01", (1_000_000, False)),
        ("1970-01-01T01:00:00+01:00", (0, True)),
        ("1969-12-31T23:59:59.999999", (-1, False)),
    ],
)
def test_moment(text: str, expected: tuple[int, bool]) -> None:
    assert moment(text) == expected


def test_what_is_no_moment() -> None:
    with pytest.raises(DefinitionError, match="ISO date") as caught:
        moment("October 1")
    assert caught.value.field == "split"


def test_group_split_keeps_groups_whole_and_about_the_share() -> None:
    names = [f"customer {i // 3}" for i in range(3000)]
    train, held_out = split(
        part([0, 1, 1] * 1000, group=objects(names)), GroupSplit("g", 0.2), "binary"
    )
    assert train.group is not None
    assert held_out.group is not None
    assert not set(train.group) & set(held_out.group)
    assert len(held_out) / 3000 == pytest.approx(0.2, abs=0.04)
    _, other = split(
        part([0, 1, 1] * 1000, group=objects(names)), GroupSplit("g", 0.2, seed=1), "binary"
    )
    assert other.rows.tolist() != held_out.rows.tolist()


def test_a_group_s_place_is_the_same_in_every_process_and_among_other_rows() -> None:
    code = (
        "import numpy as np\n"
        "from steelyard.core.splits import GroupSplit\n"
        "from steelyard.data.split import split\nfrom steelyard.features.parts import Part\n"
        "g = np.array([str(i) for i in range(40)], dtype=object)\n"
        "p = Part(np.arange(40), {}, np.arange(40) * 1.0, {}, group=g)\n"
        "print(split(p, GroupSplit('g', 0.3), 'regression')[1].rows.tolist())\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    group = objects([*range(40), *range(100, 130)])
    _, held_out = split(
        part([float(i) for i in range(70)], group=group), GroupSplit("g", 0.3), "regression"
    )
    assert held_out.group is not None
    assert [g for g in held_out.group if g < 40] == eval(other.stdout)


@pytest.mark.parametrize(
    ("values", "test", "expected"),
    [
        (["test", "train", None, "test"], "test", [0, 3]),
        (["1", "0", "1", "01"], 1, [0, 2]),
        (["true", "False", "1", "0"], True, [0, 2]),
        (["true", "False", "1", "0"], False, [1, 3]),
        ([1, 0, None, 1], 1, [0, 3]),
        ([True, False, None, True], True, [0, 3]),
        ([True, False, True, True], False, [1]),
    ],
)
def test_column_split_holds_out_what_is_marked(
    values: list[Any], test: Any, expected: list[int]
) -> None:
    whole = part([1.5, 2.5, 3.5, 4.5], group=objects(values))
    train, held_out = split(whole, ColumnSplit("c", test), "regression")
    assert held_out.rows.tolist() == whole.rows[expected].tolist()
    assert len(train) + len(held_out) == 4


def test_a_mark_that_no_row_bears_is_named_with_the_nearest() -> None:
    whole = part([0, 1], group=objects(["valid", "train"]))
    with pytest.raises(DataError, match="no row has 'valids' in the column 'c'") as caught:
        split(whole, ColumnSplit("c", "valids"), "binary")
    assert caught.value.fix == "Did you mean valid?"
    with pytest.raises(DataError, match="no row has True"):
        split(part([0, 1], group=objects([1, 0])), ColumnSplit("c", True), "binary")


@pytest.mark.parametrize(
    ("how", "companions", "message"),
    [
        (Stratified(0.01), {}, "leaves no row held out, of 4"),
        (TimeSplit("t", start="1980-01-01"), {"time": np.arange(4)}, "no row held out"),
        (TimeSplit("t", start="1960-01-01"), {"time": np.arange(4)}, "no row to learn from"),
        (TimeSplit("t", test="9w"), {"time": np.arange(4)}, "no row to learn from"),
        (GroupSplit("g"), {"group": objects(["a"] * 4)}, "leaves no row"),
        (ColumnSplit("c", "a"), {"group": objects(["a"] * 4)}, "no row to learn from"),
    ],
)
def test_an_empty_part_is_refused(how: Split, companions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        split(part([0, 1, 0, 1], **companions), how, "binary")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (["a", "a", "b", "b", "c"], "multiclass", r"1 held-out rows have labels .*: 'c'"),
        (["a", "a", "a", "a", "b"], "binary", "every row to learn from has the label 'a'"),
    ],
)
def test_classes_that_cannot_be_learned_are_refused(
    labels: list[str], task: Task, message: str
) -> None:
    whole = part(labels, time=np.arange(5) * DAY)
    with pytest.raises(DataError, match=message):
        split(whole, TimeSplit("t", test="1d"), task)
