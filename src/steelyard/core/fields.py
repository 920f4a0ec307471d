"""What one column of a row may hold, independent of how it was declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = [
    "INT64_MAX",
    "MAX_EXACT_INT",
    "MISSING",
    "NULL_STRING",
    "FieldSpec",
    "Kind",
    "fields_from_json_schema",
    "row_json_schema",
]

Kind = Literal["int", "float", "bool", "str", "date", "datetime"]

NULL_STRING: Final = "\ufdd0"
"""How a graph sees a null string: a code point that Unicode keeps for a program's own use."""
INT64_MAX: Final = 2**63 - 1
MAX_EXACT_INT: Final = 2**53
"""Optional integers travel as float64 (NaN = null), exact up to here."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The default of a field that has none, so that None can be one."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a row: its kind, whether it may be null or absent, and its limits."""

    name: str
    kind: Kind
    optional: bool = False
    default: Any = MISSING
    choices: tuple[str, ...] | tuple[int, ...] | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    aware: bool = False
    private: bool = False
    available_after: str | None = None
    description: str | None = None

    @property
    def required(self) -> bool:
        """Whether the field must be present in a row."""
        return self.default is MISSING

    @property
    def absent(self) -> Any:
        """The value that an absent field has."""
        if self.kind == "float" and isinstance(self.default, int):
            return float(self.default)
        return self.default

    @property
    def numeric(self) -> bool:
        """Whether the raw column is a number to a model (booleans are 0 and 1)."""
        return self.kind in ("int", "float", "bool")

    @property
    def categorical(self) -> bool:
        """Whether the raw column is a category to a model."""
        return self.kind == "str"

    @property
    def temporal(self) -> bool:
        """Whether the raw column is a time, a feature only through a row feature."""
        return self.kind in ("date", "datetime")

    @property
    def int_bounds(self) -> tuple[int, int]:
        """The smallest and largest integer that the column's representation holds exactly."""
        return (-MAX_EXACT_INT, MAX_EXACT_INT) if self.optional else (-INT64_MAX - 1, INT64_MAX)


_JSON_TYPE = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "date": "string",
    "datetime": "string",
}
_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
    "description": "description",
}
_MARKS = {"aware": "x-aware", "private": "x-private", "available_after": "x-available-after"}


def _property(field: FieldSpec) -> dict[str, Any]:
    kind = _JSON_TYPE[field.kind]
    entry: dict[str, Any] = {"type": [kind, "null"] if field.optional else kind}
    if field.temporal:
        entry["format"] = "date" if field.kind == "date" else "date-time"
    if field.choices is not None:
        entry["enum"] = [*field.choices, *([None] if field.optional else [])]
    for attribute, keyword in _LIMITS.items():
        value = getattr(field, attribute)
        if value is not None:
            entry[keyword] = value
    for attribute, keyword in _MARKS.items():
        if value := getattr(field, attribute):
            entry[keyword] = value
    if not field.required:
        entry["default"] = field.default
    return entry


def row_json_schema(
    fields: Sequence[FieldSpec], *, title: str, allow_unknown: bool, description: str | None = None
) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a row; `fields_from_json_schema` reads it back.

    Written here rather than by pydantic, whose wording may change between versions: the schema
    enters the bundle's hash.
    """
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": allow_unknown,
        # JSON objects have no order and canonical JSON sorts them; columns do have one.
        "x-order": [field.name for field in fields],
    }
    if description:
        schema["description"] = description
    return schema


def _field(name: str, entry: Mapping[str, Any]) -> FieldSpec:
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    json_type = next(kind for kind in types if kind != "null")
    kinds: dict[str, Kind] = {"integer": "int", "number": "float", "boolean": "bool"}
    kind = kinds.get(json_type, "str")
    if entry.get("format") in ("date", "date-time"):
        kind = "date" if entry["format"] == "date" else "datetime"
    choices = entry.get("enum")
    limits = {attribute: entry.get(keyword) for attribute, keyword in _LIMITS.items()}
    return FieldSpec(
        name,
        kind,
        optional="null" in types,
        default=entry.get("default", MISSING),
        choices=None if choices is None else tuple(c for c in choices if c is not None),
        aware=entry.get("x-aware", False),
        private=entry.get("x-private", False),
        available_after=entry.get("x-available-after"),
        **limits,
    )


def fields_from_json_schema(schema: Mapping[str, Any]) -> tuple[FieldSpec, ...]:
    """Read the fields of a row, in column order, from a schema that `row_json_schema` wrote."""
    return tuple(_field(name, schema["properties"][name]) for name in schema["x-order"])
