"""scikit-learn's scorers and metrics by name, computed from what a bundle answered.

A scorer asks an estimator; here its function is given `Scores` instead, so that no metric is ever
computed from a fitted Python object.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import sklearn.metrics
from scipy.stats import rankdata
from sklearn.exceptions import UndefinedMetricWarning

from steelyard.errors import DefinitionError, nearest
from steelyard.features.parts import Scores, Task

__all__ = [
    "Metric",
    "Undefined",
    "class_auc",
    "class_codes",
    "evaluate",
    "find_metric",
    "require_metric",
    "standard_metrics",
    "task_of",
]

_SHORT: Final = {
    "brier": "brier_score_loss",
    "mae": "mean_absolute_error",
    "mse": "mean_squared_error",
    "rmse": "root_mean_squared_error",
}
# Their second argument is called y_pred, and is probabilities.
_PROBABILITY_LOSSES: Final = frozenset({"log_loss", "d2_log_loss_score", "d2_brier_score"})
_CLASSIFICATION: Final = ("sklearn.metrics._classification", "sklearn.metrics._ranking")
_SCORER_FUNCTIONS: Final = "sklearn.metrics._scorer"
_REGRESSION: Final = "sklearn.metrics._regression"
_LOWER: Final = ("_loss", "_error", "_deviance", "max_error")
_STANDARD: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": (
        "roc_auc", "average_precision", "log_loss", "brier", "accuracy", "balanced_accuracy",
        "precision", "recall", "f1",
    ),
    "multiclass": (
        "accuracy", "balanced_accuracy", "log_loss", "roc_auc_ovr", "f1_macro", "f1_weighted",
    ),
    "regression": (
        "root_mean_squared_error", "mean_absolute_error", "median_absolute_error", "r2",
    ),
}  # fmt: skip


class Undefined(ValueError):
    """A metric has no value on these rows, as AUC where only one class is present."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its name: the function, what it is given, and which way is better.

    `sign` is -1 for scorers that turn a loss round, as `neg_log_loss` does.
    """

    name: str
    function: Callable[..., Any]
    given: Literal["labels", "scores"]
    sign: int
    options: Mapping[str, Any]
    higher_is_better: bool

    @property
    def for_regression(self) -> bool:
        """Whether it compares numbers rather than classes."""
        return self.function.__module__ == _REGRESSION


def _scorer(name: str) -> Metric:
    scorer = sklearn.metrics.get_scorer(name)
    asked = scorer._response_method
    methods = (asked,) if isinstance(asked, str) else tuple(asked)
    given: Literal["labels", "scores"] = "scores" if "predict_proba" in methods else "labels"
    return Metric(name, scorer._score_func, given, scorer._sign, dict(scorer._kwargs), True)


def _function(name: str) -> Metric | None:
    found = getattr(sklearn.metrics, name, None)
    if not inspect.isfunction(found):
        return None
    if found.__module__ not in (*_CLASSIFICATION, _REGRESSION):
        return None
    names = list(inspect.signature(found).parameters)[:2]
    if (
        names[:1] != ["y_true"]
        or names[1] == "pred_decision"
        or not name.endswith(("_score", "_corrcoef", *_LOWER))
    ):
        return None
    scores = name in _PROBABILITY_LOSSES or names[1] in ("y_score", "y_prob", "y_proba")
    lower = name.endswith(_LOWER)
    return Metric(name, found, "scores" if scores else "labels", 1, {}, not lower)


@cache
def _metrics() -> Mapping[str, Metric]:
    """Return every metric that suits a task; the others compare clusterings or several labels."""
    found: dict[str, Metric] = {}
    for name in (*sklearn.metrics.__all__, *_SHORT):
        if (function := _function(_SHORT.get(name, name))) is not None:
            found[name] = replace(function, name=name)
    found |= {name: _scorer(name) for name in sklearn.metrics.get_scorer_names()}
    return {
        name: metric
        for name, metric in found.items()
        if metric.function.__module__ in (*_CLASSIFICATION, _REGRESSION, _SCORER_FUNCTIONS)
        and any(_misfit(metric, task) is None for task in _STANDARD)
    }


def find_metric(name: str) -> Metric:
    """Return the metric of a scikit-learn scorer or metric function, or of brier, mae, mse, rmse.

    Raises DefinitionError, with the nearest name, where there is none.

    >>> find_metric("roc_auc").higher_is_better, find_metric("log_loss").higher_is_better
    (True, False)
    """
    try:
        return _metrics()[name]
    except KeyError:
        raise DefinitionError(
            f"there is no metric {name!r}.", field="gates", fix=nearest(name, _metrics())
        ) from None


def evaluate(
    name: str,
    label: npt.NDArray[Any],
    scores: Scores,
    weight: npt.NDArray[np.float64] | None = None,
) -> float:
    """Return a metric of N answers against their labels, weighted where the metric can be.

    A binary model's second class is the positive one. Scorers that begin with `neg_` keep their
    sign. Raises Undefined where the metric has no value on these rows, and DefinitionError where
    there is no such metric or it does not suit the task.
    """
    metric = find_metric(name)
    truth, answer, extra = _arguments(metric, label, scores)
    options = {**metric.options, **extra}
    if weight is not None and "sample_weight" in inspect.signature(metric.function).parameters:
        options["sample_weight"] = weight
    with warnings.catch_warnings():
        # Where a class has no rows, the value says it or there is none.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UndefinedMetricWarning)
        warnings.filterwarnings("error", message="No positive class")
        try:
            value = metric.sign * float(metric.function(truth, answer, **options))
        except UserWarning as warning:
            raise Undefined(f"{name} has no value: {warning}") from None
        except (ValueError, TypeError) as error:
            raise _unsuited(metric, scores, error) from error
    if not np.isfinite(value):
        raise Undefined(f"{name} has no finite value on these rows")
    return value


def _unsuited(metric: Metric, scores: Scores, error: Exception) -> Exception:
    task = task_of(scores)
    text = _first_line(error)
    if _misfit(metric, task) is None:
        return Undefined(f"{metric.name} has no value: {text}")
    return _not_for(metric.name, task, text)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def _not_for(name: str, task: Task, text: str) -> DefinitionError:
    return DefinitionError(
        f"the metric {name!r} is not for a {task} model: {text.rstrip('.')}.",
        field="gates",
        fix=f"Use, for example, {', '.join(_STANDARD[task][:4])}.",
    )


def task_of(scores: Scores) -> Task:
    """Return the task that answers belong to."""
    if scores.classes is None:
        return "regression"
    return "binary" if len(scores.classes) == 2 else "multiclass"


def _arguments(
    metric: Metric, label: npt.NDArray[Any], scores: Scores
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
    """Return truth, answer and options as scikit-learn wants them; classes become 0 to K-1."""
    task = task_of(scores)
    if scores.classes is None or scores.probabilities is None:
        if not metric.for_regression:
            raise _not_for(metric.name, task, "it compares classes.")
        return label.astype(np.float64), scores.prediction.astype(np.float64), {}
    if metric.for_regression:
        raise _not_for(metric.name, task, "it compares numbers.")
    truth = class_codes(label, scores.classes)
    if metric.given == "labels":
        return truth, class_codes(scores.prediction, scores.classes), {}
    options: dict[str, Any] = {}
    if "labels" in inspect.signature(metric.function).parameters:
        # A class may have no row here.
        options["labels"] = np.arange(len(scores.classes))
    if task == "binary":
        return truth, scores.probabilities[:, 1], options
    # Metrics want rows that sum to one in the last bits too.
    total = scores.probabilities.sum(axis=1, keepdims=True)
    return truth, scores.probabilities / total, options


def class_codes(label: npt.NDArray[Any], classes: tuple[Any, ...]) -> npt.NDArray[np.int64]:
    """Return the place of each of N labels among the classes.

    >>> class_codes(np.array([True, False]), (False, True))
    array([1, 0])
    """
    place = {value: i for i, value in enumerate(classes)}
    try:
        return np.fromiter(map(place.__getitem__, label.tolist()), np.int64, len(label))
    except KeyError as error:
        raise Undefined(f"the label {error.args[0]!r} is no class of the model") from None


def class_auc(
    values: npt.NDArray[np.float64], told: npt.NDArray[np.int64], classes: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Return for each class the AUC of values [N] that should be high within it; ties count half.

    >>> class_auc(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 1]), [1])
    array([1.])
    """
    ranks = rankdata(values)
    found = np.empty(len(classes))
    for i, one in enumerate(classes):
        inside = told == one
        count = int(inside.sum())
        rest = len(told) - count
        found[i] = (ranks[inside].sum() - count * (count + 1) / 2) / (count * rest)
    return found


