"""Rows that a model takes: from a file, from a JSON Schema, from a server's OpenAPI document."""

import json
import re
from collections.abc import Mapping
from csv import DictReader
from pathlib import Path
from typing import Any, Final, cast

from steelyard.errors import DataError, UsageError
from steelyard.testing.conformance.suite import Row
from steelyard.testing.conformance.talk import Reply, Talk, Violation

__all__ = ["made_rows", "openapi", "reached", "read_rows", "schema_at", "served_model"]

_ROWS: Final = 4
_MOST: Final = 8
_TEXTS: Final = ("a", "A", "abc", "ABC", "0", "1", "12345", "a1", "A1", "2024-01-01", "x@y.org")
_MODEL_PATHS: Final = (
    re.compile(r"/predict/([^/{}]+)"),
    re.compile(r"/v2/models/([^/{}]+)(?:/infer)?"),
    re.compile(r"/v1/models/([^/{}:]+)(?::predict)?"),
)


class _UnknowableError(Exception):
    """No value can be made from a schema; the message names the field and why."""


def read_rows(file: str) -> list[Row]:
    """Return the first rows of a file: JSON (a list, or one object), JSON lines, or CSV.

    A CSV cell is read as JSON where it is JSON, as null where it is empty, else as text. Raises
    UsageError where there is no such file, DataError where it holds no rows.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            f"there is no file {file}.", fix="Give a file of rows that the model takes."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            found = [{k: _cell(v) for k, v in row.items()} for row in DictReader(text.splitlines())]
        else:
            found = _json_rows(text)
    except ValueError as error:
        raise DataError(
            f"{file} cannot be read: {error}.", fix="Write one object a line."
        ) from None
    if not found or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{file} holds no rows.", fix="Write one object a line.")
    return found[:_MOST]


def _cell(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json_rows(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(found, dict) and isinstance(found.get("rows"), list):
        found = found["rows"]
    return found if isinstance(found, list) else [found]


def reached(talk: Talk, route: str, document: Any = None) -> Reply:
    """Return what comes back to GET, or to POST of a document. Raises UsageError: nothing does."""
    try:
        return talk.get(route) if document is None else talk.post(route, document)
    except Violation as violation:
        raise UsageError(
            f"no server answers at {talk.url}: {violation}.", fix="Start it, or name another URL."
        ) from None


def openapi(talk: Talk) -> dict[str, Any]:
    """Return a server's OpenAPI document, or an empty one where it has none."""
    try:
        found = talk.get("/openapi.json").must(200).object("paths")
    except Violation:
        return {}
    return found if isinstance(found["paths"], dict) else {}


def served_model(document: Mapping[str, Any]) -> str | None:
    """Return the model that an OpenAPI document's paths name, where they name one."""
    names = {
        match[1]
        for path in document.get("paths", ())
        for pattern in _MODEL_PATHS
        if (match := pattern.fullmatch(path))
    }
    return names.pop() if len(names) == 1 else None


def schema_at(document: Mapping[str, Any], route: str) -> dict[str, Any] | None:
    """Return the schema of one row that an OpenAPI document gives for the body of a POST.

    Where a body may be one row or several, it is the row's that is returned.
    """
    try:
        content = document["paths"][route]["post"]["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        for candidate in schema.get("anyOf") or schema.get("oneOf") or [schema]:
            found = _resolved(candidate, document)
            if "properties" in found and "rows" not in found["properties"]:
                return found
    except (AttributeError, KeyError, TypeError):
        pass  # a document of another shape tells nothing
    return None


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = document
    if "$ref" not in schema:
        return dict(schema)
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return cast(dict[str, Any], found)


def made_rows(schema: Mapping[str, Any]) -> list[Row]:
    """Return a few rows that a JSON Schema allows.

    >>> made_rows({"properties": {"age": {"type": "integer", "minimum": 18}}})[:2]
    [{'age': 19}, {'age': 20}]

    Raises UsageError where a field's values cannot be told from the schema.
    """
    try:
        return [_row(schema, number) for number in range(_ROWS)]
    except (_UnknowableError, KeyError) as why:
        reason = f"{why}" if isinstance(why, _UnknowableError) else "its row is not described"
        raise UsageError(
            f"no row can be made from what the server says of its model: {reason}.",
            fix="Give a file of rows that it takes by --rows.",
        ) from None


def _row(schema: Mapping[str, Any], number: int) -> Row:
    properties = schema["properties"]
    naive = "x-order" in schema  # Steelyard's own schemas say of each time whether it is aware
    return {
        name: _value(
            name, properties[name], number, zone=not naive or bool(properties[name].get("x-aware"))
        )
        for name in schema.get("x-order") or properties
    }


def _value(name: str, entry: Mapping[str, Any], number: int, *, zone: bool) -> Any:
    choices = [entry["const"]] if "const" in entry else entry.get("enum") or entry.get("examples")
    if choices:
        return choices[number % len(choices)]
    alternatives = entry.get("anyOf") or entry.get("oneOf")
    if alternatives:
        first = next(one for one in alternatives if one.get("type") != "null")
        return _value(name, first, number, zone=zone)
    types = entry.get("type")
    kinds = types if isinstance(types, list) else [types]
    if "null" in kinds and number == _ROWS - 1:
        return None
    kind = next(kind for kind in kinds if kind != "null")
    if kind in ("integer", "number"):
        return _number(entry, number, whole=kind == "integer")
    if kind not in ("boolean", "string"):
        raise _UnknowableError(f"{name} is of the kind {kind}")
    return number % 2 == 0 if kind == "boolean" else _text(name, entry, number, zone=zone)


def _number(entry: Mapping[str, Any], number: int, *, whole: bool) -> float:
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    high = entry.get("maximum", entry.get("exclusiveMaximum"))
    step = entry.get("multipleOf")
    value = low or 0
    if low is not None and high is not None:
        value += (high - low) * (number + 1) / (_ROWS + 1)
    elif high is not None:
        value = high - number - 1
    else:
        value += number + 1
    step = step or (1 if whole else None)
    if step:
        value = value // step * step
        if low is not None and (value < low or (value == low and "minimum" not in entry)):
            value += step
    return int(value) if whole else float(value)


def _text(name: str, entry: Mapping[str, Any], number: int, *, zone: bool) -> str:
    form, pattern = entry.get("format"), entry.get("pattern")
    if form == "date":
        return f"2024-01-{number + 1:02d}"
    if form == "date-time":
        return f"2024-01-{number + 1:02d}T08:30:00{'Z' if zone else ''}"
    least, most = entry.get("minLength", 0), entry.get("maxLength", 1000)
    for text in _TEXTS[number % len(_TEXTS) :] + _TEXTS:
        fitting = (text * (least // len(text) + 1))[:most] if least > len(text) else text
        if least <= len(fitting) <= most and (not pattern or re.search(pattern, fitting)):
            return fitting
    raise _UnknowableError(f"{name} has to match {pattern or 'its length'}")
