import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.bundle.tree_table import constant_tree, join, single_tree
from steelyard.bundle.trees import leaf_sums, leaf_vector_sums, round_down


@given(st.floats(allow_nan=False), st.floats(width=32))
def test_rounding_down_keeps_every_comparison(threshold, value):
    lower = round_down(np.array([threshold]))[0]
    assert (np.float32(value) <= lower) == (value <= threshold)


def random_tree(rng, columns, splits, values=1, target=0, sets=True):
    """A tree of random shape whose splits mix thresholds, sets, and ways for NaN."""
    open_ends = []
    left, right = np.zeros(splits, dtype=int), np.zeros(splits, dtype=int)
    for i in range(splits):
        if i:
            parent, side = open_ends.pop(rng.integers(len(open_ends)))
            side[parent] = i
        open_ends += [(i, left), (i, right)]
    for leaf, (parent, side) in enumerate(open_ends):
        side[parent] = ~leaf
    members = [
        rng.choice(260, size=rng.integers(0, 120), replace=False)
        if sets and rng.random() < 0.5
        else None
        for _ in range(splits)
    ]
    return single_tree(
        feature=rng.integers(0, columns, size=splits),
        threshold=rng.integers(0, 260, size=splits) + rng.choice([0.0, 0.5, 1e-9], size=splits),
        true_child=left,
        false_child=right,
        nan_true=rng.random(splits) < 0.5,
        leaf_value=rng.normal(size=(splits + 1, values)),
        members=members,
        target=target,
    )


def walk(table, tree, row):
    """The leaf that a row reaches, by the table's own definition."""
    ends = np.cumsum(np.maximum(table.member_count, 0))
    at = table.root[tree]
    while at >= 0:
        value, count = row[table.feature[at]], table.member_count[at]
        if np.isnan(value):
            goes_true = table.nan_true[at]
        elif count >= 0:
            goes_true = value in table.members[ends[at] - count : ends[at]]
        else:
            goes_true = float(value) <= table.threshold[at]
        at = table.true_child[at] if goes_true else table.false_child[at]
    return ~at


def rows_of_codes(rng, n, columns):
    x = rng.integers(-3, 263, size=(n, columns)).astype(np.float64)
    x[rng.random(x.shape) < 0.2] = np.nan
    extreme = rng.random(x.shape) < 0.05
    x[extreme] = rng.choice([np.inf, -np.inf, 1e30, -1e30, 2.0**40], size=extreme.sum())
    return x.astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", [1, 3])
def test_sums_follow_the_table(compiled, check_bits, dtype, targets):
    rng = np.random.default_rng(targets)
    trees = [random_tree(rng, 4, rng.integers(1, 40), target=t % targets) for t in range(15)]
    table = join([constant_tree(0.25), *trees, constant_tree(-1.5, targets - 1)])
    assert table.features == 4
    x = rows_of_codes(rng, 150, 4)
    run = compiled(lambda v: leaf_sums(table, v), 4, dtype)
    wanted = np.zeros((len(x), targets))
    for tree in range(table.trees):
        reached = [walk(table, tree, row) for row in x]
        wanted[:, table.target[tree]] += table.leaf_value[reached, 0]
    found = run(x)
    assert np.array_equal(found, wanted)
    check_bits(run, x, found)


@pytest.mark.parametrize("sets", [True, False])
def test_vectors_of_leaves_follow_the_table(compiled, check_bits, sets):
    rng = np.random.default_rng(4)
    trees = [random_tree(rng, 3, rng.integers(1, 30), values=5, sets=sets) for _ in range(12)]
    bare = single_tree(
        feature=np.zeros(0),
        threshold=np.zeros(0),
        true_child=np.zeros(0),
        false_child=np.zeros(0),
        nan_true=np.zeros(0),
        leaf_value=rng.normal(size=(1, 5)),
    )
    table = join([*trees[:6], bare, *trees[6:]])
    x = rows_of_codes(rng, 150, 3)
    run = compiled(lambda v: leaf_vector_sums(table, v), 3, np.float32)
    wanted = np.zeros((len(x), 5))
    for tree in range(table.trees):
        wanted += table.leaf_value[[walk(table, tree, row) for row in x]]
    found = run(x)
    assert np.array_equal(found, wanted)
    check_bits(run, x, found)


def test_only_bare_leaves(compiled):
    table = join([constant_tree(0.5), constant_tree(0.25)])
    run = compiled(lambda v: leaf_sums(table, v), 1, np.float32)
    assert np.array_equal(run(np.array([[1.0], [np.nan]])), [[0.75], [0.75]])
