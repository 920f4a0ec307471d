"""CSV as text columns: every line is accounted for before a parser may see it.

Polars fills short lines with nulls and reads blank lines as rows of nulls. So the lines are counted
here first, vectorised over the bytes, and what is not RFC 4180 is refused with its line number.
"""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from steelyard.core.sources import Csv
from steelyard.data.cells import INT_TEXT, NUMBER_TEXT
from steelyard.errors import DataError, DefinitionError

__all__ = ["csv_bytes", "parse_csv", "with_numbers"]

_BLOCK: Final = 1 << 24
"""Bytes looked at in one go, which bounds the memory of the masks."""
_QUOTE, _NEWLINE, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class _Records:
    """Where each record ends, how many cells it has, and whether its line is blank [N]."""

    ends: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    blank: npt.NDArray[np.bool_]


def csv_bytes(path: Path) -> bytes:
    """Return the bytes of a CSV file, unpacked where its name ends in .gz or .zip."""
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".zip":
            return _only_member(path)
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path} cannot be unpacked: {error}.", fix="Pack it again, or give the plain CSV file."
        ) from error
    return path.read_bytes()


def _only_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [
            name
            for name in archive.namelist()
            if not name.endswith("/") and not name.startswith("__MACOSX/")
        ]
        if len(names) != 1:
            raise DataError(
                f"{path} holds {len(names)} files, expected one CSV: {', '.join(names[:5])}.",
                fix="Unpack it and name the file itself.",
            )
        return archive.read(names[0])


def parse_csv(data: bytes, source: Csv) -> pl.DataFrame:
    """Return the cells of a CSV document as strings, null where empty or in `source.nulls`.

    Blank lines are no rows (but for a table of one column, where they are nulls). Raises DataError
    with the line number for a line with too few or too many cells, a stray or unclosed quotation
    mark, and text that is not UTF-8.
    """
    separator = source.separator.encode()
    if len(separator) != 1 or separator in (b'"', b"\n", b"\r"):
        raise DefinitionError(
            f"a separator is one ASCII character; got {source.separator!r}.",
            field="data",
            fix='Write, for example, separator=";" or separator="\\t".',
        )
    data = data.removeprefix(_BOM)
    _check_text(data, source)
    _check_quotes(data, separator, source)
    records = _records(data, separator[0])
    names = _header(data, records, source)
    if len(names) == 1:
        records.blank[:] = False
    _check_cells(data, records, len(names), source)
    return _parse(data, names, records, source)


