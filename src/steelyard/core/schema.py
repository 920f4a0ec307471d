"""`Row` and `Field`: how a user declares the input of a model."""

import re
import types
import typing
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from steelyard.core.fields import MISSING, NULL_STRING, FieldSpec, Kind
from steelyard.errors import DefinitionError

__all__ = ["Field", "Row", "row_fields"]

_KINDS: dict[Any, Kind] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    date: "date",
    datetime: "datetime",
    pydantic.AwareDatetime: "datetime",
    pydantic.NaiveDatetime: "datetime",
}
_ALLOWED = "int, float, bool, str, Literal, date, datetime, each with `| None` or without"
_MARKS = "x-steelyard"


class Row(pydantic.BaseModel):
    """The input of a model: subclass it with one annotated field a column.

    The same declaration checks training rows, is the request's contract and names the columns of
    the compiled graph.

    >>> class Customer(Row):
    ...     tenure: int = Field(ge=0)
    ...     plan: Literal["basic", "pro"] | None = None
    >>> [(f.name, f.kind, f.optional) for f in row_fields(Customer)]
    [('tenure', 'int', False), ('plan', 'str', True)]
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True
    )


def Field(  # noqa: PLR0913  # the field's own word, as in pydantic, with its keywords
    default: Any = PydanticUndefined,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    multiple_of: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    description: str | None = None,
    private: bool = False,
    available_after: str | None = None,
) -> Any:
    """Declare limits and marks of one field.

    `private` keeps the value out of the prediction log. `available_after` says what must have
    happened before the value is known; a feature so marked is refused by the leakage gate.
    Numbers are in the column's own unit; lengths are in characters; `pattern` is searched for.
    """
    limits = {
        "ge": ge,
        "gt": gt,
        "le": le,
        "lt": lt,
        "multiple_of": multiple_of,
        "min_length": min_length,
        "max_length": max_length,
        "pattern": pattern,
        "description": description,
    }
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    marks: Any = {_MARKS: {"private": private, "available_after": available_after}}
    return pydantic.Field(default, json_schema_extra=marks, **given)


def row_fields(row: type[Row]) -> tuple[FieldSpec, ...]:
    """Return the fields of a `Row` class in their order.

    Raises DefinitionError, with the field named, for a type or validator that cannot be compiled.
    """
    _refuse_validators(row)
    specs = tuple(_field_spec(name, info) for name, info in row.model_fields.items())
    if not specs:
        raise DefinitionError(
            f"the row {row.__name__} has no fields.",
            field=row.__name__,
            fix="Add one annotated field a column, for example: tenure: int",
        )
    return specs


def _refuse_validators(row: type[Row]) -> None:
    found = row.__pydantic_decorators__
    for group in (found.field_validators, found.validators, found.model_validators):
        for name in group:
            raise DefinitionError(
                f"the validator {name} of {row.__name__} is Python code and cannot be compiled "
                "into the server's check.",
                field=name,
                fix="Say it with Field(ge=, le=, pattern=, ...) or Literal, or do it upstream.",
            )


def _field_spec(name: str, info: FieldInfo) -> FieldSpec:
    if name == "rows":
        raise DefinitionError(
            "a field may not be called 'rows': that word opens a request of several rows.",
            field=name,
            fix="Rename the field, for example: row_count.",
        )
    base, optional, extra = _unwrap(info.annotation)
    choices, base = _choices(name, base)
    kind = _KINDS.get(base)
    if kind is None:
        raise DefinitionError(
            f"expected one of {_ALLOWED}; got {_type_name(info.annotation)}.",
            field=name,
            fix="Nested fields and lists are not supported; flatten them into columns.",
        )
    limits = _limits(name, kind, [*info.metadata, *extra])
    if info.default_factory is not None or info.alias is not None:
        raise DefinitionError(
            "default_factory and alias cannot be compiled.",
            field=name,
            fix="Give a plain default, and use the column's own name as the field's name.",
        )
    default = MISSING if info.default is PydanticUndefined else info.default
    _check_default(name, kind, default, optional)
    marks: Any = info.json_schema_extra
    given = marks.get(_MARKS, {}) if isinstance(marks, dict) else {}
    return FieldSpec(
        name,
        kind,
        optional=optional,
        default=default,
        choices=choices,
        aware=base is pydantic.AwareDatetime,
        private=given.get("private", False),
        available_after=given.get("available_after"),
        description=info.description,
        **limits,
    )


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _unwrap(annotation: Any) -> tuple[Any, bool, list[Any]]:
    """Split `Annotated[T, ...] | None` into T, whether None is allowed, and the metadata."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        base, optional, more = _unwrap(inner)
        return base, optional, [*metadata, *more]
    if get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1 and len(members) < len(get_args(annotation)):
            base, _, metadata = _unwrap(members[0])
            return base, True, metadata
    return annotation, False, []


def _choices(name: str, base: Any) -> tuple[tuple[str, ...] | tuple[int, ...] | None, Any]:
    if get_origin(base) is not Literal:
        return None, base
    values = get_args(base)
    if all(type(value) is str for value in values) and NULL_STRING not in values:
        return values, str
    if all(type(value) is int for value in values):
        return values, int
    raise DefinitionError(
        f"a Literal holds strings only or integers only; got {values!r}.",
        field=name,
        fix="Use bool for true and false, and `| None` for null.",
    )


_NUMBER_LIMITS = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MultipleOf: "multiple_of"}
_TEXT_LIMITS = {MinLen: "min_length", MaxLen: "max_length"}


def _limits(name: str, kind: Kind, metadata: Iterable[Any]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for mark in metadata:
        number, text = _NUMBER_LIMITS.get(type(mark)), _TEXT_LIMITS.get(type(mark))
        if number and kind in ("int", "float"):
            limits[number] = getattr(mark, number)
        elif text and kind == "str":
            limits[text] = getattr(mark, text)
        elif kind == "str" and getattr(mark, "pattern", None) is not None:
            limits["pattern"] = str(mark.pattern)
        elif type(mark) in (pydantic.Strict, pydantic.AllowInfNan):
            continue  # input is always strict and finite
        else:
            raise DefinitionError(
                f"{_limit_name(mark)} is no limit of a {kind} field.",
                field=name,
                fix="Numbers take ge, gt, le, lt, multiple_of; strings min_length, max_length, "
                "pattern.",
            )
    return limits


def _limit_name(mark: Any) -> str:
    return re.sub(r"^_?\w*\((.*)\)$", r"\1", repr(mark)) or repr(mark)


def _check_default(name: str, kind: Kind, default: Any, optional: bool) -> None:
    python: dict[Kind, tuple[type, ...]] = {
        "int": (int,),
        "float": (float, int),
        "bool": (bool,),
        "str": (str,),
    }
    good = default is MISSING or (default is None and optional)
    if not good and kind in python:
        good = isinstance(default, python[kind]) and (kind == "bool") == isinstance(default, bool)
    if not good:
        raise DefinitionError(
            f"the default {default!r} is no {kind}{' or None' if optional else ''} constant.",
            field=name,
            fix="Give a constant of the field's type, or drop the default to make it required.",
        )