def require_metric(name: str, task: Task) -> Metric:
    """Return the metric where it suits the task; else raise DefinitionError that offers others.

    >>> require_metric("f1", "multiclass")
    Traceback (most recent call last):
    ...
    steelyard.errors.DefinitionError: gates: the metric 'f1' is not for a multiclass model: ...
    ...
    """
    metric = find_metric(name)
    reason = _misfit(metric, task)
    if reason is not None:
        raise _not_for(name, task, reason)
    return metric


@cache
def _example(task: Task) -> tuple[npt.NDArray[Any], Scores]:
    if task == "regression":
        answer = np.array([1.5, 2.5, 2.5, 3.5])
        return np.array([1.0, 2.0, 3.0, 4.0]), Scores(answer, None, None)
    size = 2 if task == "binary" else 3
    table = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    table = table[:, :size] / table[:, :size].sum(axis=1, keepdims=True)
    truth = np.array([0, 1, size - 1, 0])
    return truth, Scores(table.argmax(axis=1), table, tuple(range(size)))


def _misfit(metric: Metric, task: Task) -> str | None:
    """Try a metric on four made-up rows; return what is wrong with it."""
    label, scores = _example(task)
    try:
        truth, answer, extra = _arguments(metric, label, scores)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            float(metric.function(truth, answer, **{**metric.options, **extra}))
    except DefinitionError as error:
        return error.message.rpartition(": ")[2]
    except (ValueError, TypeError) as error:
        return _first_line(error)
    return None


def standard_metrics(
    label: npt.NDArray[Any], scores: Scores, weight: npt.NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return the usual metrics of a task by name; those without a value on these rows are left out.

    >>> scores = Scores(np.array([1.0, 2.0]), None, None)
    >>> standard_metrics(np.array([1.0, 4.0]), scores)["mean_absolute_error"]
    1.0
    """
    found: dict[str, float] = {}
    for name in _STANDARD[task_of(scores)]:
        try:
            found[name] = evaluate(name, label, scores, weight)
        except Undefined:
            continue
    return found
