"""The bytes of a graph do not depend on the order in which its nodes were listed."""

import random

import numpy as np
import onnx
import onnxruntime
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.normal_form import normal_form


def graph() -> onnx.ModelProto:
    x = spox.argument(spox.Tensor(np.float64, ("N",)))
    doubled = op.mul(x, op.const(2.0))
    shifted = op.add(doubled, op.const(1.0))
    return spox.build({"x": x}, {"y": op.sub(shifted, op.neg(doubled)), "z": shifted})


def test_shuffled_nodes_and_names_give_the_same_bytes_and_answers() -> None:
    expected = normal_form(graph()).SerializeToString(deterministic=True)
    for seed in range(5):
        shuffled = graph()
        nodes = list(shuffled.graph.node)
        random.Random(seed).shuffle(nodes)
        names = {n: f"{seed}_{n}" for node in nodes for n in node.output if n not in ("y", "z")}
        del shuffled.graph.node[:]
        for node in nodes:
            node.output[:] = [names.get(n, n) for n in node.output]
            node.input[:] = [names.get(n, n) for n in node.input]
            shuffled.graph.node.append(node)
        assert normal_form(shuffled).SerializeToString(deterministic=True) == expected
    session = onnxruntime.InferenceSession(expected)
    y, z = session.run(None, {"x": np.array([3.0])})
    assert (y.tolist(), z.tolist()) == ([13.0], [7.0])
