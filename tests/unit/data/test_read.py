"""Reading: every source gives its table as it is, and says what is wrong where it cannot."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from steelyard.core.sources import Csv, Parquet, Python, Source, Sql
from steelyard.data.read import describe, read
from steelyard.errors import DataError


def test_csv_relative_to_the_definition(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.csv").write_text("a,b\n007,\n")
    assert read(Csv("data/t.csv"), tmp_path).rows() == [("007", None)]


@pytest.mark.parametrize(
    ("source", "message", "fix"),
    [
        (Csv("data/tables.csv"), "there is no file", "Did you mean table.csv?"),
        (Csv("dat/table.csv"), "does not exist", "relative to the definition"),
        (Csv("data"), "is a folder", "Name a file"),
        (Parquet("data/tables.parquet"), "there is no file", "table.csv"),
        (Parquet("data/*.parquet"), "no file matches", "pattern"),
        (Sql("SELECT * FROM t", tables={"t": "data/tabl.csv"}), "there is no file", "table.csv"),
        (Sql("SELECT 1", database="data/x.duckdb"), "there is no file", "table.csv"),
    ],
)
def test_a_missing_file_is_named_with_what_is_there(
    tmp_path: Path, source: Source, message: str, fix: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=message) as caught:
        read(source, tmp_path)
    assert fix in str(caught.value.fix)


def test_parquet_files_of_a_glob_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "with [brackets]"
    folder.mkdir()
    for name, values in {"b": [3], "a": [1, 2], ".hidden": [9]}.items():
        pl.DataFrame({"x": values, "y": "k"}).write_parquet(folder / f"{name}.parquet")
    assert read(Parquet("*.parquet"), folder)["x"].to_list() == [1, 2, 3]
    assert read(Parquet("b.parquet"), folder)["x"].to_list() == [3]
    absolute = pl.DataFrame({"x": [5]})
    (tmp_path / "plain").mkdir()
    absolute.write_parquet(tmp_path / "plain" / "a.parquet")
    assert read(Parquet(f"{tmp_path}/plain/*.parquet"), folder)["x"].to_list() == [5]


def test_parquet_files_that_differ_name_the_column(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1], "y": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"y": [1.5], "x": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"column 'y': Int64 in a\.parquet, Float64 in b\.parquet"):
        read(Parquet("*.parquet"), tmp_path)
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"column 'y': Int64 in a\.parquet, absent in b\.parquet"):
        read(Parquet("*.parquet"), tmp_path)


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(Parquet("a.parquet"), tmp_path)


COLUMNS = {
    "n": [1, None, 3],
    "x": [1.5, 2.0, None],
    "s": ["a", "b", None],
    "b": [True, False, True],
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: pl.DataFrame(COLUMNS),
        lambda: pl.LazyFrame(COLUMNS),
        lambda: pa.table(COLUMNS),
        lambda: pa.table(COLUMNS).to_reader(),
        lambda: COLUMNS,
    ],
)
def test_tables_that_a_function_may_return(make: Callable[[], Any], tmp_path: Path) -> None:
    found = read(Python(make), tmp_path)
    assert found.to_dict(as_series=False) == COLUMNS
    assert found.dtypes == [pl.Int64, pl.Float64, pl.String, pl.Boolean]


def test_pandas_writes_null_as_nan(tmp_path: Path) -> None:
    frame = pd.DataFrame(COLUMNS | {"at": pd.to_datetime(["2013-01-01", None, "2013-01-02"])})
    frame["c"] = pd.Categorical(["u", None, "v"])
    found = read(Python(lambda: frame), tmp_path)
    assert found["n"].to_list() == [1.0, None, 3.0]
    assert found["x"].to_list() == [1.5, 2.0, None]
    assert found["c"].to_list() == ["u", None, "v"]
    assert found["c"].dtype == pl.String
    assert found["at"].to_list() == [datetime(2013, 1, 1), None, datetime(2013, 1, 2)]


def test_integers_may_stand_among_floats(tmp_path: Path) -> None:
    found = read(Python(lambda: {"x": [1, 2.5, None]}), tmp_path)
    assert found["x"].to_list() == [1.0, 2.5, None]


def _fails() -> None:
    raise KeyError("price")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_fails, "_fails raised KeyError: 'price'"),
        (lambda: 5, "returned int, which is no table"),
        (lambda: {"a": [1, "x"]}, "no table: unexpected value"),
        (lambda: {"a": [True, 1]}, "no table: unexpected value"),
        (lambda: {"a": [1, 2], "b": [1]}, "does not match height"),
        (lambda: {1: [1]}, "no table"),
        (lambda: {"a": [object()]}, "column 'a' holds Python objects"),
        (lambda: pd.DataFrame({0: [1]}), "column names must be strings"),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), "each once"),
        (lambda: pd.DataFrame({"a": [1, "x"]}), "no table"),
    ],
)
def test_a_function_that_gives_no_table(
    make: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(Python(make), tmp_path)
    assert caught.value.fix


def test_zoned_times_become_utc(tmp_path: Path) -> None:
    at = pl.Series([datetime(2013, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin")
    [found] = read(Python(lambda: {"at": at}), tmp_path)["at"].to_list()
    assert found == datetime(2013, 7, 1, 10, tzinfo=UTC)
    assert found.tzinfo.key == "UTC"


def test_a_source_in_one_line() -> None:
    assert describe(Parquet("a/*.parquet")) == "parquet a/*.parquet"
    assert describe(Sql("SELECT *\n  FROM t")) == "sql SELECT * FROM t"
    assert describe(Python(_fails)) == "python _fails"
