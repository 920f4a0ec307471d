"""Snapshots: one copy a content, whole or absent, checked when opened."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest

from steelyard.core.sources import Csv, Parquet, Python, Source
from steelyard.data import snapshot
from steelyard.data.read import read
from steelyard.data.snapshot import open_snapshot, take_snapshot
from steelyard.errors import DataError, IntegrityError, NotFoundError

SOURCE = Csv("t.csv")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},x{i % 7}\n" for i in range(500)))
    return tmp_path


def kept(place: Path) -> list[str]:
    names = [path.name for path in (place / "snap").glob("*")]
    return sorted(name for name in names if re.fullmatch("[0-9a-f]{64}", name))


def test_what_is_opened_is_what_was_read(place: Path) -> None:
    taken = take_snapshot(SOURCE, place, place / "snap")
    found, table = open_snapshot(place / "snap", taken.id)
    assert found == taken
    assert taken.rows == table.height == 500
    assert taken.columns == {"a": "string", "b": "string"}
    assert taken.source == "csv t.csv"
    assert table["b"].to_list()[:8] == ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x0"]


def test_unchanged_input_is_neither_parsed_nor_copied_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_snapshot(SOURCE, place, place / "snap")
    stamps = {p: p.stat().st_mtime_ns for p in taken.path.iterdir()}
    os.utime(place / "t.csv", (1, 1))
    monkeypatch.setattr(snapshot, "read", None)  # would raise if it were called
    assert take_snapshot(SOURCE, place, place / "snap") == taken
    shutil.copy(place / "t.csv", place / "elsewhere.csv")
    again = take_snapshot(Csv("elsewhere.csv"), place, place / "snap")
    assert (again.id, again.source) == (taken.id, "csv elsewhere.csv")
    assert kept(place) == [taken.id]
    assert {p: p.stat().st_mtime_ns for p in taken.path.iterdir()} == stamps


def test_the_same_values_from_elsewhere_are_the_same_snapshot(place: Path) -> None:
    taken = take_snapshot(SOURCE, place, place / "snap")
    table = open_snapshot(place / "snap", taken.id)[1]
    table.select("b", "a").write_parquet(place / "t.parquet", row_group_size=37)
    sources: list[Source] = [
        Parquet("t.parquet"),
        Python(lambda: table),
        Csv("t.csv", nulls=("?",)),
    ]
    assert {take_snapshot(source, place, place / "snap").id for source in sources} == {taken.id}
    assert kept(place) == [taken.id]


@pytest.mark.parametrize("size", [0, 1])
def test_changed_content_of_the_same_size_and_time_is_another_snapshot(
    place: Path, size: int
) -> None:
    before = take_snapshot(SOURCE, place, place / "snap")
    stat = (place / "t.csv").stat()
    text = (place / "t.csv").read_text()
    (place / "t.csv").write_text(text.replace("17,x3", "18,x3" if size == 0 else "17,x33"))
    os.utime(place / "t.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = take_snapshot(SOURCE, place, place / "snap")
    assert after.id != before.id
    assert kept(place) == sorted([before.id, after.id])


def test_another_reading_of_the_same_bytes_is_another_snapshot(place: Path) -> None:
    first = take_snapshot(SOURCE, place, place / "snap")
    other = take_snapshot(Csv("t.csv", nulls=("x3",)), place, place / "snap")
    assert other.id != first.id
    assert open_snapshot(place / "snap", other.id)[1]["b"].null_count() == 71


def test_the_index_is_not_believed_without_the_snapshot(place: Path) -> None:
    taken = take_snapshot(SOURCE, place, place / "snap")
    shutil.rmtree(taken.path)
    assert take_snapshot(SOURCE, place, place / "snap") == taken
    open_snapshot(place / "snap", taken.id)
    [index] = (place / "snap" / "index").iterdir()
    for wrong in (b"", b"\xff\xfe", b"0" * 64, b"../../etc"):
        index.write_bytes(wrong)
        assert take_snapshot(SOURCE, place, place / "snap") == taken


def test_a_file_that_changes_while_it_is_read_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_append(source: Source, folder: Path) -> pl.DataFrame:
        table = read(source, folder)
        with (folder / "t.csv").open("a") as file:
            file.write("501,x\n")
        return table

    monkeypatch.setattr(snapshot, "read", read_and_append)
    with pytest.raises(DataError, match="changed while it was read"):
        take_snapshot(SOURCE, place, place / "snap")
    assert not (place / "snap").exists()


@pytest.mark.parametrize("name", ["table.parquet", "meta.json"])
def test_a_flipped_byte_anywhere_is_refused_with_the_file_named(place: Path, name: str) -> None:
    taken = take_snapshot(SOURCE, place, place / "snap")
    path = taken.path / name
    whole = path.read_bytes()
    for at in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(IntegrityError, match=re.escape(str(path))):
            open_snapshot(place / "snap", taken.id)
    for cut in (b"", whole[: len(whole) // 2], whole + b" \n"[: name == "table.parquet"]):
        path.write_bytes(cut)
        if cut != whole:
            with pytest.raises(IntegrityError, match=re.escape(str(path))):
                open_snapshot(place / "snap", taken.id)
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        open_snapshot(place / "snap", taken.id)


def test_another_whole_snapshot_in_its_place_is_refused(place: Path) -> None:
    first = take_snapshot(SOURCE, place, place / "snap")
    second = take_snapshot(Csv("t.csv", nulls=("x3",)), place, place / "snap")
    shutil.copy(second.path / "table.parquet", first.path / "table.parquet")
    with pytest.raises(IntegrityError, match=r"table\.parquet"):
        open_snapshot(place / "snap", first.id)
    shutil.copy(second.path / "meta.json", first.path / "meta.json")
    with pytest.raises(IntegrityError, match=r"meta\.json"):
        open_snapshot(place / "snap", first.id)


@pytest.mark.parametrize("name", ["0" * 64, "0" * 63, "../t.csv", ""])
def test_a_snapshot_that_is_not_there(place: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="there is no snapshot"):
        open_snapshot(place, name)


# Dies as by a power cut, at the n-th look at the file system below the snapshots.
TAKE = """
import os, signal, sys
from pathlib import Path
from steelyard.core.sources import Csv
from steelyard.data.snapshot import take_snapshot
import polars, steelyard.data.read
place, left = Path(sys.argv[1]), int(sys.argv[2])
def watch(event, arguments):
    global left
    if event.partition(".")[0] in ("open", "os", "shutil") and "snap" in str(arguments[:2]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
print(take_snapshot(Csv("t.csv"), place, place / "snap").id)
"""


def check_after_death(place: Path, expected: str) -> None:
    """What is visible is whole, and a rerun ends as if nothing had happened."""
    for name in kept(place):
        assert open_snapshot(place / "snap", name)[0].id == expected
    assert take_snapshot(SOURCE, place, place / "snap").id == expected
    assert open_snapshot(place / "snap", expected)[0].id == expected
    assert list((place / "snap").rglob(".aside-*")) == []


def die_at(place: Path, points: Iterable[int]) -> list[int]:
    """Take the snapshot in processes killed at each point; return the points that were met."""
    expected = take_snapshot(SOURCE, place, place / "reference").id
    met: list[int] = []
    for point in points:
        shutil.rmtree(place / "snap", ignore_errors=True)
        run = subprocess.run(
            [sys.executable, "-c", TAKE, str(place), str(point)], capture_output=True, check=False
        )
        assert run.returncode in (0, -signal.SIGKILL), run.stderr.decode()
        met += [point] if run.returncode else []
        check_after_death(place, expected)
    return met


def test_killed_while_it_is_taken_nothing_half_is_seen(place: Path) -> None:
    # Table written; before and after the rename; index written aside.
    points = [4, 11, 12, 15]
    assert die_at(place, points) == points


@pytest.mark.long
def test_killed_anywhere_nothing_half_is_seen(place: Path) -> None:
    met = die_at(place, range(1, 40))
    assert met == list(range(1, len(met) + 1))
    assert len(met) >= 18


@pytest.mark.long
def test_killed_at_any_time_nothing_half_is_seen(place: Path) -> None:
    lines = "".join(f"{i},x{i % 7}\n" for i in range(400_000))
    (place / "t.csv").write_text("a,b\n" + lines)
    expected = take_snapshot(SOURCE, place, place / "reference").id
    command = [sys.executable, "-c", TAKE, str(place), "1000000"]
    started = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    whole = time.monotonic() - started
    generator = random.Random(11)
    for _ in range(30):
        shutil.rmtree(place / "snap", ignore_errors=True)
        run = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(whole * generator.uniform(0.3, 1.0))
        run.kill()
        run.communicate()
        check_after_death(place, expected)


def test_processes_at_once_end_in_one_snapshot(place: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(place), "100000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    found = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], found
    [name] = kept(place)
    assert {out.decode().strip() for out, _ in found} == {name}
    assert open_snapshot(place / "snap", name)[1].height == 500
    assert list((place / "snap").rglob(".aside-*")) == []
