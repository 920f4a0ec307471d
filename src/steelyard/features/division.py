"""Integer division that cannot end a process.

onnxruntime raises for an integer divided by zero, which would fail a whole batch for one row, and
the processor traps for the smallest integer divided by -1. Where a divisor is not a constant, the
graph is changed to answer as NumPy does: zero for both quotient and remainder by zero, and the
wrapped negation for a quotient by -1.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["guard_divisions"]

_INTEGERS = frozenset(
    [
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    ]
)


def guard_divisions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every unsafe integer Div and Mod guarded."""
    typed = onnx.shape_inference.infer_shapes(model)
    values = [*typed.graph.input, *typed.graph.value_info, *typed.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    safe = {name for name, value in _constants(model.graph) if not np.isin(value, [0, -1]).any()}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for place, node in enumerate(model.graph.node):
        unsafe = (
            node.op_type in ("Div", "Mod")
            and types.get(node.input[1]) in _INTEGERS
            and node.input[1] not in safe
        )
        nodes = _guarded(node, types[node.input[1]], f"guard_{place}_") if unsafe else [node]
        made.graph.node.extend(nodes)
    return made


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], numpy_helper.to_array(attribute.t)


def _guarded(node: onnx.NodeProto, kind: int, prefix: str) -> list[onnx.NodeProto]:
    """Return nodes that compute what one division computes, and NumPy's answer by zero and -1."""
    dividend, divisor = node.input
    dtype = helper.tensor_dtype_to_np_dtype(kind)

    def constant(name: str, value: int) -> onnx.NodeProto:
        # -1 of an unsigned type is its largest value, which divides like any other.
        tensor = numpy_helper.from_array(np.array(value).astype(dtype))
        return helper.make_node("Constant", [], [prefix + name], value=tensor)

    def make(op: str, *inputs: str, to: str) -> onnx.NodeProto:
        names = [name if name in (dividend, divisor) else prefix + name for name in inputs]
        return helper.make_node(op, names, [prefix + to])

    division = onnx.NodeProto()
    division.CopyFrom(node)
    division.input[1] = f"{prefix}safe"
    division.output[0] = f"{prefix}answer"
    by_minus_one = (
        make("Neg", dividend, to="turned")
        if node.op_type == "Div" and np.issubdtype(dtype, np.signedinteger)
        else make("Mul", dividend, "zero", to="turned")
    )
    unsigned = not np.issubdtype(dtype, np.signedinteger)
    return [
        constant("zero", 0),
        constant("one", 1),
        constant("minus_one", 0 if unsigned else -1),
        make("Equal", divisor, "zero", to="by_zero"),
        make("Equal", divisor, "minus_one", to="by_minus_one"),
        make("Or", "by_zero", "by_minus_one", to="odd"),
        make("Where", "odd", "one", divisor, to="safe"),
        division,
        by_minus_one,
        make("Where", "by_minus_one", "turned", "answer", to="settled"),
        helper.make_node(
            "Where", [f"{prefix}by_zero", f"{prefix}zero", f"{prefix}settled"], [node.output[0]]
        ),
    ]
