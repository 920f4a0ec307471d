"""From a source declaration to the table as read, and the files that it was read from."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from steelyard.core.sources import Csv, Parquet, Python, Source, Sql
from steelyard.data.csv_text import csv_bytes, parse_csv
from steelyard.data.sql import run_sql
from steelyard.errors import DataError, nearest

__all__ = ["READING", "describe", "find_file", "read", "source_files"]

READING: Final = 1
"""Counts up when the same bytes would be read as another table."""


def describe(source: Source) -> str:
    """Return a source in one line, as the definition gives it.

    >>> describe(Csv("data/telco.csv"))
    'csv data/telco.csv'
    """
    match source:
        case Csv() | Parquet():
            return f"{type(source).__name__.lower()} {source.path}"
        case Sql():
            return f"sql {' '.join(source.query.split())}"
        case Python():
            return f"python {getattr(source.function, '__qualname__', type(source.function))}"


def read(source: Source, folder: Path) -> pl.DataFrame:
    """Return the table as the source gives it; relative paths start at `folder`.

    CSV columns are all strings, null where the cell is empty; other sources keep their types, with
    categories as strings and zoned times in UTC. Raises DataError for a missing file, a malformed
    line, a query or function that fails, and a column that is no column of values.
    """
    return _settled(_read(source, folder))


def _read(source: Source, folder: Path) -> pl.DataFrame:
    match source:
        case Csv():
            [path] = source_files(source, folder)
            return parse_csv(csv_bytes(path), source)
        case Parquet():
            return _read_parquet(source_files(source, folder), source)
        case Sql():
            tables = {name: find_file(folder, path) for name, path in source.tables.items()}
            database = find_file(folder, source.database) if source.database else None
            return run_sql(source.query, tables, database, folder)
        case Python():
            return _call(source)


def source_files(source: Csv | Parquet, folder: Path) -> list[Path]:
    """Return the files of a file source, in the order in which their rows stand."""
    if isinstance(source, Parquet) and glob.has_magic(source.path):
        literal = folder / source.path
        if not literal.is_file():
            return _matching(source.path, folder)
    return [find_file(folder, source.path)]


def _matching(pattern: str, folder: Path) -> list[Path]:
    # Only the pattern is a pattern: the folder's own name may hold brackets.
    rooted = str(Path(glob.escape(str(folder))) / pattern)
    found = glob.glob(rooted, recursive=True)  # noqa: PTH207  # Path.glob takes hidden files too
    files = sorted(path for path in map(Path, found) if path.is_file())
    if not files:
        raise DataError(f"no file matches {pattern} in {folder}.", fix="Correct the pattern.")
    return files


def find_file(folder: Path, path: str) -> Path:
    """Return the file that a definition in `folder` names; DataError with the nearest names."""
    file = folder / path
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f"{file} is a folder, expected a file.", fix="Name a file in it.")
    parent = file.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    if parent != file.parent:
        raise DataError(
            f"there is no {file}: the folder {file.parent} does not exist.",
            fix="Paths are relative to the definition's file.",
        )
    names = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    raise DataError(f"there is no file {file}.", fix=nearest(file.name, names))


def _read_parquet(files: Sequence[Path], source: Parquet) -> pl.DataFrame:
    tables: list[pl.DataFrame] = []
    for file in files:
        try:
            table = pl.read_parquet(file, glob=False, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{file} cannot be read as Parquet: {error}", fix="Write it anew, or use sy.Csv."
            ) from error
        if tables and dict(table.schema) != dict(tables[0].schema):
            name = next(
                name
                for name in [*tables[0].columns, *table.columns]
                if table.schema.get(name) != tables[0].schema.get(name)
            )
            raise DataError(
                f"the files of {source.path} differ in column {name!r}: "
                f"{tables[0].schema.get(name, 'absent')} in {files[0].name}, "
                f"{table.schema.get(name, 'absent')} in {file.name}.",
                fix="Write all files with the same columns.",
            )
        tables.append(table.select(tables[0].columns) if tables else table)
    return pl.concat(tables)


def _call(source: Python) -> pl.DataFrame:
    try:
        result = source.function()
    except Exception as error:  # the function is the user's: it may raise anything
        raise DataError(
            f"{describe(source)} raised {type(error).__name__}: {error}",
            fix="Call the function by itself to see where.",
        ) from error
    try:
        return _table_of(result)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{describe(source)} returned {type(result).__name__}, which is no table: {error}",
            fix="Give each column values of one type and all columns the same length.",
        ) from error


def _table_of(result: Any) -> pl.DataFrame:
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, pl.LazyFrame):
        return result.collect()
    if isinstance(result, Mapping):
        return pl.DataFrame({name: _column_of(name, values) for name, values in result.items()})
    if type(result).__module__.split(".")[0] == "pandas" and hasattr(result, "columns"):
        names = list(result.columns)
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise TypeError(f"column names must be strings, each once; got {names[:10]}")
        table = pl.from_pandas(result)  # NaN is how pandas writes null
        assert isinstance(table, pl.DataFrame)
        return table
    if hasattr(result, "__arrow_c_stream__"):
        return pl.DataFrame(result)
    raise TypeError("expected Polars, pandas, Arrow or a dict of lists")


def _column_of(name: str, values: Any) -> Any:
    """Let integers stand among floats, as they may everywhere; refuse other mixtures as Polars does."""
    if not isinstance(values, (list, tuple)):
        return values
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    return pl.Series(name, values)


def _settled(table: pl.DataFrame) -> pl.DataFrame:
    """Drop what is storage and not value: categories become strings, zoned times become UTC."""
    changed: list[pl.Expr] = []
    for name, dtype in table.schema.items():
        if dtype == pl.Object:
            raise DataError(
                f"column {name!r} holds Python objects.",
                fix="Make it numbers, strings, booleans, dates or datetimes, or leave it out.",
            )
        if isinstance(dtype, (pl.Categorical, pl.Enum)):
            changed.append(pl.col(name).cast(pl.String))
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
            changed.append(pl.col(name).dt.convert_time_zone("UTC"))
    return table.with_columns(changed) if changed else table
