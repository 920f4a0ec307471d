"""What training rows looked like, as the limits of a bundle's guards: `guards.json`."""

from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.core.guards import Guards, rules_of
from steelyard.errors import CompileError
from steelyard.features.columns import NULL_TIME, to_wire
from steelyard.features.parts import Columns, Scores

__all__ = ["guard_limits", "range_limits"]

RARE: Final = 1_000
"""Nulls are odd where at most one training row in so many has one."""
_TAIL: Final = 0.05
_FLOOR: Final = 0.1
_MAX: Final = float(np.finfo(np.float64).max)


def guard_limits(
    guards: Guards,
    fields: tuple[FieldSpec, ...],
    columns: Columns,
    coded: Collection[str],
    outputs: tuple[npt.NDArray[Any], Scores] | None = None,
) -> dict[str, Any]:
    """Return the guards with their limits, as JSON values.

    `columns` are the training rows [N] in the column representation, `coded` the columns whose
    categories the packed row's codes list already. `outputs` are the labels [N] and what the
    model answers for the training rows. Rules that cannot be broken are left out. Raises
    CompileError where a rule was asked for by name and cannot be had.
    """
    found = {field.name: _field_rules(guards, field, columns, coded) for field in fields}
    document: dict[str, Any] = {"fields": {name: rules for name, rules in found.items() if rules}}
    if (action := guards.action("empty")) != "ignore":
        most = _most_nulls(fields, columns)
        if most < sum(field.optional for field in fields):
            document["empty"] = {"action": action, "nulls": most}
    if outputs is not None and outputs[1].classes is None:
        action = guards.action("output")
        if action != "ignore":
            both = np.concatenate([outputs[0].astype(np.float64), outputs[1].prediction])
            low, high = range_limits(both)
            document["output"] = {"action": action, "low": low, "high": high}
    if guards.collapse_rule:
        document["collapse"] = guards.collapse_rule
    return document


def _is_null(field: FieldSpec, column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if field.kind == "str":
        return np.asarray(column == NULL_STRING, dtype=np.bool_)
    if field.temporal:
        return np.asarray(column == NULL_TIME)
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=np.bool_)


def _field_rules(
    guards: Guards, field: FieldSpec, columns: Columns, coded: Collection[str]
) -> dict[str, Any]:
    column = columns[field.name]
    null = _is_null(field, column)
    rules: dict[str, Any] = {}
    for rule in rules_of(field):
        action = guards.action(rule, field.name)
        if action == "ignore":
            continue
        limits: dict[str, Any] | None
        if rule == "null":
            limits = {} if int(null.sum()) * RARE <= len(column) else None
        elif rule == "unseen":
            limits = _seen(guards, field, column[~null], coded)
        else:
            limits = _range(field, column[~null])
        if limits is not None:
            rules[rule] = {"action": action, **limits}
    return rules


def _seen(
    guards: Guards, field: FieldSpec, known: npt.NDArray[Any], coded: Collection[str]
) -> dict[str, Any] | None:
    values = set(known.tolist())
    if field.kind == "bool":
        seen: list[Any] = sorted(bool(value) for value in values)
        return None if len(seen) == 2 else {"seen": seen}
    seen = sorted(map(int, values) if field.kind == "int" else values)
    if field.choices is not None and len(seen) == len(field.choices):
        return None
    if field.name in coded:
        return {}
    if field.private and field.choices is None:
        given = guards.fields.get(field.name)
        if not isinstance(given, str) and given and "unseen" in given:
            raise CompileError(
                f"guards: {field.name} is private and the model does not keep its categories, so "
                "none can be told to be unseen.",
                fix=f"Drop the rule, or use {field.name} itself as a feature.",
            )
        return None
    return {"seen": seen}


def _range(field: FieldSpec, known: npt.NDArray[Any]) -> dict[str, Any]:
    if len(known) == 0:
        return {"low": None, "high": None}
    if field.temporal:
        return _time_range(field, int(known.min()), int(known.max()))
    low, high = range_limits(known.astype(np.float64))
    if field.kind == "int":
        return {"low": float(np.ceil(low)), "high": float(np.floor(high))}
    return {"low": low, "high": high}


def range_limits(known: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the limits of numbers [N > 0] beyond which a value is far outside.

    Each tail sets its own margin: as far beyond the extreme as the extreme is beyond the outermost
    twentieth of the values, and at least a tenth of what lies between the two twentieths. Past an
    exponential tail of N values that leaves 20 / N^2 for the next one, whatever its scale.

    >>> range_limits(np.arange(101.0))
    (-9.0, 109.0)
    """
    smallest, low, high, largest = (
        float(q) for q in np.quantile(known, [0, _TAIL, 1 - _TAIL, 1], method="nearest")
    )
    floor = _FLOOR * high - _FLOOR * low
    below = smallest - max(low - smallest, floor)
    above = largest + max(largest - high, floor)
    return max(below, -_MAX), min(above, _MAX)


def _time_range(field: FieldSpec, first: int, last: int) -> dict[str, Any]:
    """Return limits one span of the training rows before and after them.

    Times move on while a model serves: it is told when it is as far past its data as they are long.
    """
    span = last - first
    if field.kind == "date":
        ends: tuple[date, date] = (date.min, date.max)
    else:
        zone = UTC if field.aware else None
        ends = (datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone))
    earliest, latest = (to_wire(field, end) for end in ends)
    return {"low": max(first - span, earliest), "high": min(last + span, latest)}


def _most_nulls(fields: tuple[FieldSpec, ...], columns: Columns) -> int:
    """Return how many nulls a row may have: half of its fields, or what training rows often had."""
    nulls = np.sum([_is_null(field, columns[field.name]) for field in fields], axis=0)
    often = np.quantile(nulls, 1 - 1 / RARE, method="inverted_cdf")
    return max(len(fields) // 2, int(often))
