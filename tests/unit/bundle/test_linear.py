import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge

from steelyard.bundle.estimators import score_graph


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def table(rng, columns, n=1200):
    x = rng.normal(size=(n, columns))
    x[:, 0] *= np.exp(rng.normal(size=n))
    x[:4, 0] = [1e5, -1e5, 1e-320, -0.0]
    return x


@pytest.mark.parametrize("columns", [1, 3, 8, 19, 130])
@pytest.mark.parametrize("classes", [2, 3, 7, 9])
def test_logistic_regression(check_parity, rng, classes, columns):
    x = table(rng, columns)
    value = x @ rng.normal(size=columns) + rng.normal(size=len(x))
    y = np.digitize(value, np.quantile(value[9:], np.linspace(0, 1, classes + 1)[1:-1]))
    check_parity(LogisticRegression(max_iter=5000, tol=1e-2).fit(x[9:], y[9:]), x)


@pytest.mark.parametrize(
    "model", [Ridge(), LinearRegression(), LinearRegression(fit_intercept=False), Lasso(0.01),
              ElasticNet(0.01)]
)  # fmt: skip
@pytest.mark.parametrize("columns", [1, 19])
def test_regression(check_parity, rng, model, columns):
    x = table(rng, columns)
    y = x @ rng.normal(size=columns) + rng.normal(size=len(x))
    weight = rng.exponential(size=len(x))
    check_parity(model.fit(x, y, sample_weight=weight), x)


def test_a_label_of_one_column_is_one_target(check_parity, rng):
    x = table(rng, 4)
    check_parity(LinearRegression().fit(x, x[:, :1]), x)


def test_magnitudes_that_cancel_stay_within_the_terms_rounding(compiled, rng):
    model = Ridge().fit(table(rng, 6), rng.normal(size=1200))
    x = rng.choice([1e30, -1e30, 1e-320, 0.0, 1.0], size=(1000, 6))
    found = compiled(lambda v: score_graph(model, v), 6, np.float64)(x)[:, 0]
    terms = np.abs(x * model.coef_).sum(axis=1)
    assert np.all(np.abs(found - model.predict(x)) <= 1e-15 * np.maximum(terms, 1) * 6)


def test_probabilities_at_both_ends(check_parity, rng):
    x = np.linspace(-3, 3, 500)[:, None]
    model = LogisticRegression(C=1e6, max_iter=5000).fit(x, x[:, 0] > 0)
    found = check_parity(model, x * 1e4)
    assert found.min() == 0.0
    assert found.max() == 1.0
    small = check_parity(model, np.array([[-0.5], [-0.2]]))[:, 1]
    np.testing.assert_allclose(small, model.predict_proba([[-0.5], [-0.2]])[:, 1], rtol=1e-10)
