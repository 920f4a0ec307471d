"""The two graphs of a bundle: `model.onnx`, an input a column, and `packed.onnx`, made for speed.

Both are built here from one recipe by the same functions; they differ only in where columns come
from and in that the canonical one also says the label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.packing import Packing
from steelyard.bundle.preparation import Preparation, encode_strings, prepare
from steelyard.core.fields import MAX_EXACT_INT, FieldSpec
from steelyard.features.parts import Task
from steelyard.features.trace import FeatureGraph, graph_input

__all__ = ["Recipe", "canonical_graph", "feature_names", "packed_graph", "prepared_graph"]

ColumnVars = Mapping[str, spox.Var]


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that determines a bundle's graphs.

    `score` maps the prepared matrix to scores [N, K] float64 (probabilities in the order of
    `classes`; [N, 1] for regression). Where `preparation` is None, the user's own pipeline prepares,
    and `score_columns` maps the features' columns to scores instead.
    """

    fields: tuple[FieldSpec, ...]
    features: FeatureGraph | None
    task: Task
    classes: tuple[str | int | bool, ...] | None
    threshold: float
    preparation: Preparation | None = None
    dtype: type[np.floating[Any]] = np.float64
    score: Callable[[spox.Var], spox.Var] | None = None
    score_columns: Callable[[ColumnVars], spox.Var] | None = None


