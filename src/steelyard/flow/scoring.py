"""Answer the rows of a file, exactly as the server answers them."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.bundle.predictor import Predictor
from steelyard.core.answers import answer_document
from steelyard.core.config import Config
from steelyard.core.csv_rows import csv_rows
from steelyard.core.fields import FieldSpec
from steelyard.core.ids import uuid7
from steelyard.errors import DataError, InputError, UsageError
from steelyard.flow.champions import stands_in
from steelyard.flow.stores import resolved, signatures_of

__all__ = ["predict_file"]


def predict_file(ref: str, file: str, config: Config) -> list[dict[str, Any]]:
    """Return an answer for every row of a file, in its order; a bad row becomes `{error: [...]}`.

    JSON (a list, one object, or `{"rows": [...]}`), JSON lines, CSV, or Parquet; `-` reads JSON
    from standard input. Columns that the model does not know are ignored.
    """
    ledger, version, folder = resolved(ref, config)
    signatures_of(config).check(version.bundle, version.reference)
    previous = stands_in(ledger, version, folder)
    predictor = Predictor.load(folder, expected=version.bundle, previous=previous)
    known = {field.name for field in predictor.fields}
    checked: list[tuple[Any, ...] | InputError] = []
    for row in _rows(file, predictor.fields):
        if isinstance(row, InputError):
            checked.append(row)
            continue
        if not isinstance(row, Mapping):
            checked.append(
                InputError([{"field": "", "message": "expected an object", "got": str(row)[:80]}])
            )
            continue
        try:
            wanted = {name: value for name, value in row.items() if name in known}
            checked.append(predictor.decoder.check_one(wanted))
        except InputError as error:
            checked.append(error)
    answers = iter(predictor.answer_many([row for row in checked if isinstance(row, tuple)]))
    found = (row if isinstance(row, InputError) else next(answers) for row in checked)
    return [
        {"error": one.errors}
        if isinstance(one, InputError)
        else answer_document(one.answer, predictor.classes, uuid7(), version, one.flags, one.reason)
        for one in found
    ]


def _rows(file: str, fields: tuple[FieldSpec, ...]) -> Iterator[Any]:
    path = Path(file)
    if file != "-" and not path.is_file():
        raise UsageError(f"there is no file {file}.", fix="Give a file of rows, or - for stdin.")
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    data = sys.stdin.buffer.read() if file == "-" else path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}.", fix="Save it as UTF-8.") from None
    if path.suffix == ".csv":
        return csv_rows(text, fields)
    return _json_rows(text, file)


def _json_rows(text: str, file: str) -> Iterator[Any]:
    try:
        document = json.loads(text)
    except ValueError:
        try:
            yield from [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise DataError(
                f"{file} is neither JSON nor JSON lines: {error}.",
                fix="Write one object a line, or a list of objects.",
            ) from None
        return
    if isinstance(document, Mapping) and isinstance(document.get("rows"), list):
        document = document["rows"]
    yield from document if isinstance(document, list) else [document]


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import polars as pl
    except ImportError:
        raise UsageError(
            "reading Parquet needs the training extra.", fix="pip install 'steelyard[train]'"
        ) from None
    yield from pl.read_parquet(path).iter_rows(named=True)
