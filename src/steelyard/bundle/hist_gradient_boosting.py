"""scikit-learn's histogram gradient boosting, read into a tree table."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import spox

from steelyard.bundle.links import exponential, padded, softmax, two_classes
from steelyard.bundle.tree_table import Ints, TreeTable, constant_tree, join, single_tree
from steelyard.bundle.trees import leaf_sums
from steelyard.errors import CompileError

__all__ = ["categorical_columns", "hist_gradient_boosting_scores"]

_INT32_MAX: Final = 2**31 - 1


def categorical_columns(estimator: Any) -> list[int]:
    """Return the columns that a fitted estimator takes as categories."""
    chosen = estimator.is_categorical_
    return [] if chosen is None else np.flatnonzero(chosen).tolist()


def _categories(estimator: Any) -> list[Ints]:
    """Return the codes of each categorical column, in the order of its bits."""
    if not categorical_columns(estimator):
        return []
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    found = []
    for column, values in zip(categorical_columns(estimator), encoder.categories_, strict=True):
        codes = np.asarray(values, dtype=np.float64) if values.dtype.kind in "fiub" else None
        if codes is not None:
            codes = codes[~np.isnan(codes)]
        if codes is None or (codes != np.trunc(codes)).any() or (abs(codes) > _INT32_MAX).any():
            raise CompileError(
                f"{type(estimator).__name__}: column {column} holds categories that are not "
                f"integers, such as {values[0]!r}",
                fix="Encode the column as integer codes (OrdinalEncoder) before the estimator.",
            )
        found.append(codes.astype(np.int64))
    return found


def _bits(words: npt.NDArray[np.uint32]) -> Ints:
    """Return which bits are set."""
    return np.flatnonzero((words[:, None] >> np.arange(32, dtype=np.uint32)) & 1)


def _read(predictor: Any, origin: Ints, categories: list[Ints], target: int) -> TreeTable:
    """Return one tree; `origin` is the column of x for each feature of the nodes."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(np.bool_)
    number = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    splits = nodes[~leaf]
    left, right = number[splits["left"]], number[splits["right"]]
    nan_left = splits["missing_go_to_left"].astype(np.bool_)
    nan_true, swapped = nan_left.copy(), np.zeros(len(splits), dtype=np.bool_)
    members: list[Ints | None] = [None] * len(splits)
    for i in np.flatnonzero(splits["is_categorical"]):
        known = categories[splits["feature_idx"][i]]
        going_left = _bits(predictor.raw_left_cat_bitsets[splits["bitset_idx"][i]])
        # Unknown codes go where NaN goes, so the set names the other side.
        swapped[i], nan_true[i] = nan_left[i], False
        going_right = np.setdiff1d(np.arange(len(known)), going_left)
        members[i] = known[going_right if nan_left[i] else going_left]
    return single_tree(
        feature=origin[splits["feature_idx"]],
        threshold=splits["num_threshold"],
        true_child=np.where(swapped, right, left),
        false_child=np.where(swapped, left, right),
        nan_true=nan_true,
        leaf_value=nodes["value"][leaf],
        members=members,
        target=target,
    )


def _table(estimator: Any) -> TreeTable:
    chosen = categorical_columns(estimator)
    others = np.setdiff1d(np.arange(estimator.n_features_in_), chosen)
    # Fitting puts the categorical columns first.
    origin = np.concatenate([np.array(chosen, dtype=np.int64), others])
    categories = _categories(estimator)
    baseline = np.ravel(estimator._baseline_prediction)
    tables = [constant_tree(float(value), k) for k, value in enumerate(baseline)]
    for iteration in estimator._predictors:
        tables += [_read(p, origin, categories, k) for k, p in enumerate(iteration)]
    outputs = len(baseline)
    if outputs > 1:
        spare = range(outputs, padded(outputs))
        tables += [constant_tree(-np.inf, k) for k in spare]
    return join(tables)


def hist_gradient_boosting_scores(estimator: Any, x: spox.Var, *, classifier: bool) -> spox.Var:
    """Return the scores [N, K] of a fitted estimator for x [N, D]; [N, 1] for a regressor.

    Raises CompileError for a loss whose link has no compiled form, and for categories that are not
    integers.
    """
    raw = leaf_sums(_table(estimator), x)
    link = type(estimator._loss.link).__name__
    if classifier and link == "LogitLink":
        return two_classes(raw)
    if classifier and link == "MultinomialLogit":
        return softmax(raw, len(estimator.classes_))
    if not classifier and link == "IdentityLink":
        return raw
    if not classifier and link == "LogLink":
        return exponential(raw)
    raise CompileError(
        f"{type(estimator).__name__}: loss {estimator.loss!r} has the link {link}, which is not "
        "compiled",
        fix="Use log_loss, squared_error, absolute_error, quantile, poisson or gamma.",
    )
