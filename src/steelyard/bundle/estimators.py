"""Which estimators have a faithful compiled form, what each wants, and its scores as a graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.forests import forest_scores
from steelyard.bundle.hist_gradient_boosting import (
    categorical_columns as codes_of_hist_gradient_boosting,
)
from steelyard.bundle.hist_gradient_boosting import hist_gradient_boosting_scores
from steelyard.bundle.lightgbm_text import categorical_columns as codes_of_lightgbm
from steelyard.bundle.lightgbm_text import lightgbm_scores
from steelyard.bundle.linear import linear_scores
from steelyard.bundle.preparation import Style
from steelyard.errors import CompileError

__all__ = ["Family", "family_of", "score_graph"]

Name = Literal["linear", "forest", "hist_gradient_boosting", "lightgbm"]


@dataclass(frozen=True, slots=True)
class Family:
    """What the estimators of one family want to be fed."""

    name: Name
    style: Style
    dtype: type[np.floating[Any]]

    @property
    def native_categoricals(self) -> bool:
        """Whether columns of codes are split by sets, with NaN for unseen ones."""
        return self.style == "native"

    @property
    def needs_imputation(self) -> bool:
        """Whether NaN has no meaning to the estimator."""
        return self.style != "native"

    @property
    def needs_scaling(self) -> bool:
        """Whether the scale of a column matters."""
        return self.style == "one_hot"


_LINEAR: Final = Family("linear", "one_hot", np.float64)
_FOREST: Final = Family("forest", "ordinal", np.float32)
_HIST: Final = Family("hist_gradient_boosting", "native", np.float32)
_LIGHTGBM: Final = Family("lightgbm", "native", np.float32)

_CLASSIFIERS: Final = {
    ("sklearn", "LogisticRegression"): _LINEAR,
    ("sklearn", "DecisionTreeClassifier"): _FOREST,
    ("sklearn", "ExtraTreesClassifier"): _FOREST,
    ("sklearn", "RandomForestClassifier"): _FOREST,
    ("sklearn", "HistGradientBoostingClassifier"): _HIST,
    ("lightgbm", "LGBMClassifier"): _LIGHTGBM,
}
_REGRESSORS: Final = {
    ("sklearn", "ElasticNet"): _LINEAR,
    ("sklearn", "Lasso"): _LINEAR,
    ("sklearn", "LinearRegression"): _LINEAR,
    ("sklearn", "Ridge"): _LINEAR,
    ("sklearn", "DecisionTreeRegressor"): _FOREST,
    ("sklearn", "ExtraTreesRegressor"): _FOREST,
    ("sklearn", "RandomForestRegressor"): _FOREST,
    ("sklearn", "HistGradientBoostingRegressor"): _HIST,
    ("lightgbm", "LGBMRegressor"): _LIGHTGBM,
}

# The nearest estimator that is compiled, for those that people bring most.
_INSTEAD: Final = {
    "AdaBoostClassifier": "HistGradientBoostingClassifier",
    "AdaBoostRegressor": "HistGradientBoostingRegressor",
    "BaggingClassifier": "RandomForestClassifier",
    "BaggingRegressor": "RandomForestRegressor",
    "CalibratedClassifierCV": "the estimator inside it, and a check of its calibration",
    "CatBoostClassifier": "HistGradientBoostingClassifier or LGBMClassifier",
    "CatBoostRegressor": "HistGradientBoostingRegressor or LGBMRegressor",
    "GradientBoostingClassifier": "HistGradientBoostingClassifier",
    "GradientBoostingRegressor": "HistGradientBoostingRegressor",
    "GridSearchCV": "the estimator with the parameters that the search found",
    "LGBMRanker": "LGBMRegressor",
    "LinearSVC": "LogisticRegression, which has probabilities",
    "LogisticRegressionCV": "LogisticRegression with the C that the search found",
    "RandomizedSearchCV": "the estimator with the parameters that the search found",
    "RidgeCV": "Ridge with the alpha that the search found",
    "RidgeClassifier": "LogisticRegression, which has probabilities",
    "SGDClassifier": "LogisticRegression",
    "SVC": "HistGradientBoostingClassifier",
    "SVR": "HistGradientBoostingRegressor",
    "XGBClassifier": "LGBMClassifier or HistGradientBoostingClassifier",
    "XGBRegressor": "LGBMRegressor or HistGradientBoostingRegressor",
}

_BOOSTINGS: Final = frozenset(["gbdt", "gbrt", "dart", "goss", "rf", "random_forest"])
_UNSUPPORTED_OPTIONS: Final = ("linear_tree", "linear_trees", "zero_as_missing", "pred_early_stop")


def _key(estimator: object) -> tuple[str, str]:
    # A subclass may answer differently, so the class itself must be one that is known.
    return type(estimator).__module__.partition(".")[0], type(estimator).__name__


def family_of(estimator: object) -> Family:
    """Return the family of an estimator, fitted or not.

    Raises CompileError, naming the estimator and what to use instead, where it has no faithful
    compiled form.

    >>> from sklearn.linear_model import Ridge
    >>> family_of(Ridge()).name
    'linear'
    """
    key = _key(estimator)
    family = _CLASSIFIERS.get(key) or _REGRESSORS.get(key)
    if family is None:
        known = ", ".join(sorted(name for _, name in [*_CLASSIFIERS, *_REGRESSORS]))
        instead = _INSTEAD.get(key[1], f"one of {known}")
        raise CompileError(f"{key[1]} has no faithful compiled form", fix=f"Use {instead}.")
    if family is _LIGHTGBM:
        _check_lightgbm(estimator)
    elif getattr(estimator, "multi_class", None) == "ovr":
        raise _one_against_rest("multi_class='ovr'")
    return family


def _one_against_rest(how: str) -> CompileError:
    return CompileError(
        f"LogisticRegression with {how} learns each class against the rest, which is not compiled",
        fix="Leave it out: classes are then learned together (multinomial).",
    )


def _check_lightgbm(estimator: Any) -> None:
    name, given = type(estimator).__name__, estimator.get_params()
    objective = given.get("objective")
    if callable(objective) or objective in {"multiclassova", "multiclass_ova", "ova", "ovr"}:
        raise CompileError(
            f"{name}: objective {getattr(objective, '__name__', objective)!r} is not compiled",
            fix="Leave objective out, or name one of LightGBM's, such as 'multiclass'.",
        )
    boosting = given.get("boosting", given.get("boosting_type", "gbdt"))
    if boosting not in _BOOSTINGS:
        raise CompileError(
            f"{name}: boosting {boosting!r} is not compiled",
            fix="Use gbdt, dart, goss or rf.",
        )
    for option in _UNSUPPORTED_OPTIONS:
        if given.get(option):
            raise CompileError(f"{name}: {option}=True is not compiled", fix=f"Leave {option} out.")


def _check_fitted(estimator: Any, family: Family, x: spox.Var) -> None:
    name = type(estimator).__name__
    mark = "booster_" if family is _LIGHTGBM else "n_features_in_"
    try:
        getattr(estimator, mark)
    except (AttributeError, ValueError) as error:  # LightGBM raises a ValueError of its own
        raise CompileError(f"{name} is not fitted", fix="Fit it before compiling.") from error
    width = x.unwrap_tensor().shape
    wanted = int(estimator.n_features_in_)
    if width is not None and isinstance(width[1], int) and width[1] != wanted:
        raise CompileError(f"{name} was fitted on {wanted} columns, and x has {width[1]}")
    outputs = getattr(estimator, "n_outputs_", 1)
    if outputs != 1 or (family is _LINEAR and _targets(estimator) != 1):
        raise CompileError(
            f"{name} was fitted on several targets", fix="Train one estimator for each target."
        )
    if _key(estimator) not in _CLASSIFIERS:
        return
    if len(estimator.classes_) < 2:
        raise CompileError(f"{name} was fitted on one class only", fix="Check the label.")
    if len(estimator.classes_) > 2 and getattr(estimator, "solver", "") == "liblinear":
        raise _one_against_rest("solver='liblinear' and more than two classes")


def _targets(estimator: Any) -> int:
    return 1 if _key(estimator) in _CLASSIFIERS else len(np.atleast_2d(estimator.coef_))


def score_graph(estimator: object, x: spox.Var, *, whole_codes: bool = True) -> spox.Var:
    """Return the scores of a fitted estimator for x [N, D]: probabilities [N, K], or [N, 1].

    x is float32 or float64. Probabilities follow `classes_`. Scores are float64, equal to
    scikit-learn's or LightGBM's on the same x within rounding, and have the same bits in every
    batch. Native categorical columns hold whole codes or NaN; where they may hold anything else,
    `whole_codes=False` treats fractions as the library does. Raises CompileError where the
    estimator has no faithful compiled form or is not fitted.
    """
    family = family_of(estimator)
    _check_fitted(estimator, family, x)
    if family.native_categoricals and not whole_codes:
        x = _without_fractions(estimator, family, x)
    return _SCORES[family.name](estimator, x, classifier=_key(estimator) in _CLASSIFIERS)


_SCORES: Final[dict[Name, Callable[..., spox.Var]]] = {
    "linear": linear_scores,
    "forest": forest_scores,
    "hist_gradient_boosting": hist_gradient_boosting_scores,
    "lightgbm": lightgbm_scores,
}


def _without_fractions(estimator: Any, family: Family, x: spox.Var) -> spox.Var:
    """Return x with every fraction in a column of codes as the library reads it.

    LightGBM cuts it to an integer; scikit-learn does not know it, which is NaN.
    """
    find = codes_of_lightgbm if family is _LIGHTGBM else codes_of_hist_gradient_boosting
    columns = find(estimator)
    if not columns:
        return x
    x = op.cast(x, to=np.float64)
    cut = op.mul(op.sign(x), op.floor(op.abs(x)))
    if family is not _LIGHTGBM:
        cut = op.where(op.equal(cut, x), x, op.const(np.nan))
    chosen = np.zeros((1, int(estimator.n_features_in_)), dtype=np.bool_)
    chosen[0, columns] = True
    return op.where(op.const(chosen), cut, x)
