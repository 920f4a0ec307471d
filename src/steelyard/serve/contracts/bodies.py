"""What request bodies of several contracts have in common: media types, JSON, CSV, rows."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from steelyard.core.csv_rows import csv_rows
from steelyard.core.fields import FieldSpec
from steelyard.core.json_text import BODY, check_row_count, field_error, refuse
from steelyard.core.values import BAD_JSON, shown
from steelyard.errors import InputError, UsageError, nearest
from steelyard.serve.http.asgi import MediaTypeError

if TYPE_CHECKING:
    from starlette.datastructures import Headers

__all__ = [
    "media_type",
    "members",
    "read_csv",
    "read_json",
    "rows_of_columns",
    "rows_of_values",
    "text_of",
]

_SHOWN: Final = 100
_HIDDEN: Final = re.compile(rb"\\u00(22|3[aA])")
"""A quote or a colon that is seen only once the text is read."""
_LISTED: Final = 100


def media_type(headers: "Headers", default: str) -> str:
    """Return the declared type of a body, without parameters.

    Raises MediaTypeError where the body is compressed, or in another encoding than UTF-8.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise MediaTypeError("send the body as it is, without Content-Encoding")
    kind, *parameters = headers.get("content-type", default).split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().lower().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise MediaTypeError("send text in UTF-8")
    return kind.strip().lower()


def text_of(body: bytes) -> str:
    """Return a body's text. Raises UsageError where it is not UTF-8."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the body is not UTF-8: {error.reason} at byte {error.start}.") from None


def read_json(body: bytes) -> Any:
    """Return the document of a JSON body; NaN and infinity are read, for fields to refuse.

    Raises UsageError where it is no JSON, and InputError where an object repeats a key.
    """
    lax = b"NaN" in body or b"Infinity" in body
    try:
        found = json.loads(body) if lax else msgspec.json.decode(body)
        written = msgspec.json.encode(found)  # refuses the broken text that the lax parser takes
    except BAD_JSON as error:
        raise UsageError(f"the body is not JSON: {str(error)[:_SHOWN]}.") from None
    # A parser keeps the last of equal keys: what it read is then written with fewer keys.
    keys = body.translate(None, b" \t\r\n").count(b'":')
    if keys != written.count(b'":') or _HIDDEN.search(body):
        _check_keys(body)
    return found


def _check_keys(body: bytes) -> None:
    def note(pairs: list[tuple[str, Any]]) -> None:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            refuse(shown(twice[0]), "expected once; the object repeats it", None)

    try:
        json.loads(body, object_pairs_hook=note, parse_int=str, parse_float=str)
    except RecursionError:
        raise UsageError("the body is nested too deeply.") from None


def members(document: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return an object whose members are all `known`. Raises UsageError: none may be ignored."""
    names = list(known)
    if not isinstance(document, dict):
        raise UsageError(f"the body must be an object with {' or '.join(names)}.")
    for name in document:
        if name not in names:
            raise UsageError(f"no member {name[:_SHOWN]!r}. {nearest(name[:_SHOWN], names)}")
    return document


def rows_of_values(
    names: Sequence[str], given: Any, max_rows: int, place: str
) -> list[dict[str, Any]]:
    """Return rows that are given as objects, or as lists of values in the order of `names`.

    Raises InputError with every row that is neither, RowLimitError.
    """
    if not isinstance(given, list):
        refuse(place, "expected a list of rows", shown(given))
    check_row_count(len(given), max_rows)
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for i, row in enumerate(given):
        if isinstance(row, dict):
            rows.append(row)
        elif isinstance(row, list) and len(row) == len(names):
            rows.append(dict(zip(names, row, strict=True)))
        else:
            message = f"expected an object, or a list of {len(names)} values: {', '.join(names)}"
            errors.append(field_error(f"rows.{i}", message, shown(row)))
    return _good(rows, errors)


def rows_of_columns(columns: Mapping[str, Any], max_rows: int) -> list[dict[str, Any]]:
    """Return the rows of `{column: values}`, or the one row of `{column: value}`.

    Raises InputError where the columns have different lengths, RowLimitError.
    """
    lists = {n: v if isinstance(v, list) else [v] for n, v in columns.items()}
    lengths = {name: len(values) for name, values in lists.items()}
    count = max(lengths.values(), default=0)
    check_row_count(count, max_rows)
    errors = [
        field_error(name, f"expected {count} values, as many as other columns have", length)
        for name, length in lengths.items()
        if length != count
    ]
    if errors:
        raise InputError(errors)
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def read_csv(
    body: bytes, fields: Sequence[FieldSpec], max_rows: int, *, header: bool
) -> list[dict[str, Any]]:
    """Return the rows of a CSV body.

    Raises UsageError where it is no CSV, InputError with every line of too few or too many cells,
    RowLimitError.
    """
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for i, row in enumerate(csv_rows(text_of(body), fields, header=header)):
        check_row_count(i + 1, max_rows)
        if isinstance(row, InputError):
            errors += [{**e, "field": f"rows.{i}"} for e in row.errors]
        else:
            rows.append(row)
    return _good(rows, errors)


def _good(rows: list[dict[str, Any]], errors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(errors) > _LISTED:
        more = f"and {len(errors) - _LISTED} more rows"
        errors = [*errors[:_LISTED], field_error(BODY, more, None)]
    if errors:
        raise InputError(errors)
    return rows
