"""Trees as flat arrays: what every reader of a fitted ensemble fills and the exporter reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["TreeTable", "constant_tree", "join", "single_tree"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TreeTable:
    """T trees with M splits and L leaves in all.

    A child (and a root) is the number of a split, or `~leaf`. A row takes `true_child` where
    `x[feature] <= threshold`; where `member_count` is not negative, where `x[feature]` is one of
    the split's members instead; and where `x[feature]` is NaN and `nan_true`. The members of all
    splits stand in `members` in the order of splits. The leaves of tree t are those from
    `leaf_start[t]` to `leaf_start[t + 1]`; each holds V values. In a sum over trees, tree t adds to
    the target `target[t]`.
    """

    feature: Ints
    threshold: Floats
    member_count: Ints
    members: Ints
    nan_true: Bools
    true_child: Ints
    false_child: Ints
    root: Ints
    leaf_start: Ints
    leaf_value: Floats
    target: Ints

    @property
    def trees(self) -> int:
        """The number of trees."""
        return len(self.root)

    @property
    def features(self) -> int:
        """The number of columns that x has at least."""
        return int(self.feature.max(initial=-1)) + 1


def single_tree(
    *,
    feature: Ints,
    threshold: Floats,
    true_child: Ints,
    false_child: Ints,
    nan_true: Bools,
    leaf_value: Floats,
    members: Sequence[Ints | None] = (),
    target: int = 0,
) -> TreeTable:
    """Return a table of one tree, whose root is its first split, or its leaf where it has no split.

    `members` names each split's codes, or None for a threshold; empty where all are thresholds.
    """
    splits = len(feature)
    sets = list(members) or [None] * splits
    found = [codes for codes in sets if codes is not None]
    return TreeTable(
        feature=feature.astype(np.int64),
        threshold=threshold.astype(np.float64),
        member_count=np.array([-1 if c is None else len(c) for c in sets], dtype=np.int64),
        members=np.concatenate([np.zeros(0, dtype=np.int64), *found]).astype(np.int64),
        nan_true=nan_true.astype(np.bool_),
        true_child=true_child.astype(np.int64),
        false_child=false_child.astype(np.int64),
        root=np.array([0 if splits else ~0], dtype=np.int64),
        leaf_start=np.array([0, len(leaf_value)], dtype=np.int64),
        leaf_value=leaf_value.astype(np.float64).reshape(len(leaf_value), -1),
        target=np.array([target], dtype=np.int64),
    )


def constant_tree(value: float, target: int = 0) -> TreeTable:
    """Return a tree that is only a leaf."""
    none = np.zeros(0, dtype=np.int64)
    return single_tree(
        feature=none,
        threshold=none.astype(np.float64),
        true_child=none,
        false_child=none,
        nan_true=none.astype(np.bool_),
        leaf_value=np.array([value]),
        target=target,
    )


def join(tables: Sequence[TreeTable]) -> TreeTable:
    """Return one table of all trees, in order.

    >>> join([constant_tree(0.5), constant_tree(2.0)]).leaf_value.ravel()
    array([0.5, 2. ])
    """
    splits = np.cumsum([0] + [len(t.feature) for t in tables])
    leaves = np.cumsum([0] + [len(t.leaf_value) for t in tables])

    def moved(children: Ints, i: int) -> Ints:
        found: Ints = children + np.where(children >= 0, splits[i], -leaves[i])
        return found

    counted = list(enumerate(tables))
    return TreeTable(
        feature=np.concatenate([t.feature for t in tables]),
        threshold=np.concatenate([t.threshold for t in tables]),
        member_count=np.concatenate([t.member_count for t in tables]),
        members=np.concatenate([t.members for t in tables]),
        nan_true=np.concatenate([t.nan_true for t in tables]),
        true_child=np.concatenate([moved(t.true_child, i) for i, t in counted]),
        false_child=np.concatenate([moved(t.false_child, i) for i, t in counted]),
        root=np.concatenate([moved(t.root, i) for i, t in counted]),
        leaf_start=np.concatenate(
            [leaves[:1], *(t.leaf_start[1:] + leaves[i] for i, t in counted)]
        ),
        leaf_value=np.concatenate([t.leaf_value for t in tables]),
        target=np.concatenate([t.target for t in tables]),
    )
