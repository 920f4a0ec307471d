"""scikit-learn's decision trees and forests, read into a tree table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.tree_table import TreeTable, join, single_tree
from steelyard.bundle.trees import leaf_sums, leaf_vector_sums

__all__ = ["forest_scores", "forest_table"]


def _read(tree: Any, values: npt.NDArray[Any]) -> TreeTable:
    """Return one tree; `values` [nodes, V] are what its leaves hold."""
    left, right = tree.children_left, tree.children_right
    leaf = left < 0
    # Splits and leaves are numbered apart; a child is the number of a split, or ~leaf.
    number = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    split = ~leaf
    return single_tree(
        feature=tree.feature[split],
        threshold=tree.threshold[split],
        true_child=number[left[split]],
        false_child=number[right[split]],
        nan_true=tree.missing_go_to_left[split].astype(np.bool_),
        leaf_value=values[leaf],
    )


def forest_table(estimators: Sequence[Any], columns: Sequence[int]) -> TreeTable:
    """Return the trees of fitted decision trees; of their values, those of `columns`."""
    return join([_read(e.tree_, e.tree_.value[:, 0, columns]) for e in estimators])


def forest_scores(estimator: Any, x: spox.Var, *, classifier: bool) -> spox.Var:
    """Return the mean over trees [N, K] for a fitted forest, or a tree, and x [N, D].

    x is cast to float32, as scikit-learn casts it. All but the first of two probabilities equals
    scikit-learn's answer bit for bit; that one does where leaves are pure, else within rounding.
    """
    trees = list(getattr(estimator, "estimators_", [estimator]))
    x = op.cast(x, to=np.float32)
    count = op.const(float(len(trees)))
    classes = len(estimator.classes_) if classifier else 1
    if classes > 2:
        return op.div(leaf_vector_sums(forest_table(trees, range(classes)), x), count)
    total = leaf_sums(forest_table(trees, [classes - 1]), x)
    if classifier:
        # Pure leaves add up to whole numbers, so that the other class is exact as well.
        both = op.mul(total, op.const(np.array([[-1.0, 1.0]])))
        total = op.add(both, op.const(np.array([[float(len(trees)), 0.0]])))
    return op.div(total, count)
