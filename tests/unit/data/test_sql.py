"""SQL over DuckDB: typed columns, and one order of rows whatever order the file or machine has."""

import json
import random
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from steelyard.core.sources import Sql
from steelyard.data.identity import column_digests
from steelyard.data.read import read
from steelyard.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = random.Random(3)
    rows = [
        f"{generator.randrange(40)},{generator.uniform(-1e6, 1e6)!r},2013-01-{i % 28 + 1:02d},0{i}x"
        for i in range(5000)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["g,x,day,code", *rows]) + "\n")
    generator.shuffle(rows)
    (tmp_path / "shuffled.csv").write_text("\n".join(["g,x,day,code", *rows]) + "\n")
    return tmp_path


def test_numbers_are_inferred_over_the_whole_file_and_nothing_else_is(tmp_path: Path) -> None:
    lines = ["1,1,01/02/11,Yes,007,;,2013-01-01"] * 30_000
    lines += ["1.5,x,22/01/11,No,008,;,2013-01-02"]
    (tmp_path / "t.csv").write_text("n,late,day,flag,code,mark,iso\n" + "\n".join(lines) + "\n")
    found = read(Sql("SELECT * FROM t ORDER BY n", tables={"t": "t.csv"}), tmp_path)
    assert found.rows()[-1] == (1.5, "x", "22/01/11", "No", "008", ";", "2013-01-02")
    assert found.dtypes == [pl.Float64, *[pl.String] * 6]


def test_a_table_of_text_keeps_its_header_and_its_nulls(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\nx,""\n#y,"p""q,r"\n')
    (tmp_path / "u.tsv").write_text("a\tb\nx\t1,5\n")
    query = "SELECT t.*, u.b AS c FROM t LEFT JOIN u USING (a)"
    found = read(Sql(query, tables={"t": "t.csv", "u": "u.tsv"}), tmp_path)
    assert found.rows() == [("#y", 'p"q,r', None), ("x", None, "1,5")]


@pytest.mark.parametrize("line", ["1", "1,2,3", '1,"2'])
def test_a_malformed_line_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.csv").write_text(f"a,b\n1,2\n{line}\n4,5\n")
    with pytest.raises(DataError, match="line 3"):
        read(Sql("SELECT * FROM t", tables={"t": "t.csv"}), tmp_path)


def test_tables_of_both_formats_and_a_database_are_joined(tmp_path: Path) -> None:
    (tmp_path / "it's.csv").write_text("k,a\n1,x\n2,y\n")
    pl.DataFrame({"k": [1, 2], "b": [10, 20]}).write_parquet(tmp_path / "b.parquet")
    with duckdb.connect(str(tmp_path / "d.duckdb")) as connection:
        connection.execute("CREATE TABLE c AS SELECT 2 AS k, true AS flag").fetchall()
    before = (tmp_path / "d.duckdb").read_bytes()
    query = 'SELECT a, b, flag FROM "my table" JOIN b USING (k) LEFT JOIN c USING (k)'
    tables = {"my table": "it's.csv", "b": "b.parquet"}
    found = read(Sql(query, tables=tables, database="d.duckdb"), tmp_path)
    assert found.rows() == [("x", 10, None), ("y", 20, True)]
    assert (tmp_path / "d.duckdb").read_bytes() == before


def test_without_order_by_the_same_rows_are_the_same_table(folder: Path) -> None:
    tables = [
        read(Sql("SELECT * FROM t", tables={"t": name}), folder)
        for name in ("t.csv", "shuffled.csv")
    ]
    assert tables[0].equals(tables[1])
    assert tables[0]["g"].is_sorted()


def test_order_by_is_kept_and_one_inside_does_not_count(folder: Path) -> None:
    tables = {"t": "t.csv"}
    outer = read(Sql("SELECT code, x FROM t ORDER BY x DESC", tables=tables), folder)
    assert outer["x"].is_sorted(descending=True)
    inner = read(Sql("SELECT code FROM (FROM t ORDER BY x DESC)", tables=tables), folder)
    assert inner["code"].is_sorted()


QUERIES = [
    "SELECT g, sum(x) AS total, avg(x) AS mean FROM t GROUP BY g",  # sums of floats
    "SELECT code FROM t LIMIT 100",  # which rows
    "SELECT g, code FROM t ORDER BY g",  # ties
    "SELECT g, [x, x] AS pair FROM t",  # a column that has no order of its own
]


def test_a_query_gives_the_same_rows_in_every_process(folder: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path\n"
        "from steelyard.core.sources import Sql; from steelyard.data.read import read\n"
        "from steelyard.data.identity import column_digests\n"
        "tables = [read(Sql(q, tables={'t': 't.csv'}), Path(sys.argv[1])) for q in sys.argv[2:]]\n"
        "print(json.dumps([column_digests(table) for table in tables]))\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(folder), *QUERIES], capture_output=True, check=True
    )
    for query, expected in zip(QUERIES, json.loads(other.stdout), strict=True):
        source = Sql(query, tables={"t": "t.csv"})
        assert [column_digests(read(source, folder)) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM t", 'column "nope" not found'),
        ("SELECT * FROM tt", "Table with name tt does not exist"),
        ("SELECT g, g FROM t", "returns a column twice: g"),
        ("CREATE TABLE x (a INT)", "expected one SELECT, got CREATE"),
        ("SELECT 1; SELECT 2", "expected one SELECT, got SELECT, SELECT"),
        ("", "expected one SELECT, got nothing"),
        ("SELECT INTERVAL 3 DAY AS i", "query failed"),
    ],
)
def test_a_query_that_cannot_be_used(folder: Path, query: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(Sql(query, tables={"t": "t.csv"}), folder)
    assert caught.value.fix


def test_a_query_sees_no_python_variable(folder: Path) -> None:
    some_frame = pl.DataFrame({"a": [1]})
    assert len(some_frame) == 1
    with pytest.raises(DataError, match="some_frame does not exist"):
        read(Sql("SELECT * FROM some_frame"), folder)


def test_the_machine_time_zone_does_not_matter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    query = "SELECT CAST(TIMESTAMPTZ '2013-01-01 12:00:00+00' AS TIMESTAMP) AS at"
    [found] = read(Sql(query), folder)["at"].to_list()
    assert found.hour == 12
