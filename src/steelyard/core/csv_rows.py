"""Rows to be answered from CSV text, whose cells are only text until a field says what they are."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from steelyard.core.fields import FieldSpec
from steelyard.core.json_text import BODY, field_error
from steelyard.core.values import BAD_JSON
from steelyard.errors import DataError, InputError

__all__ = ["csv_rows"]

_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


def csv_rows(
    text: str, fields: Sequence[FieldSpec], *, header: bool = True
) -> Iterator[dict[str, Any] | InputError]:
    r"""Yield each line as a row in JSON's types; an InputError stands for one with missing cells.

    Columns that are no fields are left out. Without a header the cells are the fields, in order.
    An empty cell is null, a cell that is not of its field's kind stays text, blank lines are no
    rows but in a table of one column. Raises DataError where the text is no CSV.

    >>> list(csv_rows("age,name\n31,Ada\n,Bob\n", [FieldSpec("age", "int")]))
    [{'age': 31}, {'age': None}]
    """
    by_name = {field.name: _READERS.get(field.kind, _text) for field in fields}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [] if header else list(by_name)
    try:
        for line in reader:
            # A blank line is no row, but where there is one column: its null, as in training data.
            cells = line or [""] * (len(names) == 1)
            if not cells:
                continue
            if not names:
                names = cells
                _check_header(names, by_name)
            elif len(cells) != len(names):
                message = f"expected {len(names)} cells: {', '.join(names)}"
                yield InputError([field_error(BODY, message, len(cells))])
            else:
                yield {
                    name: by_name[name](cell) if cell else None
                    for name, cell in zip(names, cells, strict=True)
                    if name in by_name
                }
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} is no CSV: {error}.", fix="Write it with a CSV library."
        ) from None


def _check_header(names: Sequence[str], known: Iterable[str]) -> None:
    twice = [name for name in known if names.count(name) > 1]
    if twice:
        raise DataError(f"the first line names {', '.join(twice)} more than once.")


def _number(text: str) -> Any:
    """Read a number; what is none stays text, for the check to refuse."""
    try:
        return msgspec.json.decode(text)
    except BAD_JSON:
        pass
    try:
        return json.loads(text)  # NaN and infinity, which the check refuses as numbers
    except (ValueError, RecursionError):
        return text


def _boolean(text: str) -> Any:
    return _BOOLEANS.get(text.lower(), text)


def _text(text: str) -> Any:
    return text


_READERS: Final = {"int": _number, "float": _number, "bool": _boolean}
