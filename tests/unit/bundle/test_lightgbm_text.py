import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm")

from lightgbm import LGBMClassifier, LGBMRegressor  # noqa: E402

from steelyard.bundle.estimators import score_graph  # noqa: E402
from steelyard.bundle.lightgbm_text import categorical_columns  # noqa: E402
from steelyard.errors import CompileError  # noqa: E402

CODES = (2, 5, 31, 33, 250)
NUMBERS = 4
CATEGORICAL = list(range(NUMBERS, NUMBERS + len(CODES)))
COMMON = {"n_estimators": 15, "verbose": -1, "n_jobs": 1, "random_state": 0}


def table(rng, n=2400, missing=0.05):
    numbers = rng.normal(size=(n, NUMBERS))
    numbers[:, 1] = np.round(numbers[:, 1], 1)
    numbers[:, 2] *= np.exp(rng.normal(size=n) * 20)
    codes = np.column_stack([rng.integers(0, size, size=n) for size in CODES]).astype(float)
    x = np.hstack([numbers, codes])
    x[rng.random(x.shape) < missing] = np.nan
    x[:6, 3] = [1e30, -1e30, 1e-42, -1e-42, 0.0, -0.0]
    return x.astype(np.float32)


def score(rng, x):
    codes = np.nan_to_num(x[:, NUMBERS:]).astype(int)
    total = np.nan_to_num(x[:, 0]) - np.isnan(x[:, 1])
    for i, size in enumerate(CODES):
        effect = rng.normal(size=size)
        total = total + np.where(np.isnan(x[:, NUMBERS + i]), 1.0, effect[codes[:, i]])
    return total + 0.5 * rng.normal(size=len(x))


def label(values, classes):
    return np.digitize(values, np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1]))


@pytest.fixture
def rng():
    return np.random.default_rng(13)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("categorical", [CATEGORICAL, "auto"])
def test_classification(check_parity, rng, categorical, classes):
    x = table(rng)
    y = label(score(rng, x), classes)
    weight = rng.exponential(size=len(x))
    model = LGBMClassifier(min_child_samples=3, min_data_per_group=5, **COMMON)
    model.fit(x[:1600], y[:1600], sample_weight=weight[:1600], categorical_feature=categorical)
    check_parity(model, x)
    assert categorical_columns(model) == (CATEGORICAL if categorical != "auto" else [])


@pytest.mark.parametrize(
    "objective",
    ["regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma",
     "tweedie"],
)  # fmt: skip
def test_regression(check_parity, rng, objective):
    x = table(rng)
    y = np.exp(score(rng, x) / 2)
    model = LGBMRegressor(objective=objective, **COMMON)
    model.fit(x[:1600], y[:1600], categorical_feature=CATEGORICAL)
    check_parity(model, x, exact=objective not in {"poisson", "gamma", "tweedie"})


@pytest.mark.parametrize("boosting", ["gbdt", "dart", "goss", "rf"])
@pytest.mark.parametrize("kind", [LGBMClassifier, LGBMRegressor])
def test_boostings(check_parity, rng, kind, boosting):
    x = table(rng)
    y = label(score(rng, x), 3)
    bagging = {"bagging_fraction": 0.7, "bagging_freq": 1} if boosting == "rf" else {}
    model = kind(boosting_type=boosting, **bagging, **COMMON).fit(x[:1600], y[:1600])
    check_parity(model, x)


def test_options_that_change_the_answer(check_parity, rng):
    x = table(rng)
    values = score(rng, x)
    y = label(values, 2)
    check_parity(LGBMClassifier(sigmoid=2.5, **COMMON).fit(x, y), x)
    check_parity(LGBMClassifier(objective="multiclass", **COMMON).fit(x, label(values, 4)), x)
    check_parity(LGBMRegressor(reg_sqrt=True, **COMMON).fit(x, values), x)
    check_parity(LGBMRegressor(use_missing=False, **COMMON).fit(x, values), x)
    check_parity(LGBMClassifier(is_unbalance=True, **COMMON).fit(x, y), x)


def test_stops_at_the_best_iteration(check_parity, rng):
    x = table(rng)
    y = label(score(rng, x), 2)
    model = LGBMClassifier(learning_rate=0.7, **(COMMON | {"n_estimators": 60}))
    stop = lightgbm.early_stopping(3, verbose=False)
    model.fit(x[:800], y[:800], eval_X=x[800:], eval_y=y[800:], callbacks=[stop])
    assert 0 < model.best_iteration_ < 60
    check_parity(model, x)


def test_null_where_training_had_none(check_parity, rng):
    x = table(rng, missing=0.0)
    y = label(score(rng, x), 2)
    model = LGBMClassifier(**COMMON).fit(x, y, categorical_feature=CATEGORICAL)
    check_parity(model, table(rng, missing=0.3))


def test_unknown_codes_and_fractions(check_parity, rng):
    x = table(rng).astype(np.float64)
    y = label(score(rng, x), 2)
    model = LGBMClassifier(min_data_per_group=5, **COMMON)
    model.fit(x, y, categorical_feature=CATEGORICAL)
    x[::3, NUMBERS:] += 1000
    x[1::3, NUMBERS:] = -1
    check_parity(model, x)
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
    model = LGBMClassifier(min_child_samples=1, min_child_weight=0, **COMMON).fit(x, y)
    check_parity(model, x)
    splits = model.booster_.trees_to_dataframe()["threshold"].dropna().to_numpy(dtype=float)
    check_parity(model, np.nextafter(splits, np.inf)[:, None])
    check_parity(model, splits[:, None])


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_that_are_only_a_leaf(check_parity, rng, classes):
    x = table(rng)
    y = label(score(rng, x), classes)
    model = LGBMClassifier(min_child_samples=len(x), **COMMON).fit(x, y)
    check_parity(model, x)
    check_parity(LGBMRegressor(min_child_samples=len(x), **COMMON).fit(x, y), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linear_tree": True}, "linear_tree=True"),
        ({"zero_as_missing": True}, "zero_as_missing=True"),
        ({"objective": "cross_entropy_lambda"}, "'cross_entropy_lambda'"),
    ],
)
def test_refusals(compiled, monkeypatch, rng, options, message):
    x = table(rng)
    model = LGBMRegressor(**options, **COMMON).fit(x, rng.random(len(x)))
    # The fitted model itself says so, whatever the estimator's parameters say.
    model.set_params(linear_tree=None, zero_as_missing=None)
    with pytest.raises(CompileError, match=message):
        compiled(lambda v: score_graph(model, v), x.shape[1], np.float32)


def test_pandas_categories_are_refused(compiled, rng):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": pandas.Categorical(rng.choice(list("xyz"), size=200))})
    model = LGBMRegressor(**COMMON).fit(frame, rng.random(200))
    with pytest.raises(CompileError, match="pandas categories"):
        compiled(lambda v: score_graph(model, v), 1, np.float32)
