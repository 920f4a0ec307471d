"""Rows as the text that is sent: dicts and `Row` instances."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from steelyard.core.schema import Row
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError, UsageError

__all__ = ["Chunk", "RowLike", "as_mapping", "chunks", "encode", "shifted"]

RowLike = Mapping[str, Any] | Row

_MOST_ROWS: Final = 1_000
_MOST_BYTES: Final = 1024 * 1024


def as_mapping(row: RowLike) -> Mapping[str, Any]:
    """Return a row by its fields' names. Raises UsageError where it is none."""
    if isinstance(row, Row):
        return row.model_dump()
    if isinstance(row, Mapping):
        return row
    raise UsageError(
        f"expected a row as a dict or a Row, got {type(row).__name__}.",
        fix="Give predict one row, and predict_many a list of rows or a table.",
    )


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that is none of its types: dates, decimals, NumPy's."""
    if isinstance(value, date):  # datetimes are dates
        return value.isoformat()
    if isinstance(value, Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if whole else float(value)
    if hasattr(value, "item"):
        return value.item()
    raise UsageError(
        f"a row's value of type {type(value).__name__} has no form in JSON.",
        fix="Fields are int, float, bool, str, date, datetime or None.",
    )


# NaN is written as it is: the server refuses it by name, where null could be taken for an answer.
_encode = json.JSONEncoder(
    default=_plain, separators=(",", ":"), ensure_ascii=False, check_circular=False
).encode


def encode(row: RowLike, check: RowDecoder | None) -> bytes:
    """Return a row as JSON, checked by `check` where there is one.

    Raises InputError with every bad field, UsageError where it is no row.
    """
    found = as_mapping(row)
    if check is not None:
        check.check_one(found)
    return _encode(found).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that are sent together, the first of them being number `start` of all."""

    start: int
    rows: Sequence[RowLike]
    body: bytes
    content_type: str = "application/json"


def chunks(rows: Iterable[RowLike], check: RowDecoder | None, most: int | None) -> Iterator[Chunk]:
    """Part rows into bodies of at most `most` rows and about a megabyte.

    Raises InputError with the fields of the first row that `check` refuses, named `rows.N.field`.
    """
    most = min(most or _MOST_ROWS, _MOST_ROWS)
    start, size = 0, 0
    given: list[RowLike] = []
    texts: list[bytes] = []
    for number, row in enumerate(rows):
        try:
            text = encode(row, check)
        except InputError as error:
            raise InputError(
                {**e, "field": f"rows.{number}.{e['field']}"} for e in error.errors
            ) from None
        if texts and (len(texts) == most or size + len(text) > _MOST_BYTES):
            yield Chunk(start, given, _body(texts))
            start, size, given, texts = number, 0, [], []
        given.append(row)
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield Chunk(start, given, _body(texts))


def shifted(error: InputError, start: int) -> InputError:
    """Return what is wrong with the rows of a chunk, by their numbers among all rows."""
    return InputError({**e, "field": _renumbered(str(e["field"]), start)} for e in error.errors)


def _renumbered(field: str, start: int) -> str:
    """Return a field of a row of a chunk as one of all rows.

    >>> _renumbered("rows.3.age", 1000), _renumbered("body", 1000)
    ('rows.1003.age', 'body')
    """
    rows, _, rest = field.partition(".")
    number, _, name = rest.partition(".")
    if rows != "rows" or not number.isdecimal():
        return field
    return f"rows.{start + int(number)}.{name}"


def _body(texts: list[bytes]) -> bytes:
    return b'{"rows":[' + b",".join(texts) + b"]}"
