import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from steelyard.bundle.hist_gradient_boosting import categorical_columns
from steelyard.errors import CompileError

CODES = (2, 5, 31, 33, 250)
NUMBERS = 4


def table(rng, n=2400):
    """Four numeric columns, then a column of codes for each of CODES; NaN in all of them."""
    numbers = rng.normal(size=(n, NUMBERS))
    numbers[:, 1] = np.round(numbers[:, 1], 1)
    numbers[:, 2] *= np.exp(rng.normal(size=n) * 20)
    codes = np.column_stack([rng.integers(0, size, size=n) for size in CODES]).astype(float)
    x = np.hstack([numbers, codes])
    x[rng.random(x.shape) < 0.05] = np.nan
    x[:6, 3] = [1e30, -1e30, 1e-42, -1e-42, 0.0, -0.0]
    return x.astype(np.float32)


def score(rng, x):
    effects = [rng.normal(size=size) for size in CODES]
    codes = np.nan_to_num(x[:, NUMBERS:]).astype(int)
    total = np.nan_to_num(x[:, 0]) - np.isnan(x[:, 1])
    for i, effect in enumerate(effects):
        total = total + np.where(np.isnan(x[:, NUMBERS + i]), 1.0, effect[codes[:, i]])
    return total + 0.5 * rng.normal(size=len(x))


def label(values, classes):
    return np.digitize(values, np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1]))


@pytest.fixture
def rng():
    return np.random.default_rng(11)


CATEGORICAL = list(range(NUMBERS, NUMBERS + len(CODES)))


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("categorical", [CATEGORICAL, None, [0 + NUMBERS, 4 + NUMBERS]])
def test_classification(check_parity, rng, categorical, classes):
    x = table(rng)
    y = label(score(rng, x), classes)
    weight = rng.exponential(size=len(x))
    model = HistGradientBoostingClassifier(
        max_iter=30 // classes, categorical_features=categorical, random_state=0
    )
    model.fit(x[:1600], y[:1600], sample_weight=weight[:1600])
    check_parity(model, x)


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "poisson", "gamma", "quantile"]
)
def test_regression(check_parity, rng, loss):
    x = table(rng)
    y = np.exp(score(rng, x) / 2)
    model = HistGradientBoostingRegressor(
        loss=loss,
        quantile=0.8 if loss == "quantile" else None,
        max_iter=25,
        categorical_features=CATEGORICAL,
        random_state=0,
    ).fit(x[:1600], y[:1600])
    found = check_parity(model, x)
    if loss not in {"poisson", "gamma"}:
        assert np.array_equal(found[:, 0], model.predict(x))


def test_codes_that_training_never_saw_go_where_null_goes(check_parity, rng):
    x = table(rng)
    y = label(score(rng, x), 2)
    model = HistGradientBoostingClassifier(
        max_iter=20, categorical_features=CATEGORICAL, random_state=0
    )
    seen = ~np.isin(x[:, NUMBERS + 4], [7, 100, 240]) & (x[:, NUMBERS + 1] != 3)
    model.fit(x[seen], y[seen])
    assert (~seen).sum() > 100
    found = check_parity(model, x[~seen])
    blank = x[~seen].copy()
    for column, codes in ((NUMBERS + 4, [7, 100, 240]), (NUMBERS + 1, [3])):
        blank[np.isin(blank[:, column], codes), column] = np.nan
    np.testing.assert_allclose(found, model.predict_proba(blank), rtol=1e-14)


@pytest.mark.parametrize("gaps", [[-1, 0, 3, 90000], [5, 6, 2**31 - 1]])
def test_codes_may_be_any_integers(check_parity, rng, gaps):
    x = rng.choice(np.array(gaps, dtype=np.float64), size=(600, 2))
    y = (x[:, 0] == gaps[1]) ^ (x[:, 1] == gaps[-1])
    model = HistGradientBoostingClassifier(
        max_iter=10, categorical_features=[0], min_samples_leaf=2, random_state=0
    ).fit(x, y)
    others = np.array([[g + d, x[0, 1]] for g in gaps for d in (-1, 1, 30)], dtype=np.float64)
    check_parity(model, np.vstack([x, others]))


def test_fractions_in_codes_are_unknown_to_scikit_learn(check_parity, rng):
    x = table(rng).astype(np.float64)
    y = label(score(rng, x), 2)
    model = HistGradientBoostingClassifier(
        max_iter=10, categorical_features=CATEGORICAL, random_state=0
    ).fit(x, y)
    x[::2, NUMBERS:] += rng.choice([0.5, -0.25, 0.999], size=x[::2, NUMBERS:].shape)
    check_parity(model, x, whole_codes=False)
    with pytest.raises(AssertionError):
        check_parity(model, x)


def test_thresholds_at_data_values(check_parity):
    values = [np.float32(0.1)]
    for _ in range(200):
        values.append(np.nextafter(values[-1], np.float32(1)))
    x = np.array(values, dtype=np.float32)[:, None]
    y = (np.arange(len(x)) // 5) % 2
    model = HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=1).fit(x, y)
    check_parity(model, x)
    splits = np.concatenate([p.nodes["num_threshold"] for [p] in model._predictors])
    check_parity(model, np.nextafter(splits, np.inf)[:, None])
    check_parity(model, splits[:, None])


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_that_are_only_a_leaf(check_parity, rng, classes):
    x = table(rng)[:, :NUMBERS]
    y = label(np.nan_to_num(x[:, 0]), classes)
    model = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=len(x)).fit(x, y)
    assert all(len(p.nodes) == 1 for row in model._predictors for p in row)
    check_parity(model, x)


def test_one_iteration_and_the_columns_of_codes(check_parity, rng):
    x = table(rng)
    y = score(rng, x)
    model = HistGradientBoostingRegressor(max_iter=1, categorical_features=CATEGORICAL).fit(x, y)
    assert categorical_columns(model) == CATEGORICAL
    check_parity(model, x, exact=True)


def test_categories_that_are_not_integers_are_refused(compiled, rng):
    from steelyard.bundle.estimators import score_graph

    x = rng.choice([0.5, 1.5, 2.5], size=(300, 1))
    model = HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(x, x[:, 0])
    with pytest.raises(CompileError, match=r"column 0 holds categories .*0\.5"):
        compiled(lambda v: score_graph(model, v), 1, np.float64)
