"""A table's id follows its values and schema, and nothing else."""

import io
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.data.identity import column_digests, column_types, table_id
from steelyard.errors import DataError


def id_of(table: pl.DataFrame) -> str:
    return table_id(table.height, column_types(table), column_digests(table))


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.UInt8: st.integers(0, 255),
    pl.Int128: st.integers(-(2**100), 2**100),
    pl.Float64: st.floats(),
    pl.Float32: st.floats(width=32),
    pl.Boolean: st.booleans(),
    pl.String: st.text(max_size=5),
    pl.Binary: st.binary(max_size=5),
    pl.Date: st.dates(),
    pl.Datetime("us"): st.datetimes(),
    pl.Decimal(20, 2): st.decimals(-1000, 1000, places=2),
    pl.List(pl.String): st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3),
    pl.Struct({"a": pl.Int64}): st.fixed_dictionaries(
        {"a": st.one_of(st.none(), st.integers(0, 3))}
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(1, 8))
    columns = {}
    for i in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(list(KINDS)))
        cell = st.one_of(st.none(), KINDS[dtype])
        values = draw(st.lists(cell, min_size=height, max_size=height))
        columns[f"c{i}"] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns)


@settings(deadline=None, max_examples=80)
@given(
    table=tables(),
    cut=st.integers(0, 8),
    compression=st.sampled_from(["zstd", "snappy", "uncompressed"]),
    rows=st.integers(1, 8),
)
def test_the_id_is_independent_of_chunks_parquet_and_column_order(
    table: pl.DataFrame, cut: int, compression: Any, rows: int
) -> None:
    expected = id_of(table)
    chunked = pl.concat([table[:cut], table[cut:]], rechunk=False)
    assert id_of(chunked) == expected
    assert id_of(table.select(table.columns[::-1])) == expected
    out = io.BytesIO()
    chunked.write_parquet(out, compression=compression, row_group_size=rows)
    assert id_of(pl.read_parquet(out.getvalue())) == expected


@settings(deadline=None, max_examples=80)
@given(table=tables(), data=st.data())
def test_another_cell_is_another_id(table: pl.DataFrame, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(table.columns))
    row = data.draw(st.integers(0, table.height - 1))
    dtype = table.schema[name]
    values = table[name].to_list()
    strategy = next(kind for known, kind in KINDS.items() if known == dtype)
    values[row] = data.draw(st.one_of(st.none(), strategy))
    changed = table.with_columns(pl.Series(name, values, dtype=dtype))
    same = table[name].equals(changed[name]) and str(table[name].to_list()) == str(values)
    assert (id_of(changed) == id_of(table)) == same


def variants() -> list[pl.DataFrame]:
    return [
        pl.DataFrame({"a": ["x", "yz"]}),
        pl.DataFrame({"a": ["xy", "z"]}),
        pl.DataFrame({"a": ["yz", "x"]}),
        pl.DataFrame({"b": ["x", "yz"]}),
        pl.DataFrame({"a": ["x", "yz", ""]}),
        pl.DataFrame({"a": ["x", "yz", None]}),
        pl.DataFrame({"a": ["x", "yz"], "b": [None, None]}),
        pl.DataFrame({"a": [1, 2]}),
        pl.DataFrame({"a": ["1", "2"]}),
        pl.DataFrame({"a": [1.0, 2.0]}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Int32}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Date}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Datetime("us")}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Datetime("ms")}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Datetime("us", "UTC")}),
        pl.DataFrame({"a": [0.0, 1.0]}),
        pl.DataFrame({"a": [-0.0, 1.0]}),
        pl.DataFrame({"a": [0.0, None]}),
        pl.DataFrame({"a": [False, True]}),
        pl.DataFrame({"a": [False, None]}),
        pl.DataFrame({"a": [[1], [2, 3]]}),
        pl.DataFrame({"a": [[1, 2], [3]]}),
        pl.DataFrame({"a": [[1, 2, 3], []]}),
        pl.DataFrame({"a": [[1, 2, 3], None]}),
        pl.DataFrame(),
    ]


def test_different_tables_have_different_ids() -> None:
    ids = [id_of(table) for table in variants()]
    assert len(set(ids)) == len(ids)


def test_every_nan_is_the_same_value() -> None:
    odd = pl.Series("a", [0x7FF8000000000001, 0xFFF8000000000000], dtype=pl.UInt64)
    nans = pl.DataFrame({"a": odd.reinterpret(signed=True).to_numpy().view("f8")})
    assert id_of(nans) == id_of(pl.DataFrame({"a": [float("nan")] * 2}))


def test_what_lies_under_a_null_does_not_count() -> None:
    hidden = pl.DataFrame({"a": ["x", "secret"], "n": [1, 2]}).with_columns(
        pl.when(pl.Series([True, False])).then(pl.all())
    )
    assert id_of(hidden) == id_of(pl.DataFrame({"a": ["x", None], "n": [1, None]}))


def test_ids_stay_as_they_were_released() -> None:
    """A changed constant here orphans every snapshot that a user has: count the format up."""
    table = pl.DataFrame(
        {
            "s": ["a", None, "ü"],
            "i": [1, None, -3],
            "f": [0.5, None, -0.0],
            "b": [True, None, False],
            "d": [date(2013, 1, 1), None, date(1969, 12, 31)],
            "t": [datetime(2013, 1, 1, 12), None, datetime(1969, 12, 31)],
        }
    )
    assert id_of(table) == "403221e15b28da06fc844f58b24bd453553a4ae7210bde88dabee79737360dca"


def test_objects_have_no_id() -> None:
    table = pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(DataError, match="column 'a' has the type Object"):
        column_types(table)