def feature_names(
    fields: Sequence[FieldSpec], features: FeatureGraph | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of raw columns that are features, and of row features, in matrix order.

    A row feature replaces a raw column of its name; dates are not features by themselves.
    """
    made = features.outputs if features else ()
    raw = tuple(f.name for f in fields if not f.temporal and f.name not in made)
    return raw, made


def _as_float(var: spox.Var) -> spox.Var:
    return op.cast(var, to=np.float64)


def _column(var: spox.Var) -> spox.Var:
    return op.unsqueeze(var, op.const([1]))


def _coded(name: str, var: spox.Var, learned: Preparation) -> spox.Var:
    """Return a feature [N] as a column [N, 1] of the matrix before preparation."""
    if name in learned.encodings:
        return _column(encode_strings(var, learned.encodings[name], learned.unseen(name)))
    return _column(_as_float(var))


def _scores(recipe: Recipe, matrix: spox.Var) -> spox.Var:
    if recipe.preparation is None or recipe.score is None:
        raise TypeError("a recipe without preparation scores columns")
    return recipe.score(prepare(matrix, recipe.preparation, recipe.dtype))


def _canonical_matrix(recipe: Recipe, columns: ColumnVars, learned: Preparation) -> spox.Var:
    raw, made = feature_names(recipe.fields, recipe.features)
    computed = recipe.features.inline(columns) if recipe.features else {}
    found = {name: columns[name] for name in raw} | computed
    return op.concat([_coded(name, found[name], learned) for name in (*raw, *made)], axis=1)


def _label(recipe: Recipe, scores: spox.Var) -> spox.Var:
    """Return the prediction [N]: the label decided from probabilities, or the number."""
    if recipe.classes is None:
        return op.squeeze(scores, op.const([1]))
    if recipe.task == "binary":
        positive = op.gather(scores, op.const(np.int64(1)), axis=1)
        above = op.greater_or_equal(positive, op.const(recipe.threshold))
        index = op.cast(above, to=np.int64)
    else:
        index = op.arg_max(scores, axis=1, keepdims=0)
    kind = np.str_ if isinstance(recipe.classes[0], str) else None
    return op.gather(op.const(np.array(recipe.classes, dtype=kind)), index)


def canonical_graph(recipe: Recipe) -> onnx.ModelProto:
    """Build `model.onnx`: one named input [N] a column; `prediction`, then `probabilities`."""
    inputs = {field.name: graph_input(field) for field in recipe.fields}
    if recipe.preparation is not None:
        scores = _scores(recipe, _canonical_matrix(recipe, inputs, recipe.preparation))
    else:
        scores = _score_pipeline(recipe, inputs)
    outputs = {"prediction": _label(recipe, scores)}
    if recipe.classes is not None:
        outputs["probabilities"] = scores
    taken = set(inputs) & set(outputs)
    prefix = {name: f"column_{name}" if name in taken else name for name in inputs}
    return spox.build({prefix[name]: var for name, var in inputs.items()}, outputs)


def _score_pipeline(recipe: Recipe, columns: ColumnVars) -> spox.Var:
    if recipe.score_columns is None:
        raise TypeError("a recipe scores a matrix or columns")
    raw, made = feature_names(recipe.fields, recipe.features)
    computed = recipe.features.inline(columns) if recipe.features else {}
    found = {name: columns[name] for name in raw} | {name: computed[name] for name in made}
    return recipe.score_columns(found)


def prepared_graph(recipe: Recipe) -> onnx.ModelProto:
    """Build the graph from features [N] to the matrix that the estimator is trained on.

    Its inputs are the features' columns: float64, or strings.
    """
    learned = recipe.preparation
    if learned is None:
        raise TypeError("a recipe without preparation prepares nothing")
    inputs = {
        name: spox.argument(
            spox.Tensor(np.str_ if name in learned.encodings else np.float64, ("N",))
        )
        for name in learned.columns
    }
    matrix = op.concat([_coded(name, var, learned) for name, var in inputs.items()], axis=1)
    named = {f"feature_{name}": var for name, var in inputs.items()}
    return spox.build(named, {"matrix": prepare(matrix, learned, recipe.dtype)})


def _fits_float(field: FieldSpec) -> bool:
    """Whether every value of a field is exact in float64."""
    if field.kind == "datetime":
        return False
    if field.kind != "int" or field.optional:
        return True
    if field.choices is not None:
        return all(abs(int(choice)) <= MAX_EXACT_INT for choice in field.choices)
    low = max((b for b in (field.ge, field.gt) if b is not None), default=None)
    high = min((b for b in (field.le, field.lt) if b is not None), default=None)
    return low is not None and high is not None and max(abs(low), abs(high)) <= MAX_EXACT_INT


def _packing(recipe: Recipe) -> Packing:
    learned = recipe.preparation
    raw, _ = feature_names(recipe.fields, recipe.features)
    touched = set(recipe.features.inputs) if recipe.features else set()
    block = raw
    if learned is None:
        block, touched = (), touched | set(raw)
    coded = [name for name in block if learned and name in learned.encodings]
    read = [field for field in recipe.fields if field.name in touched]
    numbers = [f for f in read if f.kind != "str" and f.name not in block and _fits_float(f)]
    integers = [f for f in read if f.kind != "str" and not _fits_float(f)]
    return Packing(
        numbers=(*block, *(field.name for field in numbers)),
        integers=tuple(field.name for field in integers),
        strings=tuple(field.name for field in read if field.kind == "str"),
        codes={name: learned.encodings[name].codes() for name in coded} if learned else {},
        unseen={name: _finite(learned.unseen(name)) for name in coded} if learned else {},
    )


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value


def _unpacked(recipe: Recipe, packing: Packing, packed: ColumnVars) -> dict[str, spox.Var]:
    """Return the columns [N] that row features (or a user's pipeline) read, as they expect them."""
    columns = {}
    for field in recipe.fields:
        name = field.name
        if name in packing.strings:
            source, index = packed["strings"], packing.strings.index(name)
        elif name in packing.integers:
            source, index = packed["integers"], packing.integers.index(name)
        elif name in packing.numbers:
            source, index = packed["numbers"], packing.numbers.index(name)
        else:
            continue
        column = op.gather(source, op.const(np.int64(index)), axis=1)
        if source is packed.get("numbers") and not field.optional:
            kinds = {"int": np.int64, "bool": np.bool_, "date": np.int64}
            column = op.cast(column, to=kinds.get(field.kind, np.float64))
        elif source is packed.get("numbers") and field.kind == "date":
            column = op.cast(column, to=np.int64)
        columns[name] = column
    return columns


def packed_graph(recipe: Recipe) -> tuple[onnx.ModelProto, Packing]:
    """Build `packed.onnx`: inputs `numbers`, `integers`, `strings` as needed; output `scores`."""
    packing = _packing(recipe)
    kinds: dict[str, type[np.generic]] = {
        "numbers": np.float64,
        "integers": np.int64,
        "strings": np.str_,
    }
    packed = {
        name: spox.argument(spox.Tensor(kind, ("N", len(getattr(packing, name)))))
        for name, kind in kinds.items()
        if getattr(packing, name)
    }
    columns = _unpacked(recipe, packing, packed)
    if recipe.preparation is None:
        scores = _score_pipeline(recipe, columns)
    else:
        scores = _scores(recipe, _packed_matrix(recipe, packing, packed, columns))
    return spox.build(packed, {"scores": scores}), packing


def _packed_matrix(
    recipe: Recipe, packing: Packing, packed: ColumnVars, columns: ColumnVars
) -> spox.Var:
    learned = recipe.preparation
    if learned is None:
        raise TypeError("a recipe without preparation has no matrix")
    raw, made = feature_names(recipe.fields, recipe.features)
    pieces = []
    if raw:
        numbers = packed["numbers"]
        whole = len(packing.numbers) == len(raw)
        pieces.append(
            numbers
            if whole
            else op.slice(numbers, op.const([0]), op.const([len(raw)]), op.const([1]))
        )
    if recipe.features:
        computed = recipe.features.inline(columns)
        pieces += [_coded(name, computed[name], learned) for name in made]
    return op.concat(pieces, axis=1) if len(pieces) > 1 else pieces[0]
