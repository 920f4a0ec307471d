"""Where a model's table comes from. Declarations only: reading them is the data stage's work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Csv", "Parquet", "Python", "Source", "Sql"]


@dataclass(frozen=True, slots=True)
class Csv:
    """A CSV file with a header line; an empty cell is null. The path is relative to the definition.

    `nulls` lists further spellings of null. Values are read as the row's types say; nothing is
    guessed from the first lines.
    """

    path: str
    separator: str = ","
    nulls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parquet:
    """A Parquet file, or a glob of several with the same columns."""

    path: str


@dataclass(frozen=True, slots=True)
class Sql:
    """A query that DuckDB runs; `tables` names files (CSV, Parquet) that the query may use.

    `database` is a DuckDB file to open read-only. Without an ORDER BY the rows are put in an order
    of their own, so that the same rows are the same snapshot.
    """

    query: str
    tables: Mapping[str, str] = field(default_factory=dict)
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Python:
    """A function without arguments that returns a table: Polars, pandas, Arrow, or dict of lists."""

    function: Callable[[], Any]


Source = Csv | Parquet | Sql | Python
