"""`Model`: one definition from which training, serving and monitoring follow."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from steelyard.core.fallbacks import Constant, Fallback, PreviousChampion, Rule
from steelyard.core.fields import FieldSpec, row_json_schema
from steelyard.core.gates import GateSetting
from steelyard.core.guards import Guards
from steelyard.core.reference import check_name
from steelyard.core.schema import Row, row_fields
from steelyard.core.sources import Csv, Parquet, Python, Source, Sql
from steelyard.core.splits import ColumnSplit, GroupSplit, Split, Stratified, TimeSplit
from steelyard.errors import DefinitionError, UsageError, nearest

__all__ = ["Model", "RowFeatures", "param", "params_set", "row_features"]

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class RowFeatures(Generic[R]):
    """An array-API function over the columns of one row type, not yet traced."""

    row: type[R]
    function: Callable[[Any, Any], Mapping[str, Any]]


def row_features(
    row: type[R],
) -> Callable[[Callable[[Any, Any], Mapping[str, Any]]], RowFeatures[R]]:
    """Mark `f(xp, columns) -> {name: array}` as the row features of `row`.

    The function is traced once into the graph that serves; it runs nowhere else. What it returns
    is added to the row's own columns; the same name replaces.
    """

    def mark(function: Callable[[Any, Any], Mapping[str, Any]]) -> RowFeatures[R]:
        if len(inspect.signature(function).parameters) != 2:
            raise DefinitionError(
                f"{function.__name__} must take two arguments, the array namespace and the columns.",
                field="features",
                fix=f"Write def {function.__name__}(xp, c): return {{...}}",
            )
        return RowFeatures(row, function)

    return mark


class _Params:
    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = dict(given)
        self.values: dict[str, Any] = {}


_params: ContextVar[_Params | None] = ContextVar("_params", default=None)


def _convert(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (ValueError, KeyError):
        pass
    raise UsageError(
        f"--set {name}: expected a value like {default!r}, got {text!r}.",
        fix=f"Write --set {name}={default}",
    )


def param(name: str, default: Any) -> Any:
    """Return the value given by `--set name=value`, read as the default's type, else the default.

    >>> param("max_depth", 5)
    5
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise DefinitionError(f"a parameter's name is a word; got {name!r}.", field="param")
    if type(default) not in (int, float, str, bool):
        raise DefinitionError(
            f"the default of {name} must be a number, a string or a boolean; got {default!r}.",
            field=name,
        )
    active = _params.get()
    if active is None:
        return default
    value = _convert(name, active.given[name], default) if name in active.given else default
    active.values[name] = value
    return value


