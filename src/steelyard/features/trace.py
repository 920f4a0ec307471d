"""Row features traced once into an ONNX graph; training and serving both run that graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import ndonnx as ndx
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import spox
import spox.opset.ai.onnx.v21 as op
from ndonnx.extensions import get_data, get_mask, is_nullable_dtype

from steelyard.core.definition import RowFeatures
from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.errors import DefinitionError, SteelyardError
from steelyard.features.columns import dtype_of
from steelyard.features.division import guard_divisions
from steelyard.features.namespace import Columns, Namespace
from steelyard.features.parts import Columns as ColumnArrays

__all__ = ["FeatureGraph", "graph_input", "trace"]

_NUMBERS: Final = (
    ndx.bool, ndx.int8, ndx.int16, ndx.int32, ndx.int64, ndx.uint8, ndx.uint16, ndx.uint32,
    ndx.float32, ndx.float64,
)  # fmt: skip
_CHUNK: Final = 65_536
_LANES: Final = 8
# Vectorised kernels of these may differ in the last bit with a value's place in the batch (full
# register or tail) and, for sine and cosine, with the values in the same register.
_PLACE_DEPENDENT: Final = frozenset(
    [
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Cos",
        "Cosh",
        "Exp",
        "Log",
        "Pow",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softplus",
        "Tan",
        "Tanh",
    ]
)
_IN: Final = "in_"
_OUT: Final = "out_"


def graph_input(field: FieldSpec) -> spox.Var:
    """Return a graph input [N] of a field's column representation."""
    dtype = dtype_of(field)
    return spox.argument(spox.Tensor(np.str_ if dtype.hasobject else dtype, ("N",)))


