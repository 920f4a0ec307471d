"""Rows that a schema allows and nobody expects: what parity and golden rows are tried on."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from steelyard.core.fields import FieldSpec
from steelyard.core.values import ValueCheck, WrongValueError
from steelyard.errors import DefinitionError
from steelyard.features.columns import json_rows
from steelyard.features.parts import Columns
from steelyard.validate.patterns import example_of

__all__ = ["nasty_rows"]

_MOST: Final = 400
_EXAMPLES: Final = 50
_LONG: Final = 10_000
_TEXTS: Final = (
    "",
    "never seen before",
    " ",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f9ff",  # one family of several code points
    "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627",  # right to left, and an override
    "e\u0301 \u00e9 \ufb01 \u1e9e",  # combining, composed, a ligature, a capital sharp s
    "null",
    "NaN",
    "\"quoted\" \\ 'and' \t\r\n<b>&amp;",
    "a\x00b",
    "\ufdd1\uffff\U0010ffff",  # neighbours of the null string, and the last code point
    "0",
)
_NUMBERS: Final = (
    0.0, -0.0, 5e-324, -5e-324, 1e-7, 1 / 3, -1.0, 1, 16777217.0, 9007199254740993.0,
    3.4028234663852886e38, -3.5e38,
)  # fmt: skip
_INTEGERS: Final = (0, 1, -1, 2**31, -(2**31) - 1, 2**24 + 1, 2**53, -(2**53))
_DATES: Final = (
    "0001-01-01", "9999-12-31", "1970-01-01", "1969-12-31", "2000-02-29", "1900-02-28",
)  # fmt: skip
_MOMENTS: Final = (
    "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "1970-01-01T00:00:00",
    "1969-12-31T23:59:59.999999", "2000-02-29T12:30:00", "2016-12-31T23:59:59.5",
)  # fmt: skip
_OFFSETS: Final = ("+00:00", "+00:00", "Z", "+14:00", "-11:30", "+05:45")


def nasty_rows(
    fields: Sequence[FieldSpec], examples: Columns, seed: int, *, most: int = _MOST
) -> list[dict[str, Any]]:
    """Return rows of JSON values, every field present, that the fields allow.

    First rows that are nasty all over (all nulls, all smallest, all largest, ...), then rows that
    are nasty in one field and else like one of the `examples`; at most `most`. The same arguments
    give the same rows. Without examples the other values are made up too. Raises DefinitionError
    where no value of a field can be made up.

    >>> rows = nasty_rows([FieldSpec("plan", "str", choices=("basic", "pro"))], {}, seed=0)
    >>> rows[0], rows[1]
    ({'plan': 'basic'}, {'plan': 'pro'})
    """
    known = {name: column[:_EXAMPLES] for name, column in examples.items()}
    usual = json_rows(fields, known) if known and len(next(iter(known.values()))) else []
    values = {f.name: _values(f, [row[f.name] for row in usual]) for f in fields}
    if not usual:
        usual = [{f.name: values[f.name][-1] for f in fields}]
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in _nastier(fields, values, usual, generator):
        told = repr(row)
        if told not in seen:
            seen.add(told)
            rows.append(row)
        if len(rows) == most:
            break
    return rows


def _nastier(
    fields: Sequence[FieldSpec],
    values: dict[str, list[Any]],
    usual: list[dict[str, Any]],
    generator: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    longest = max(len(found) for found in values.values())
    for i in range(min(longest, 4)):
        yield {f.name: values[f.name][min(i, len(values[f.name]) - 1)] for f in fields}
    for i in range(longest):
        for field in fields:
            if i < len(values[field.name]):
                base = usual[int(generator.integers(len(usual)))]
                yield {**base, field.name: values[field.name][i]}


def _values(field: FieldSpec, examples: Sequence[Any]) -> list[Any]:
    """Return what a field may hold, the nastiest first, something usual last."""
    made: Iterable[Any]
    if field.choices is not None:
        made = field.choices[:20]
    elif field.kind == "str":
        made = _texts(field, examples)
    elif field.kind in ("int", "float"):
        made = _numbers(field, examples)
    elif field.kind == "bool":
        made = (True, False)
    elif field.kind == "date":
        made = _DATES
    else:
        offsets = _OFFSETS if field.aware else ("",) * len(_MOMENTS)
        made = (moment + offset for moment, offset in zip(_MOMENTS, offsets, strict=True))
    check = ValueCheck(field)
    found = [value for value in made if _allowed(check, value)]
    if field.optional:
        found.insert(0, None)
    if not found and examples:
        found = [examples[0]]
    if not found:
        raise DefinitionError(
            "no value can be made up that this field's limits allow.",
            field=field.name,
            fix="Loosen its pattern or limits, or list its values with Literal.",
        )
    return found


def _texts(field: FieldSpec, examples: Sequence[Any]) -> Iterator[str]:
    least, most = field.min_length or 0, field.max_length
    longest = _LONG if most is None else min(most, _LONG)
    known = [value for value in examples if isinstance(value, str)]
    near = [change for value in known[:1] for change in (value.swapcase(), f"{value} ")]
    for text in (*_TEXTS, *near):
        yield text.ljust(least, "x")[:most]
    yield "\U0001f9ff" * longest
    yield "x" * longest
    if field.pattern is not None:
        yield example_of(field.pattern, least, most) or ""
    yield from known[:1]
    yield "usual".ljust(least, "x")[:most]


def _numbers(field: FieldSpec, examples: Sequence[Any]) -> Iterator[float | int]:
    low, high = _limits(field)
    step = field.multiple_of
    known = [value for value in examples if value is not None]
    ends = [min(known), max(known)] if known else []
    inside: tuple[float | int, ...] = _INTEGERS if field.kind == "int" else _NUMBERS
    middle = [] if low <= 0 <= high else [_middle(field, low, high)]
    for value in (low, high, *inside, *middle, *ends, 1 if low <= 1 <= high else low):
        if step is None:
            yield value
            continue
        for count in (value // step, value // step + 1):
            if math.isfinite(count):
                number = count * step
                yield int(number) if field.kind == "int" else number


def _middle(field: FieldSpec, low: float, high: float) -> float | int:
    middle = low / 2 + high / 2
    return int(middle) if field.kind == "int" else middle


def _limits(field: FieldSpec) -> tuple[Any, Any]:
    """Return the smallest and the largest number that a field allows."""
    if field.kind == "int":
        low, high = field.int_bounds
        given = [math.ceil(field.ge)] if field.ge is not None else []
        given += [math.floor(field.gt) + 1] if field.gt is not None else []
        low = max([low, *given])
        given = [math.floor(field.le)] if field.le is not None else []
        given += [math.ceil(field.lt) - 1] if field.lt is not None else []
        return low, min([high, *given])
    reach = float(np.finfo(np.float64).max)
    lows = [float(field.ge)] if field.ge is not None else []
    lows += [math.nextafter(field.gt, math.inf)] if field.gt is not None else []
    highs = [float(field.le)] if field.le is not None else []
    highs += [math.nextafter(field.lt, -math.inf)] if field.lt is not None else []
    return max([-reach, *lows]), min([reach, *highs])


def _allowed(check: ValueCheck, value: Any) -> bool:
    try:
        check.from_python(value)
    except WrongValueError:
        return False
    return True
