import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from steelyard.bundle.estimators import family_of, score_graph
from steelyard.errors import CompileError


def test_families_say_what_they_want():
    linear, forest = family_of(LogisticRegression()), family_of(RandomForestRegressor())
    hist = family_of(HistGradientBoostingClassifier())
    assert (linear.name, linear.style, linear.dtype) == ("linear", "one_hot", np.float64)
    assert (forest.name, forest.style, forest.dtype) == ("forest", "ordinal", np.float32)
    assert (hist.name, hist.style) == ("hist_gradient_boosting", "native")
    assert linear.needs_scaling
    assert linear.needs_imputation
    assert forest.needs_imputation
    assert not forest.needs_scaling
    assert not forest.native_categoricals
    assert hist.native_categoricals
    assert not hist.needs_imputation


@pytest.mark.parametrize(
    ("estimator", "instead"),
    [
        (RidgeClassifier(), "LogisticRegression"),
        (GradientBoostingClassifier(), "HistGradientBoostingClassifier"),
        (CalibratedClassifierCV(LogisticRegression()), "the estimator inside it"),
        (KNeighborsClassifier(), "one of DecisionTreeClassifier"),
    ],
)
def test_others_are_refused_by_name_with_what_to_use(estimator, instead):
    with pytest.raises(CompileError, match=type(estimator).__name__) as refusal:
        family_of(estimator)
    assert instead in str(refusal.value)


def test_a_subclass_is_refused_because_it_may_answer_otherwise():
    class Halved(Ridge):
        def predict(self, x):
            return super().predict(x) / 2

    with pytest.raises(CompileError, match="Halved"):
        family_of(Halved())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": lambda y, p: (p - y, np.ones_like(p))}, "<lambda>"),
        ({"objective": "multiclassova"}, "multiclassova"),
        ({"boosting_type": "odd"}, "boosting 'odd'"),
        ({"linear_tree": True}, "linear_tree"),
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"pred_early_stop": True}, "pred_early_stop"),
    ],
)
def test_lightgbm_options_are_refused_before_fitting(options, message):
    lightgbm = pytest.importorskip("lightgbm")
    with pytest.raises(CompileError, match=message):
        family_of(lightgbm.LGBMClassifier(**options))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Ridge(), "Ridge is not fitted"),
        (RandomForestClassifier(), "RandomForestClassifier is not fitted"),
        (LinearRegression().fit(np.eye(4), np.eye(4)), "several targets"),
        (RandomForestRegressor(1).fit(np.eye(4), np.eye(4)), "several targets"),
        (RandomForestClassifier(1).fit(np.eye(4), np.ones(4)), "one class only"),
        (Ridge().fit(np.eye(3), np.ones(3)), "3 columns, and x has 4"),
    ],
)
def test_what_cannot_be_scored(compiled, estimator, message):
    with pytest.raises(CompileError, match=message):
        compiled(lambda x: score_graph(estimator, x), 4, np.float64)


def test_lightgbm_that_is_not_fitted(compiled):
    lightgbm = pytest.importorskip("lightgbm")
    with pytest.raises(CompileError, match="LGBMRegressor is not fitted"):
        compiled(lambda x: score_graph(lightgbm.LGBMRegressor(), x), 4, np.float32)


def test_compiling_twice_gives_the_same_bytes():
    import spox

    x = np.random.default_rng(0).normal(size=(200, 3))
    forest = RandomForestClassifier(5, random_state=0).fit(x, x[:, 0] > 0)
    built = []
    for _ in range(2):
        v = spox.argument(spox.Tensor(np.float32, ("N", 3)))
        model = spox.build({"x": v}, {"scores": score_graph(forest, v)})
        built.append(model.SerializeToString(deterministic=True))
    assert built[0] == built[1]
