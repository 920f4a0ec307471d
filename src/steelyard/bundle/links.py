"""From raw scores to probabilities and rates, with the same bits in every batch.

onnxruntime computes exp of float64 in vectors, and what is left over at the end of a tensor by
another routine: for a seventh of all values the last bit depends on where in the batch a row
stands. Here the last dimension of what goes through Exp is a multiple of eight, so that nothing is
ever left over. Additions and divisions are rounded correctly anywhere. Softmax and the sums of
ReduceSum depend on the batch and are not used.
"""

from typing import Final

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op

__all__ = ["LANES", "exponential", "padded", "softmax", "two_classes"]

LANES: Final = 8
"""Doubles in the widest vector of today's processors."""


def padded(columns: int) -> int:
    """Return the least multiple of `LANES` that is not below `columns`.

    >>> padded(3), padded(8)
    (8, 8)
    """
    return -(-columns // LANES) * LANES


def _first(x: spox.Var, columns: int) -> spox.Var:
    return op.slice(x, op.const([0]), op.const([columns]), op.const([1]))


def exponential(raw: spox.Var, scale: float = 1.0) -> spox.Var:
    """Return exp(scale * raw) [N, 1] for raw [N, 1] float64."""
    spread = op.mul(raw, op.const(np.full((1, LANES), scale)))
    return _first(op.exp(spread), 1)


def two_classes(raw: spox.Var, scale: float = 1.0) -> spox.Var:
    """Return [1 - p, p] [N, 2] with p = 1 / (1 + exp(-scale * raw)) for raw [N, 1] float64."""
    bottom = op.add(exponential(raw, -scale), op.const(1.0))
    signed = op.div(op.const(np.array([[-1.0, 1.0]])), bottom)
    return op.add(signed, op.const(np.array([[1.0, 0.0]])))


def softmax(raw: spox.Var, classes: int) -> spox.Var:
    """Return probabilities [N, classes] for raw [N, padded(classes)] float64.

    The columns beyond `classes` are minus infinity.
    """
    high = op.reduce_max(raw, op.const([1]), keepdims=1)
    powers = op.exp(op.sub(raw, high))
    total = op.gather(op.cumsum(powers, op.const(np.int64(1))), op.const([-1]), axis=1)
    return _first(op.div(powers, total), classes)
