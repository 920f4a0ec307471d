"""A definition's fallback as files of its bundle: `fallback.json`, and a rule's `fallback.onnx`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce, wraps
from typing import Any, Final

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.core.definition import Model, RowFeatures
from steelyard.core.fallbacks import Constant, PreviousChampion, Rule
from steelyard.core.fields import FieldSpec
from steelyard.errors import DefinitionError, nearest
from steelyard.features.parts import Columns, Task
from steelyard.features.trace import FeatureGraph, graph_input, trace

__all__ = ["CompiledFallback", "compile_fallback"]

Classes = tuple[str | int | bool, ...] | None
_ANSWER: Final = "answer"
_INPUT: Final = "in_"
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, eq=False)
class CompiledFallback:
    """A definition's fallback, told against the task and the labels of its data.

    `document` is what `fallback.json` holds; `rule` the traced rule, if there is one.
    """

    document: dict[str, Any]
    rule: FeatureGraph | None
    classes: Classes

    def check(self, columns: Columns) -> None:
        """Raise DefinitionError where a rule has no answer for a training row of `columns` [N]."""
        if self.rule is None:
            return
        found = np.column_stack(list(self.rule.run(columns).values()))
        bad = ~np.isfinite(found).all(axis=1)
        if self.classes is not None:
            bad |= (found < 0).any(axis=1) | (found > 1).any(axis=1)
        if found.shape[1] > 1:
            bad |= np.abs(found.sum(axis=1) - 1) > _TOLERANCE
        if not bad.any():
            return
        wanted = "a finite number" if self.classes is None else "probabilities"
        example = found[bad][0].tolist()
        raise DefinitionError(
            f"the rule's answer is not {wanted} for {int(bad.sum()):,} of {len(bad):,} training "
            f"rows; the first gets {example if len(example) > 1 else example[0]}.",
            field="fallback",
            fix="Use xp.fill_null for nulls and xp.clip for bounds; several labels must sum to 1.",
        )

    def graph(self, fields: Sequence[FieldSpec]) -> onnx.ModelProto | None:
        """Build `fallback.onnx`: an input [N] for each column that a rule reads; `scores` [N, K]."""
        if self.rule is None:
            return None
        inputs = {f.name: graph_input(f) for f in fields if f.name in self.rule.inputs}
        found = list(self.rule.inline(inputs).values())
        if self.classes is not None:
            found = [_share(var) for var in found]
            if len(found) == 1:
                found = [op.sub(op.const(1.0), found[0]), found[0]]
            else:
                # Added one by one: a reduction may round by how many rows there are.
                whole = reduce(op.add, found)
                found = [op.div(var, whole) for var in found]
        scores = op.concat([op.unsqueeze(var, op.const([1])) for var in found], axis=1)
        return spox.build({f"{_INPUT}{n}": var for n, var in inputs.items()}, {"scores": scores})


def compile_fallback(definition: Model, task: Task, classes: Classes) -> CompiledFallback:
    """Return a definition's fallback; raises DefinitionError where it cannot answer as the model."""
    given = definition.fallback
    last = given.otherwise if isinstance(given, PreviousChampion) else given
    rule = None
    if isinstance(last, Constant):
        document: dict[str, Any] = {
            "kind": "constant",
            "scores": _constant_scores(last, task, classes),
        }
    elif isinstance(last, Rule):
        document, rule = {"kind": "rule"}, _traced(last, definition, task, classes)
    else:
        document = {"kind": "none"}
    if isinstance(given, PreviousChampion):
        document = {"kind": "previous_champion", "otherwise": document}
    return CompiledFallback(document, rule, classes)


def _share(var: spox.Var) -> spox.Var:
    """Return a probability within 0 and 1; what is none stays none."""
    bounded = op.clip(var, op.const(0.0), op.const(1.0))
    return op.where(op.isnan(var), op.const(float("nan")), bounded)


def _constant_scores(fallback: Constant, task: Task, classes: Classes) -> list[float]:
    value = fallback.value
    if classes is None:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return [float(value)]
        raise _wrong(f"a regression answers with a number; got {value!r:.80}.", "sy.Constant(12.5)")
    if isinstance(value, Mapping):
        _check_labels(value, classes)
        return [float(value[label]) for label in classes]
    if task == "binary" and isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 <= value <= 1:
            return [1.0 - value, float(value)]
        raise _wrong(
            f"expected the probability of {classes[1]!r}, from 0 to 1; got {value!r}.",
            "sy.Constant(0.3)",
        )
    for label in classes:
        if label == value and type(label) is type(value):
            return [float(other == label) for other in classes]
    raise DefinitionError(
        f"{value!r:.80} is no label of the data.",
        field="fallback",
        fix=nearest(str(value), [str(label) for label in classes]),
    )


def _wrong(message: str, example: str) -> DefinitionError:
    return DefinitionError(message, field="fallback", fix=f"Write, for example, {example}.")


def _check_labels(found: Mapping[Any, Any], classes: Sequence[str | int | bool]) -> None:
    for label in found:
        if label not in classes:
            raise DefinitionError(
                f"{label!r:.80} is no label of the data.",
                field="fallback",
                fix=nearest(str(label), [str(one) for one in classes]),
            )
    missing = [label for label in classes if label not in found]
    if missing:
        raise DefinitionError(
            f"the fallback says nothing of the labels {missing!r:.200}.",
            field="fallback",
            fix="Give every label a probability.",
        )


def _traced(rule: Rule, definition: Model, task: Task, classes: Classes) -> FeatureGraph:
    """Return the rule's graph: one output, or one a label in the order of classes."""

    @wraps(rule.function)
    def answers(xp: Any, columns: Any) -> dict[str, Any]:
        found = rule.function(xp, columns)
        if not isinstance(found, Mapping):
            if task == "multiclass":
                raise _wrong(
                    "with several labels a rule returns {label: array}.",
                    'return {"low": p, "high": 1 - p}',
                )
            return {_ANSWER: found}
        if classes is None:
            raise _wrong("a regression's rule returns one array.", "return 2 * c.rooms")
        _check_labels(found, classes)
        return {str(label): found[label] for label in classes}

    try:
        graph = trace(RowFeatures(definition.row, answers), definition.fields)
    except DefinitionError as error:
        message = error.message.replace("the feature", "the rule's")
        raise DefinitionError(message, field="fallback", fix=error.fix) from error
    if graph.categorical:
        raise _wrong(
            "a rule's answer is a number or a probability; got text.", "return c.rooms / 10"
        )
    return graph