@dataclass(frozen=True, eq=False)
class FeatureGraph:
    """A traced function: `model` maps the columns in `inputs` to `numeric` and `categorical`.

    Numeric features are float64 (null NaN), categorical ones strings (null `NULL_STRING`). `uses`
    tells for each feature which columns it was computed from.
    """

    model: onnx.ModelProto
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The features' names, in the order of the graph's outputs."""
        return tuple(output.name.removeprefix(_OUT) for output in self.model.graph.output)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that at least one feature is computed from."""
        return tuple(found.name.removeprefix(_IN) for found in self.model.graph.input)

    @cached_property
    def uses(self) -> Mapping[str, frozenset[str]]:
        """The columns that each feature is computed from."""
        sources = {f"{_IN}{name}": frozenset([name]) for name in self.inputs}
        for node in self.model.graph.node:
            found = frozenset[str]().union(*(sources.get(n, frozenset()) for n in node.input))
            sources.update(dict.fromkeys(node.output, found))
        return {name: sources[f"{_OUT}{name}"] for name in self.outputs}

    def inline(self, columns: Mapping[str, spox.Var]) -> dict[str, spox.Var]:
        """Put the features into a graph that has the columns; return them by name."""
        found = spox.inline(self.model)(**{f"{_IN}{name}": columns[name] for name in self.inputs})
        return {name.removeprefix(_OUT): var for name, var in found.items()}

    def run(self, columns: ColumnArrays) -> dict[str, npt.NDArray[Any]]:
        """Compute the features of N rows [N] each, with the graph that serves."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        rows = len(next(iter(columns.values())))
        parts = []
        for start in range(0, max(rows, 1), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            parts.append(
                session.run(None, {f"{_IN}{name}": columns[name][chunk] for name in self.inputs})
            )
        return {
            name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self.outputs)
        }


def _to_array(field: FieldSpec, var: spox.Var) -> ndx.Array:
    array = ndx.asarray(var)
    if not field.temporal:
        return array
    if field.kind == "datetime":
        return ndx.astype(array, ndx.DateTime64DType("us"))
    # Days to microseconds, with the null value kept, so that both kinds of time behave alike.
    null = array == -(2**63)
    scaled = ndx.where(null, array, array * 86_400_000_000)
    return ndx.astype(scaled, ndx.DateTime64DType("us"))


def _to_output(name: str, value: Any) -> tuple[ndx.Array, bool]:
    """Return a feature as float64 or strings, and whether it is a category."""
    if not isinstance(value, ndx.Array):
        raise DefinitionError(
            f"the feature {name!r} is {value!r}, no array over the rows.",
            field="features",
            fix="Compute it from the columns; a constant carries no information.",
        )
    mask = get_mask(value) if is_nullable_dtype(value.dtype) else None
    data = get_data(value) if is_nullable_dtype(value.dtype) else value
    if data.dtype == ndx.utf8:
        return (data if mask is None else ndx.where(mask, ndx.asarray(NULL_STRING), data)), True
    if data.dtype not in _NUMBERS:
        raise DefinitionError(
            f"the feature {name!r} is {data.dtype}; a feature is a number, a boolean or a string.",
            field="features",
            fix="For times use xp.hour, xp.day_of_week, xp.days_between, ...",
        )
    number = ndx.astype(data, ndx.float64)
    if mask is not None:
        number = ndx.where(mask, ndx.asarray(float("nan")), number)
    return number, False


def _call(features: RowFeatures[Any], columns: Columns) -> dict[str, Any]:
    try:
        found: Any = features.function(Namespace(), columns)
    except SteelyardError:
        raise
    except Exception as error:  # user code: whatever it raises is reported with its own words
        raise DefinitionError(
            f"{features.function.__name__} could not be traced: {type(error).__name__}: {error}",
            field="features",
            fix="Use element-wise array functions of xp on the columns; no if, for or float() on "
            "values.",
        ) from error
    if not isinstance(found, dict) or not found:
        raise DefinitionError(
            f"{features.function.__name__} must return a dict of features; got {found!r:.80}.",
            field="features",
            fix='End it with return {"name": array}.',
        )
    return found


def trace(features: RowFeatures[Any], fields: Sequence[FieldSpec]) -> FeatureGraph:
    """Trace a row-feature function over the fields' columns.

    Raises DefinitionError where the function is not element-wise array code or returns something
    that is no feature.
    """
    graph = _trace(features, fields, lanes=1)
    if any(node.op_type in _PLACE_DEPENDENT for node in graph.model.graph.node):
        graph = _trace(features, fields, lanes=_LANES)
    for name, columns in graph.uses.items():
        if not columns:
            raise DefinitionError(
                f"the feature {name!r} uses no column and is the same for every row.",
                field="features",
                fix="Compute it from the columns, or remove it.",
            )
    return graph


def _trace(features: RowFeatures[Any], fields: Sequence[FieldSpec], lanes: int) -> FeatureGraph:
    inputs = {field.name: graph_input(field) for field in fields}
    spread = {name: _spread(var, lanes) for name, var in inputs.items()}
    arrays = Columns({f.name: _to_array(f, spread[f.name]) for f in fields})
    numeric: list[str] = []
    categorical: list[str] = []
    outputs: dict[str, spox.Var] = {}
    for name, value in _call(features, arrays).items():
        array, is_category = _to_output(name, value)
        if array.ndim != 1:
            raise DefinitionError(
                f"the feature {name!r} has {array.ndim} dimensions; a feature is one value a row.",
                field="features",
                fix="Return one array a name.",
            )
        (categorical if is_category else numeric).append(name)
        outputs[name] = _gather(array.unwrap_spox(), lanes)
    # A feature may replace a column of the same name, but a graph's values have one name each.
    model = spox.build(
        {f"{_IN}{name}": var for name, var in inputs.items()},
        {f"{_OUT}{name}": var for name, var in outputs.items()},
        drop_unused_inputs=True,
    )
    return FeatureGraph(guard_divisions(model), tuple(numeric), tuple(categorical))


def _spread(var: spox.Var, lanes: int) -> spox.Var:
    """Give every row a register of its own: repeat each of N values `lanes` times in place."""
    if lanes == 1:
        return var
    column = op.unsqueeze(var, op.const([1]))
    return op.reshape(op.expand(column, op.const([1, lanes])), op.const([-1]))


def _gather(var: spox.Var, lanes: int) -> spox.Var:
    if lanes == 1:
        return var
    table = op.reshape(var, op.const([-1, lanes]))
    return op.reshape(op.slice(table, op.const([0]), op.const([1]), op.const([1])), op.const([-1]))