@contextmanager
def params_set(given: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Let `param` answer from `given` inside the block; yields all parameters with their values.

    Raises UsageError at the end for a given name that no `param` asked for.
    """
    active = _Params(given)
    token = _params.set(active)
    try:
        yield active.values
    finally:
        _params.reset(token)
    for name in given:
        if name not in active.values:
            raise UsageError(
                f"--set {name}: the definition has no such parameter.",
                fix=nearest(name, active.values),
            )


@dataclass(kw_only=True, eq=False)
class Model:
    """One model: its row, data, label, estimator, split and gates.

    `label` is a column of the table and not of the row. `positive` is the label's value that a
    binary model predicts the probability of. `key` names what a row is about (for splits,
    outcomes and lineage), `weight` a column of sample weights. `threshold` is the probability from
    which a binary model answers `positive`. `available_after` maps columns to what must have
    happened before they are known.
    """

    name: str
    row: type[Row]
    data: Source
    label: str
    estimator: Any
    split: Split = field(default_factory=Stratified)
    features: RowFeatures[Any] | None = None
    positive: str | int | bool | None = None
    key: str | None = None
    weight: str | None = None
    threshold: float = 0.5
    available_after: Mapping[str, str] = field(default_factory=dict)
    gates: Sequence[GateSetting] = ()
    fallback: Fallback | None = None
    guards: Guards = field(default_factory=Guards)
    metric: str | None = None
    max_categories: int = 255
    allow_unknown_fields: bool = False
    seed: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        self.fields: tuple[FieldSpec, ...] = ()
        self.folder = Path.cwd()
        self.file_name = ""
        self.variable = ""
        self.source_text = ""
        self.params: dict[str, Any] = {}
        self.modules: dict[str, str] = {}
        _check(self)

    def row_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one row."""
        return row_json_schema(
            self.fields,
            title=self.row.__name__,
            allow_unknown=self.allow_unknown_fields,
            description=inspect.cleandoc(self.row.__doc__) if self.row.__doc__ else None,
        )

    @property
    def columns(self) -> frozenset[str]:
        """Every column of the table that the definition needs."""
        split = self.split
        extra = {self.label, self.key, self.weight}
        if isinstance(split, TimeSplit):
            extra.add(split.time)
        elif isinstance(split, GroupSplit):
            extra.add(split.group)
        elif isinstance(split, ColumnSplit):
            extra.add(split.column)
        return frozenset(f.name for f in self.fields) | {name for name in extra if name}


def _must(good: bool, field: str, message: str, fix: str) -> None:
    if not good:
        raise DefinitionError(message, field=field, fix=fix)


def _check(model: Model) -> None:
    try:
        check_name(model.name)
    except UsageError as error:
        raise DefinitionError(error.message, field="name", fix=error.fix) from None
    row: Any = model.row
    is_row = inspect.isclass(row) and issubclass(row, Row) and row is not Row
    _must(is_row, "row", f"expected a subclass of steelyard.Row; got {row!r}.",
          "Write class Customer(sy.Row): ... and row=Customer.")  # fmt: skip
    model.fields = row_fields(model.row)
    names = {f.name for f in model.fields}
    _must(isinstance(model.data, (Csv, Parquet, Sql, Python)), "data",
          f"expected a source; got {type(model.data).__name__}.",
          "Use sy.Csv, sy.Parquet, sy.Sql or sy.Python.")  # fmt: skip
    _must(model.label not in names, "label",
          f"the label {model.label!r} is also a field of {model.row.__name__}: the model would be "
          "given its answer.", f"Remove {model.label} from {model.row.__name__}.")  # fmt: skip
    _must(isinstance(model.split, (Stratified, TimeSplit, GroupSplit, ColumnSplit)), "split",
          f"expected a split; got {type(model.split).__name__}.",
          "Use sy.Stratified, sy.TimeSplit, sy.GroupSplit or sy.ColumnSplit.")  # fmt: skip
    _must(hasattr(model.estimator, "fit") and hasattr(model.estimator, "predict"), "estimator",
          f"expected a scikit-learn estimator; got {type(model.estimator).__name__}.",
          "Use, for example, HistGradientBoostingClassifier().")  # fmt: skip
    _must(not inspect.isclass(model.estimator), "estimator",
          f"expected an estimator, got the class {getattr(model.estimator, '__name__', '')}.",
          "Call it: estimator=RandomForestClassifier().")  # fmt: skip
    _must(0 < model.threshold < 1, "threshold",
          f"expected a probability between 0 and 1; got {model.threshold!r}.",
          "Write, for example, threshold=0.3.")  # fmt: skip
    _must(2 < model.max_categories <= 255, "max_categories",
          f"expected 3 to 255; got {model.max_categories!r}.", "Drop it for 255.")  # fmt: skip
    _must(model.features is None or isinstance(model.features, RowFeatures), "features",
          f"expected a function marked with row_features; got {model.features!r}.",
          f"Put @sy.row_features({model.row.__name__}) above it.")  # fmt: skip
    _must(model.features is None or model.features.row is model.row, "features",
          "the row features were marked for another row.",
          f"Mark them with @sy.row_features({model.row.__name__}).")  # fmt: skip
    _must(all(isinstance(gate, GateSetting) for gate in model.gates), "gates",
          "expected gate settings.",
          "Use sy.AtLeast, sy.AtMost, sy.SlicesAtLeast, sy.Latency, sy.waive, ...")  # fmt: skip
    _must(isinstance(model.fallback, (Constant, Rule, PreviousChampion, type(None))), "fallback",
          f"expected a fallback; got {model.fallback!r:.80}.",
          "Use sy.Constant, sy.Rule or sy.PreviousChampion.")  # fmt: skip
    _must(isinstance(model.guards, Guards), "guards",
          f"expected guards; got {model.guards!r:.80}.",
          'Write, for example, guards=sy.Guards(fields={"tenure": "refuse"}).')  # fmt: skip
    model.guards.check(model.fields)
    usable = [f for f in model.fields if not f.temporal]
    _must(bool(usable) or model.features is not None, "row",
          "dates are not features by themselves, and there is nothing else.",
          "Add a row feature, for example the hour of the day.")  # fmt: skip
