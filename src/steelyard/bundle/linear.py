"""Linear models as ONNX, in float64 and with the same bits in every batch."""

from typing import Any

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.links import padded, softmax, two_classes
from steelyard.bundle.tree_table import Floats

__all__ = ["linear_scores"]


def linear_scores(estimator: Any, x: spox.Var, *, classifier: bool) -> spox.Var:
    """Return the scores [N, K] of a fitted linear model for x [N, D]; [N, 1] for a regressor."""
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    intercept = np.broadcast_to(
        np.asarray(estimator.intercept_, dtype=np.float64), len(coefficients)
    )
    if not classifier:
        return _affine(x, coefficients, intercept)
    classes = len(estimator.classes_)
    if classes == 2:
        return two_classes(_affine(x, coefficients, intercept))
    extra = padded(classes) - classes
    coefficients = np.pad(coefficients, ((0, extra), (0, 0)))
    intercept = np.pad(intercept, (0, extra), constant_values=-np.inf)
    return softmax(_affine(x, coefficients, intercept), classes)


def _affine(x: spox.Var, coefficients: Floats, intercept: Floats) -> spox.Var:
    # A product of one row for each row: the whole batch as one matrix may be cut into blocks, and
    # then the order of additions depends on the batch.
    rows = op.unsqueeze(op.cast(x, to=np.float64), op.const([1]))
    weights = np.ascontiguousarray(coefficients.T)[None]
    product = op.squeeze(op.matmul(rows, op.const(weights)), op.const([1]))
    return op.add(product, op.const(intercept[None]))
