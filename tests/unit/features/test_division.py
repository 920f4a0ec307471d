"""Integer division by anything answers as NumPy does, row by row, and never ends the process."""

from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.core.schema import row_fields
from steelyard.features.trace import trace

SMALLEST, LARGEST = -(2**63), 2**63 - 1
EDGES = [SMALLEST, SMALLEST + 1, -7, -1, 0, 1, 2, 7, LARGEST]


class Pair(sy.Row):
    a: int
    b: int


@sy.row_features(Pair)
def divided(xp: Any, c: Any) -> dict[str, Any]:
    return {"quotient": c.a // c.b, "rest": c.a % c.b, "half": c.a // 2, "turned": c.a // -1}


def test_every_pair_of_edges_answers_as_numpy() -> None:
    a, b = (grid.ravel() for grid in np.meshgrid(EDGES, EDGES))
    found = trace(divided, row_fields(Pair)).run({"a": a, "b": b})
    with np.errstate(all="ignore"):
        expected = {"quotient": a // b, "rest": a % b, "half": a // 2, "turned": -a}
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values.astype(np.float64), err_msg=name)


def test_one_bad_row_does_not_fail_its_batch() -> None:
    graph = trace(divided, row_fields(Pair))
    found = graph.run({"a": np.array([9, SMALLEST, 8]), "b": np.array([0, -1, 2])})
    assert found["quotient"][2] == 4


def test_a_constant_divisor_costs_nothing() -> None:
    graph = trace(sy.row_features(Pair)(lambda xp, c: {"x": c.a // 100}), row_fields(Pair))
    assert not any(node.output[0].startswith("guard_") for node in graph.model.graph.node)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_bits_do_not_depend_on_the_batch(n: int) -> None:
    graph = trace(divided, row_fields(Pair))
    a = np.random.default_rng(0).integers(-100, 100, 64)
    whole = graph.run({"a": a, "b": a[::-1].copy()})
    for start in range(64 - n):
        part = graph.run({"a": a[start : start + n], "b": a[::-1][start : start + n].copy()})
        assert part["quotient"].tobytes() == whole["quotient"][start : start + n].tobytes()
