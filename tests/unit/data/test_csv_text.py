"""CSV text: every line is a row or an error with its number."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.sources import Csv
from steelyard.data import csv_text
from steelyard.data.csv_text import csv_bytes, parse_csv
from steelyard.errors import DataError, DefinitionError

SOURCE = Csv("t.csv", nulls=("NA",))
CELLS = st.text(
    st.one_of(st.sampled_from("a\",;\n\r 'é😀"), st.characters(exclude_categories=["Cs"])),
    max_size=6,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    width = draw(st.integers(2, 4))
    names = [f"c{i}" for i in range(width)]
    row = st.lists(CELLS, min_size=width, max_size=width)
    return names, draw(st.lists(row, max_size=6))


def written(names: list[str], rows: list[list[str]], *, quoting: int = 0, end: str = "\n") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(names)
    writer.writerows(rows)
    return out.getvalue().encode()


@settings(deadline=None, max_examples=150)
@given(
    table=tables(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    last_end=st.booleans(),
    block=st.sampled_from([1, 7, 1 << 24]),
)
def test_what_a_csv_library_wrote_is_read_back(
    table: tuple[list[str], list[list[str]]], quoting: int, end: str, last_end: bool, block: int
) -> None:
    names, rows = table
    if any("\r" in cell for row in rows for cell in row):
        quoting = csv.QUOTE_ALL  # Python's writer leaves a lone \r without marks
    data = written(names, rows, quoting=quoting, end=end)
    data = data if last_end else data.removesuffix(end.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "_BLOCK", block)
        found = parse_csv(data, SOURCE)
    expected = [tuple(None if cell in ("", "NA") else cell for cell in row) for row in rows]
    assert found.columns == names
    assert found.rows() == expected


@settings(deadline=None, max_examples=60)
@given(table=tables(), at=st.integers(0, 5), longer=st.booleans())
def test_a_line_with_a_cell_too_many_or_too_few_is_named(
    table: tuple[list[str], list[list[str]]], at: int, longer: bool
) -> None:
    names, rows = table
    names = [*names, "last"]
    rows = [[*row, "x"] for row in rows] or [["x"] * len(names)]
    rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    at %= len(rows)
    rows[at] = [*rows[at], "y"] if longer else rows[at][:-1]
    before = written(names, rows[:at])
    with pytest.raises(
        DataError, match=f"line {before.count(10) + 1}: expected {len(names)} cells"
    ):
        parse_csv(written(names, rows), SOURCE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\na,b\n1,2\n", "line 1 is blank"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1: '3'"),
        (b"a,b\n1,2,3\n4,5,6\n", r"line 2: expected 2 cells, got 3 \(2 such lines\)"),
        (b'a,b\n5" pipe,x\n"y",z\n', "line 2: a quotation mark inside a cell"),
        (b'a,b\n1,2\n"y"k,z\n', "line 3: a quotation mark inside a cell"),
        (b'a,b\n1,2\n"y,z\n1,2\n', "line 3: a quotation mark is never closed"),
        (b'a,b\n1,"', "line 2: a quotation mark is never closed"),
        (b"a,b,a\n1,2,3\n", "names a column twice: a"),
        (b"a,b\n1,2\n3,\xff\n", "line 3: not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,b\r1,2\r3,4\r", "carriage return"),
    ],
)
def test_what_is_no_csv_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse_csv(data, SOURCE)
    assert "t.csv" in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (b"\xef\xbb\xbfa,b\n1,2\n", {"a": ["1"], "b": ["2"]}),
        (b"a,b\n1,2\n\n3,4\n\n\n", {"a": ["1", "3"], "b": ["2", "4"]}),
        (b"a,b\r\n\r\n1,2\r\n", {"a": ["1"], "b": ["2"]}),
        (b"a,b\n,\n", {"a": [None], "b": [None]}),
        (b'a,b\n"","NA"\n', {"a": [None], "b": [None]}),
        (b"a\n1\n\n3\n", {"a": ["1", None, "3"]}),
        (b"a,b\n", {"a": [], "b": []}),
        (b"a,b", {"a": [], "b": []}),
        (b",a\n1,2\n", {"": ["1"], "a": ["2"]}),
        (b'"a\nb",c\n 1 ,2\n', {"a\nb": [" 1 "], "c": ["2"]}),
    ],
)
def test_what_is_allowed(data: bytes, columns: dict[str, list[str | None]]) -> None:
    found = parse_csv(data, SOURCE)
    assert found.to_dict(as_series=False) == columns
    assert set(found.dtypes) == {pl.String}


def test_another_separator() -> None:
    found = parse_csv(b'a;b\n1,5;"x;y"\n', Csv("t.csv", separator=";"))
    assert found.to_dict(as_series=False) == {"a": ["1,5"], "b": ["x;y"]}
    with pytest.raises(DefinitionError, match="separator"):
        parse_csv(b"a,b\n", Csv("t.csv", separator="::"))


def test_a_large_file_with_line_ends_in_cells_is_read_whole() -> None:
    rows = [[str(i), f'line\n"{i}"', ""] for i in range(60_000)]
    found = parse_csv(written(["a", "b", "c"], rows), SOURCE)
    assert found["a"].to_list() == [row[0] for row in rows]
    assert found["b"].to_list() == [row[1] for row in rows]


def test_packed_files(tmp_path: Path) -> None:
    data = b"a,b\n1,2\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("t.csv", data)
        archive.writestr("__MACOSX/t.csv", b"x")
    assert csv_bytes(tmp_path / "t.csv.gz") == data
    assert csv_bytes(tmp_path / "t.csv.zip") == data


def test_packed_files_that_cannot_be_used(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", b"a\n")
        archive.writestr("b.csv", b"b\n")
    with pytest.raises(DataError, match=r"holds 2 files.*a\.csv, b\.csv"):
        csv_bytes(tmp_path / "two.zip")
    for name in ("broken.zip", "broken.gz"):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(DataError, match="cannot be unpacked"):
            csv_bytes(tmp_path / name)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a,b\n" * 99)[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        csv_bytes(tmp_path / "cut.gz")
