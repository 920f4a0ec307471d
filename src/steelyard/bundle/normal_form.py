"""One form for one graph: the bytes do not depend on the process that built it.

A builder may walk sets, whose order changes with the process. Here nodes are put in the order in
which the outputs need them, and inner values are named by that order.
"""

import onnx

__all__ = ["normal_form"]


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with nodes ordered and inner values named by their use."""
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    names = {found.name: found.name for found in [*graph.input, *graph.output, *graph.initializer]}
    ordered: list[onnx.NodeProto] = []
    visited: set[int] = set()
    # Depth first without recursion, since a deep graph would exhaust the stack.
    pending = [(made_by[o.name], False) for o in reversed(graph.output) if o.name in made_by]
    while pending:
        node, inputs_done = pending.pop()
        if inputs_done:
            ordered.append(node)
        elif id(node) not in visited:
            visited.add(id(node))
            pending.append((node, True))
            pending += [(made_by[n], False) for n in reversed(node.input) if n in made_by]
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    del made.graph.value_info[:]
    for place, node in enumerate(ordered):
        added = made.graph.node.add()
        added.CopyFrom(node)
        added.name = f"{node.op_type}_{place}"
        for i, name in enumerate(node.output):
            if name:
                names.setdefault(name, f"v{place}_{i}")
                added.output[i] = names[name]
        for i, name in enumerate(node.input):
            if name:
                added.input[i] = names[name]
    imports = sorted(model.opset_import, key=lambda found: found.domain)
    del made.opset_import[:]
    made.opset_import.extend(imports)
    return made
