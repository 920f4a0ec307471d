"""A query over files or a database by DuckDB, with the rows in one order whatever the machine."""

import json
from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl

from steelyard.core.sources import Csv
from steelyard.data.csv_text import csv_bytes, parse_csv, with_numbers
from steelyard.errors import DataError

__all__ = ["run_sql"]

# One thread: sums of floats, LIMIT without ORDER BY and ties within ORDER BY all depend on which
# thread is done first, and each of them would change the snapshot from run to run.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "TimeZone": "UTC",
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
}


def run_sql(
    query: str, tables: Mapping[str, Path], database: Path | None, folder: Path
) -> pl.DataFrame:
    """Return the rows of one SELECT over `tables` (name -> CSV or Parquet file).

    Columns of a CSV are numbers where all of their cells are, else text: the query casts what it
    needs. CSV cells are separated by commas (tabs in .tsv files); a query may call read_csv itself
    for others. The database file is opened read-only.
    Without an outer ORDER BY the rows are sorted by all columns in their order. Raises DataError
    with DuckDB's words when the query fails.
    """
    try:
        place = str(database) if database else ":memory:"
        with duckdb.connect(place, read_only=database is not None, config=_SETTINGS) as connection:
            _one_select(connection, query)
            search = str(folder).replace("'", "''")
            connection.execute(f"SET file_search_path = '{search}'").fetchall()
            for name, path in tables.items():
                _add_table(connection, name, path)
            relation = connection.sql(query)
            _check_names(relation.columns)
            table = relation.pl()
            ordered = _is_ordered(connection, query)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"the query failed: {str(error).strip()}",
            fix="Correct the query in the definition's sy.Sql.",
        ) from error
    return table if ordered else _sorted(table)


def _one_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    kinds = [statement.type for statement in connection.extract_statements(query)]
    if kinds != [duckdb.StatementType.SELECT]:
        names = ", ".join(kind.name for kind in kinds) or "nothing"
        raise DataError(
            f"expected one SELECT, got {names}.", fix="Leave one SELECT in the definition's sy.Sql."
        )


def _add_table(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    if path.suffix in (".parquet", ".pq"):
        quoted, literal = name.replace('"', '""'), str(path).replace("'", "''")
        # Both come from the definition, which may run any query anyway, and are quoted.
        view = f"CREATE TEMP VIEW \"{quoted}\" AS SELECT * FROM read_parquet('{literal}')"  # noqa: S608
        connection.execute(view).fetchall()
        return
    # Not DuckDB's own reader, whose guesses are silent errors: 22/01/11 becomes a day of the year
    # 22, Yes and No become booleans, and lines at the top or after a # may be left out.
    source = Csv(str(path), separator="\t" if path.suffix == ".tsv" else ",")
    connection.register(name, with_numbers(parse_csv(csv_bytes(path), source)))


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the query returns a column twice: {', '.join(twice[:5])}.",
            fix=f"Name them apart: SELECT a.{twice[0]} AS other_{twice[0]}, ...",
        )


def _is_ordered(connection: duckdb.DuckDBPyConnection, query: str) -> bool:
    """Whether the outermost query says ORDER BY; one inside a subquery orders nothing outside."""
    [[text]] = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    document = json.loads(text)
    if document["error"]:
        return False
    modifiers = document["statements"][0]["node"]["modifiers"]
    return any(modifier["type"] == "ORDER_MODIFIER" for modifier in modifiers)


def _sorted(table: pl.DataFrame) -> pl.DataFrame:
    nested = [name for name, dtype in table.schema.items() if dtype.is_nested()]
    plain = [name for name in table.columns if name not in nested]
    if nested or not plain:
        keys = table.with_columns(
            pl.Series(name, [repr(value) for value in table[name].to_list()]) for name in nested
        )
        return table[keys.with_row_index("").sort(table.columns, maintain_order=True)[""].to_list()]
    return table.sort(plain, maintain_order=True)