def with_numbers(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table of strings with numbers where every cell of a column is one.

    >>> with_numbers(pl.DataFrame({"a": ["1", None], "b": ["1.5", "2"], "c": ["007", "8"]})).dtypes
    [Int64, Float64, String]
    """
    return table.with_columns(_numbers(column) for column in table.get_columns())


def _numbers(column: pl.Series) -> pl.Series:
    if column.null_count() == len(column) or not column.str.contains(NUMBER_TEXT).all():
        return column
    if column.str.contains(INT_TEXT).all():
        exact = column.cast(pl.Int64, strict=False)
        if exact.null_count() == column.null_count():
            return exact
    return column.cast(pl.Float64)


def _parse(data: bytes, names: list[str], records: _Records, source: Csv) -> pl.DataFrame:
    try:
        table = pl.read_csv(
            data,
            infer_schema=False,
            separator=source.separator,
            null_values=["", *source.nulls],
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{source.path} cannot be read as CSV: {error}") from error
    if table.shape != (len(records.ends) - 1, len(names)):
        raise DataError(
            f"{source.path} has {len(records.ends) - 1} rows of {len(names)} cells, but "
            f"{table.height} of {table.width} were read.",
            fix="Write the file anew with a CSV library; its line ends or marks are ambiguous.",
        )
    table.columns = names
    blank = records.blank[1:]
    return table.filter(~blank) if blank.any() else table


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _check_text(data: bytes, source: Csv) -> None:
    if not data.strip():
        raise DataError(f"{source.path} is empty.", fix="Its first line must name the columns.")
    if data.startswith(_WIDE_BOMS):
        raise DataError(f"{source.path} is UTF-16, expected UTF-8.", fix="Save it as UTF-8.")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.path}, line {_line_of(data, error.start)}: not UTF-8 "
            f"(byte 0x{data[error.start]:02x}).",
            fix="Save it as UTF-8, for example: iconv -f latin1 -t utf-8 IN > OUT",
        ) from None
    if b"\n" not in data and b"\r" in data:
        raise DataError(
            f"{source.path} ends its lines with a carriage return only.",
            fix="Save it with \\n or \\r\\n line ends.",
        )


def _blocks(data: bytes) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    whole = np.frombuffer(data, dtype=np.uint8)
    for start in range(0, len(whole), _BLOCK):
        yield start, whole[start : start + _BLOCK]


def _check_quotes(data: bytes, separator: bytes, source: Csv) -> None:
    """Refuse marks that neither open nor close a cell; a doubled mark closes and opens again."""
    if b'"' not in data:
        return
    whole = np.frombuffer(data, dtype=np.uint8)
    before = np.isin(np.arange(256), [separator[0], _NEWLINE, _QUOTE])
    after = before | (np.arange(256) == _RETURN)
    seen, last = 0, 0
    for start, block in _blocks(data):
        at = np.flatnonzero(block == _QUOTE) + start
        opening, closing = at[seen % 2 :: 2], at[1 - seen % 2 :: 2]
        opening_at = opening[opening > 0]
        closing_at = closing[closing + 1 < len(whole)]
        stray = np.concatenate([
            opening_at[~before[whole[opening_at - 1]]],
            closing_at[~after[whole[closing_at + 1]]],
        ])  # fmt: skip
        if len(stray):
            raise DataError(
                f"{source.path}, line {_line_of(data, int(stray.min()))}: a quotation mark inside "
                "a cell.",
                fix='Put the cell in quotation marks and double the one inside: "5"" pipe".',
            )
        seen += len(at)
        last = int(opening[-1]) if len(opening) else last
    if seen % 2:
        raise DataError(
            f"{source.path}, line {_line_of(data, last)}: a quotation mark is never closed.",
            fix="Close the cell with a quotation mark.",
        )


def _records(data: bytes, separator: int) -> _Records:
    ends: list[npt.NDArray[np.int64]] = []
    cells: list[npt.NDArray[np.int64]] = []
    quoted, pending = 0, 0
    has_quotes = b'"' in data
    for start, block in _blocks(data):
        at_end, at_separator = block == _NEWLINE, block == separator
        if has_quotes:
            marks = np.cumsum(block == _QUOTE, dtype=np.uint8) + np.uint8(quoted)
            outside = (marks & 1) == 0
            at_end &= outside
            at_separator &= outside
            quoted = int(marks[-1]) & 1
        end, separators = np.flatnonzero(at_end), np.flatnonzero(at_separator)
        until = np.searchsorted(separators, end)
        cells.append(np.diff(until, prepend=-pending) + 1)
        pending = len(separators) - (int(until[-1]) if len(until) else -pending)
        ends.append(end + start)
    if not data.endswith(b"\n"):
        ends.append(np.array([len(data)]))
        cells.append(np.array([pending + 1]))
    all_ends = np.concatenate(ends)
    starts = np.concatenate([[0], all_ends[:-1] + 1])
    whole = np.frombuffer(data, dtype=np.uint8)
    lengths = all_ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (whole[starts.clip(max=len(whole) - 1)] == _RETURN))
    return _Records(all_ends, np.concatenate(cells), blank)


def _header(data: bytes, records: _Records, source: Csv) -> list[str]:
    text = data[: int(records.ends[0])].decode()
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=source.separator), [])
    if not names:
        raise DataError(
            f"{source.path}, line 1 is blank.", fix="The first line must name the columns."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{source.path} names a column twice: {', '.join(twice[:5])}.",
            fix="Rename one of them in the file.",
        )
    return names


def _check_cells(data: bytes, records: _Records, expected: int, source: Csv) -> None:
    wrong = np.flatnonzero((records.cells != expected) & ~records.blank)
    if not len(wrong):
        return
    first = int(wrong[0])
    start = int(records.ends[first - 1]) + 1
    text = data[start : min(int(records.ends[first]), start + 400)].decode(errors="replace")
    more = f" ({len(wrong)} such lines)" if len(wrong) > 1 else ""
    raise DataError(
        f"{source.path}, line {_line_of(data, start)}: expected {expected} cells, got "
        f"{int(records.cells[first])}{more}: {text[:100]!r}.",
        fix=f"Correct the line, or say what stands between cells: separator={source.separator!r}.",
    )
