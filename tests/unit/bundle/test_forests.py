import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from steelyard.bundle.forests import forest_table


def table(rng, n=1200, columns=6):
    x = rng.normal(size=(n, columns))
    x[:, 1] = np.round(x[:, 1], 1)  # many equal values
    x[:, 2] *= np.exp(rng.normal(size=n) * 20)  # some beyond 1e30, some below 1e-30
    x[:, 3] = rng.integers(0, 5, size=n)
    x[: n // 100, 4] = [1e30, -1e30, 1e-42, -1e-42, 0.0, -0.0] * (n // 600)
    return x.astype(np.float32)


def score(x):
    return x[:, 0] + np.sign(x[:, 2]) * x[:, 1] + 0.3 * x[:, 3]


def label(rng, x, classes):
    value = score(x) + rng.normal(size=len(x))
    return np.digitize(value, np.quantile(value, np.linspace(0, 1, classes + 1)[1:-1]))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("depth", [3, None])
@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_probabilities_equal_scikit_learn_s(check_parity, rng, kind, depth, classes):
    x = table(rng)
    y = label(rng, x, classes)
    weight = rng.exponential(size=len(x))
    forest = kind(20, max_depth=depth, random_state=0)
    forest.fit(x[:800], y[:800], sample_weight=weight[:800])
    found = check_parity(forest, x, exact=classes > 2, bound=1e-14)
    # The probability of the positive class has the same bits, so a threshold decides the same.
    assert np.array_equal(found[:, -1], forest.predict_proba(x)[:, -1])


@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
@pytest.mark.parametrize("depth", [4, None])
def test_regression_is_equal_bit_for_bit(check_parity, rng, kind, depth):
    x = table(rng)
    y = score(x) * 1e6 + rng.normal(size=len(x))
    forest = kind(20, max_depth=depth, random_state=0).fit(x[:800], y[:800])
    check_parity(forest, x, exact=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_pure_leaves_tie_exactly_as_scikit_learn_s(check_parity, rng, classes):
    x = table(rng)
    y = label(rng, x, classes)
    forest = RandomForestClassifier(10, random_state=0).fit(x[:800], y[:800])
    found = check_parity(forest, x, exact=True)
    ranked = np.sort(found, axis=1)
    assert (ranked[:, -1] == ranked[:, -2]).sum() > 10


@pytest.mark.parametrize("classes", [2, 3])
def test_one_tree(check_parity, rng, classes):
    x = table(rng)
    y = label(rng, x, classes)
    check_parity(DecisionTreeClassifier(max_depth=5, random_state=0).fit(x, y), x, bound=1e-15)
    check_parity(RandomForestClassifier(1, random_state=0).fit(x, y), x, exact=True)
    check_parity(DecisionTreeRegressor(random_state=0).fit(x, y), x, exact=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_that_are_only_a_leaf(check_parity, rng, classes):
    x = table(rng)
    y = label(rng, x, classes)
    stumps = RandomForestClassifier(5, min_samples_leaf=len(x), random_state=0).fit(x, y)
    assert all(tree.tree_.node_count == 1 for tree in stumps.estimators_)
    check_parity(stumps, x, bound=1e-15)
    some = np.flatnonzero(y == 0)[:3].tolist() + [np.argmax(y == c) for c in range(1, classes)]
    few = RandomForestClassifier(30, random_state=0).fit(x[some], y[some])
    assert any(tree.tree_.node_count == 1 for tree in few.estimators_)
    assert any(tree.tree_.node_count > 1 for tree in few.estimators_)
    check_parity(few, x, exact=True)


def test_thresholds_at_data_values(check_parity):
    # Neighbouring float32 numbers: the threshold lies between them only in float64.
    values = [np.float32(0.1)]
    for _ in range(40):
        values.append(np.nextafter(values[-1], np.float32(1)))
    x = np.array(values, dtype=np.float32)[:, None]
    y = np.arange(len(x)) % 3
    forest = ExtraTreesClassifier(20, random_state=0).fit(x, y)
    check_parity(forest, x, exact=True)
    check_parity(RandomForestRegressor(20, random_state=0).fit(x, y), x, exact=True)
    on = forest_table(forest.estimators_, range(3)).threshold.astype(np.float32)[:, None]
    check_parity(forest, np.vstack([on, np.nextafter(on, np.float32(0))]), exact=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_missing_values_go_the_learned_way(check_parity, rng, classes):
    x = table(rng)
    y = label(rng, x, classes)
    x[rng.random(x.shape) < 0.1] = np.nan
    forest = RandomForestClassifier(20, random_state=0).fit(x[:800], y[:800])
    check_parity(forest, x, exact=True)


def test_float64_is_rounded_as_scikit_learn_rounds_it(check_parity, rng):
    x = rng.normal(size=(1000, 4))
    y = (x.sum(axis=1) > 0).astype(int) + (x[:, 0] > 1)
    forest = RandomForestClassifier(10, random_state=0).fit(x[:700], y[:700])
    splits = forest_table(forest.estimators_, range(3))
    near = np.repeat(splits.threshold[:200, None], 4, axis=1) * (1 + 1e-9)
    check_parity(forest, np.vstack([x, near]), exact=True)
