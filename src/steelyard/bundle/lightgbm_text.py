"""LightGBM's models, read from their own text form into a tree table."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.links import exponential, padded, softmax, two_classes
from steelyard.bundle.tree_table import Ints, TreeTable, constant_tree, join, single_tree
from steelyard.bundle.trees import leaf_sums
from steelyard.errors import CompileError

__all__ = ["categorical_columns", "lightgbm_scores"]

# Bits of a node's decision type.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2

_IDENTITY: Final = frozenset(["regression", "regression_l1", "huber", "fair", "quantile", "mape"])
_LOG: Final = frozenset(["poisson", "gamma", "tweedie"])


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _parse(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the fields of the head and of every tree."""
    head, *blocks = text.split("end of trees", 1)[0].split("\nTree=")
    fields = _fields(head)
    if "\naverage_output\n" in head:
        fields["average_output"] = "1"
    return fields, [_fields("Tree=" + block) for block in blocks]


def _integers(fields: Mapping[str, str], name: str) -> Ints:
    return np.array(fields.get(name, "").split(), dtype=np.int64)


def _members(fields: Mapping[str, str], slot: int) -> Ints:
    """Return the codes of one categorical split."""
    start, stop = _integers(fields, "cat_boundaries")[slot : slot + 2]
    words = _integers(fields, "cat_threshold")[start:stop]
    return np.flatnonzero((words[:, None] >> np.arange(32)) & 1)


def _read(fields: Mapping[str, str], target: int) -> TreeTable:
    if fields.get("is_linear", "0") != "0":
        raise CompileError(
            "LightGBM: linear_tree=True is not compiled: its leaves are linear models",
            fix="Train without linear_tree.",
        )
    leaf_value = np.array(fields["leaf_value"].split(), dtype=np.float64)
    if int(fields["num_leaves"]) == 1:
        return constant_tree(float(leaf_value[0]), target)
    threshold = np.array(fields["threshold"].split(), dtype=np.float64)
    decision = _integers(fields, "decision_type")
    missing = decision >> 2
    categorical = (decision & _CATEGORICAL).astype(np.bool_)
    if (missing[~categorical] == _MISSING_ZERO).any():
        raise CompileError(
            "LightGBM: zero_as_missing=True is not compiled",
            fix="Train without zero_as_missing; give missing values as null.",
        )
    # Without a way of its own for NaN a split reads it as zero; a set never holds NaN.
    goes_left = np.where(
        missing == _MISSING_NAN, (decision & _DEFAULT_LEFT).astype(np.bool_), threshold >= 0
    )
    return single_tree(
        feature=_integers(fields, "split_feature"),
        threshold=threshold,
        true_child=_integers(fields, "left_child"),
        false_child=_integers(fields, "right_child"),
        nan_true=goes_left & ~categorical,
        leaf_value=leaf_value,
        members=[
            _members(fields, int(slot)) if is_set else None
            for is_set, slot in zip(categorical, threshold, strict=True)
        ],
        target=target,
    )


def categorical_columns(estimator: Any) -> list[int]:
    """Return the columns that a fitted model splits by sets of codes."""
    _, trees = _parse(estimator.booster_.model_to_string())
    found: set[int] = set()
    for fields in trees:
        sets = (_integers(fields, "decision_type") & _CATEGORICAL).astype(np.bool_)
        found.update(_integers(fields, "split_feature")[sets].tolist())
    return sorted(found)


def lightgbm_scores(estimator: Any, x: spox.Var, *, classifier: bool) -> spox.Var:
    """Return the scores [N, K] of a fitted LightGBM model for x [N, D]; [N, 1] for a regressor.

    Raises CompileError for an objective, a boosting or a kind of tree that is not compiled.
    """
    if estimator.booster_.pandas_categorical:
        raise CompileError(
            "LightGBM: trained on pandas categories, whose codes are not in the model",
            fix="Encode the columns as integer codes and name them in categorical_feature.",
        )
    head, blocks = _parse(estimator.booster_.model_to_string())
    outputs = int(head["num_tree_per_iteration"])
    tables = [_read(fields, i % outputs) for i, fields in enumerate(blocks)]
    if outputs > 1:
        tables += [constant_tree(-np.inf, k) for k in range(outputs, padded(outputs))]
    raw = leaf_sums(join(tables), x)
    if "average_output" in head:
        raw = op.div(raw, op.const(float(len(blocks) // outputs)))
    kind, *options = head.get("objective", "custom").split()
    if classifier and kind == "binary":
        sigmoid = dict(option.split(":") for option in options if ":" in option)
        return two_classes(raw, float(sigmoid.get("sigmoid", 1)))
    if classifier and kind == "multiclass":
        return softmax(raw, len(estimator.classes_))
    if not classifier and kind in _IDENTITY:
        return op.mul(raw, op.abs(raw)) if "sqrt" in options else raw
    if not classifier and kind in _LOG:
        return exponential(raw)
    raise CompileError(
        f"LightGBM: objective {' '.join([kind, *options])!r} is not compiled",
        fix="Use binary or multiclass; for numbers regression, regression_l1, huber, fair, "
        "quantile, mape, poisson, gamma or tweedie.",
    )
