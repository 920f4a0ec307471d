"""Compaction loses nothing and doubles nothing, also when it is killed or everybody is at work."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time as clock
from datetime import timedelta
from pathlib import Path
from typing import IO

import polars as pl
import pytest

from steelyard.core.ids import floor_of
from steelyard.errors import StoreError, UsageError
from steelyard.predictions import Compaction, PredictionWriter, compact, read, read_segment, time_of
from steelyard.predictions.segment import FORMAT, Header, framed, header_line

DAY = 86_400_000
START = 1_790_000_000_000 // DAY * DAY


def _id(milliseconds: int, number: int = 0) -> str:
    return f"{floor_of(milliseconds)}-7000-8000-{number:012x}"


def _segment(folder: Path, name: str, payloads: list[bytes], tail: bytes = b"") -> Path:
    path = folder / "segments" / f"{name}-7.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = header_line(Header(FORMAT, "churn", 0, 7))
    path.write_bytes(header + b"".join(framed(payload) for payload in payloads) + tail)
    return path


def _three_days(folder: Path, make_payload) -> list[str]:
    """Make segments of three days, one over midnight, with doubles between two of them."""
    ids = [_id(START + hour * 3_600_000 + 17 * n, n) for hour in (1, 23, 24, 50) for n in range(5)]
    _segment(folder, _id(START), [make_payload(one) for one in ids[:7]])
    _segment(folder, _id(START + 1), [make_payload(one) for one in reversed(ids[5:15])])
    _segment(folder, _id(START + 2), [make_payload(one) for one in ids[14:]], tail=b"torn")
    return ids


def _ids(folder: Path, **options) -> list[str]:
    return [record.prediction_id for record in read(folder, **options)]


def _in_parquet(folder: Path) -> list[str]:
    files = sorted(folder.glob("parquet/day=*/*.parquet"))
    return [one for path in files for one in pl.read_parquet(path)["prediction_id"]]


def test_an_absent_log_compacts_to_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert compact(tmp_path / "nothing").segments == 0
    assert not (tmp_path / "nothing").exists()


def test_segments_become_sorted_parquet_by_day(tmp_path: Path, make_payload) -> None:
    ids = _three_days(tmp_path, make_payload)
    before = list(read(tmp_path))
    done = compact(tmp_path)
    assert (done.segments, done.records, done.dropped_bytes, done.damage) == (3, 20, 4, ())
    assert list(done.parquet) == sorted(tmp_path.glob("parquet/day=*/*.parquet"))
    assert [path.parent.name for path in done.parquet] == [
        f"day={time_of(_id(START + day * DAY)).date()}" for day in range(3)
    ]
    for path in done.parquet:
        day = path.parent.name.removeprefix("day=")
        table = pl.read_parquet(path, hive_partitioning=False)
        assert table["prediction_id"].is_sorted()
        assert {str(time_of(one).date()) for one in table["prediction_id"]} == {day}
    assert _in_parquet(tmp_path) == ids
    assert list(tmp_path.glob("segments/*")) == []
    assert list(read(tmp_path)) == before


def test_of_two_answers_with_one_id_the_later_counts_wherever_they_lie(
    tmp_path: Path, make_payload
) -> None:
    """A client that lost an answer asks again under the same id, perhaps another worker."""
    one, moment = _id(START), time_of(_id(START))
    late = make_payload(one, time=moment + timedelta(seconds=3), prediction="late")
    early = make_payload(one, time=moment, prediction="early")
    _segment(tmp_path, _id(START), [late])
    _segment(tmp_path, _id(START, 1), [early])
    assert [record.prediction for record in read(tmp_path)] == ["late"]
    compact(tmp_path)
    _segment(tmp_path, _id(START, 2), [early])
    assert [record.prediction for record in read(tmp_path)] == ["late"]
    compact(tmp_path)
    assert [record.prediction for record in read(tmp_path)] == ["late"]


def test_a_second_compaction_finds_nothing_to_do(tmp_path: Path, make_payload) -> None:
    _three_days(tmp_path, make_payload)
    files = {path: path.read_bytes() for path in compact(tmp_path).parquet}
    again = compact(tmp_path)
    assert (again.segments, again.records, again.parquet) == (0, 0, ())
    assert {path: path.read_bytes() for path in tmp_path.glob("parquet/*/*")} == files


def test_a_living_writers_segment_is_left_alone(tmp_path: Path, make_payload) -> None:
    with PredictionWriter(tmp_path, model="churn") as log:
        log.append(make_payload())
        assert compact(tmp_path).segments == 0
        log.append(make_payload())
        assert len(list(read_segment(log.segment))) == 2
    assert compact(tmp_path).records == 2


def test_large_logs_are_taken_in_steps(
    tmp_path: Path, make_payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["steelyard.predictions.compact"]
    monkeypatch.setattr(module, "_STEP_SEGMENTS", 2)
    ids = [_id(START + n) for n in range(50)]
    for first in range(0, 50, 10):
        _segment(tmp_path, ids[first], [make_payload(one) for one in ids[first : first + 10]])
    done = compact(tmp_path)
    assert (done.segments, done.records, len(done.parquet)) == (5, 50, 3)
    assert _ids(tmp_path) == ids


def test_a_segment_with_damage_is_kept_aside(tmp_path: Path, make_payload) -> None:
    ids = [_id(START + n) for n in range(4)]
    frames = [make_payload(one) for one in ids]
    damaged = _segment(tmp_path, ids[0], frames[:2], tail=b"?" * 9 + b"\n" + framed(frames[2]))
    unreadable = _segment(tmp_path, ids[1], [b'{"prediction_id":1}', frames[3]])
    contents = {path.name: path.read_bytes() for path in (damaged, unreadable)}
    done = compact(tmp_path)
    assert [(one.path, one.length, one.reason) for one in done.damage] == [
        (damaged, 10, "corrupt"),
        (unreadable, 19, "unreadable"),
    ]
    assert _ids(tmp_path) == ids
    kept = {path.name: path.read_bytes() for path in (tmp_path / "damaged").iterdir()}
    assert kept == contents
    assert compact(tmp_path).damage == ()


def test_segments_of_a_killed_start_are_swept_when_old(tmp_path: Path, make_payload) -> None:
    _three_days(tmp_path, make_payload)
    old, young = (tmp_path / "segments" / f"{_id(START, n)}-7.new" for n in (1, 2))
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (clock.time() - 3600, clock.time() - 3600))
    compact(tmp_path)
    assert list((tmp_path / "segments").iterdir()) == [young]


def test_writers_that_come_and_go_without_a_record_disturb_nothing(tmp_path: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            log = PredictionWriter(tmp_path, model="churn")
            log.open()
            log.close()

    visitor = threading.Thread(target=come_and_go)
    visitor.start()
    try:
        for _ in range(150):
            assert compact(tmp_path) == Compaction()
            assert _ids(tmp_path) == []
    finally:
        stop.set()
        visitor.join()


def test_a_segment_that_its_writer_removes_meanwhile_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _segment(tmp_path, _id(START), [])
    flock = fcntl.flock

    def removed_before(file: IO[bytes], operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    assert compact(tmp_path) == Compaction()


def test_another_format_stops_it_and_loses_nothing(tmp_path: Path, make_payload) -> None:
    ids = _three_days(tmp_path, make_payload)
    newer = _segment(tmp_path, _id(START + 9), [])
    newer.write_bytes(b"steelyard-log " + framed(b'{"format":2}'))
    for _ in range(2):
        with pytest.raises(StoreError, match="format 2"):
            compact(tmp_path)
    newer.unlink()
    assert _ids(tmp_path) == ids
    assert compact(tmp_path).records == 20
    assert _in_parquet(tmp_path) == ids


def test_without_polars_it_says_what_to_install(
    tmp_path: Path, make_payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = _three_days(tmp_path, make_payload)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "polars", None)
        with pytest.raises(UsageError, match="polars is not installed"):
            compact(tmp_path)
        assert _ids(tmp_path) == ids
    assert compact(tmp_path).records == 20


# Kill -9 before the n-th call that changes the folder; without n, print how many there are.
_DIES = """
import os, signal, sys
from pathlib import Path
from steelyard.predictions import compact
limit = int(sys.argv[2])
seen = 0
def watch(frame, event, function):
    global seen
    if event == "c_call" and function.__name__ in CHANGES:
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
CHANGES = {"replace", "rename", "unlink", "link", "mkdir", "fsync", "write", "write_parquet"}
import polars
sys.setprofile(watch)
compact(Path(sys.argv[1]))
sys.setprofile(None)
print(seen)
"""


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory, make_payload) -> int:
    folder = tmp_path_factory.mktemp("whole")
    _three_days(folder, make_payload)
    sources = str(Path(read.__code__.co_filename).parents[2])
    whole = subprocess.run(
        [sys.executable, "-c", _DIES, folder, "0"],
        env=os.environ | {"PYTHONPATH": sources},
        capture_output=True,
        check=True,
    )
    return int(whole.stdout)


@pytest.mark.parametrize("share", [n / 12 for n in range(12)])
def test_kill_9_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, make_payload, start_python, changes: int, share: float
) -> None:
    ids = _three_days(tmp_path, make_payload)
    before = list(read(tmp_path))
    process = start_python(_DIES, tmp_path, 1 + int(changes * share), stdout=subprocess.PIPE)
    process.communicate(timeout=30)
    assert process.returncode == -9
    assert list(read(tmp_path)) == before
    parquet = _in_parquet(tmp_path)
    assert parquet == sorted(set(parquet))
    # What comes in between must not change which segments the broken step takes.
    later = [_id(START + 2 * DAY, n) for n in range(900, 905)]
    _segment(tmp_path, _id(START + 3), [make_payload(one) for one in later])
    compact(tmp_path)
    assert _ids(tmp_path) == sorted(ids + later)
    assert sorted(_in_parquet(tmp_path)) == sorted(ids + later)
    assert list(tmp_path.glob("segments/*")) == []
    assert [path.name for path in (tmp_path / "compacting").iterdir()] == ["lock"]
    assert list(tmp_path.glob("parquet/*/.*")) == []


_SERVES = """
import os, sys, time
from datetime import UTC, datetime
from pathlib import Path
import msgspec
from steelyard.predictions import PredictionWriter, uuid7
end = time.monotonic() + float(sys.argv[2])
log = PredictionWriter(Path(sys.argv[1]), model="churn", segment_bytes=20_000)
while time.monotonic() < end:
    one = uuid7()
    log.append(msgspec.json.encode({
        "prediction_id": one, "time": datetime.now(UTC), "model": "churn", "version": 1,
        "bundle": "b", "source": "model", "row": {"a": 1}, "outputs": [], "prediction": 1.5,
    }))
    os.write(1, one.encode() + b"\\n")
    time.sleep(0.0005)
log.close()
"""


def test_writers_readers_and_compaction_work_at_once(tmp_path: Path, start_python) -> None:
    log, told = tmp_path / "churn", [tmp_path / "one", tmp_path / "two"]
    writers = []
    for path in told:
        with path.open("wb") as output:
            writers.append(start_python(_SERVES, log, 1.5, stdout=output))

    def acknowledged() -> list[str]:
        return sorted(line for path in told for line in path.read_text().split("\n")[:-1])

    compacted = rounds = 0
    while any(writer.poll() is None for writer in writers):
        before = acknowledged()
        if rounds % 2:
            compacted += compact(log).segments
        records = read(log)
        found = [next(records).prediction_id] if before else []
        if found:
            compacted += compact(log).segments
        found += [record.prediction_id for record in records]
        assert found == sorted(set(found))
        assert set(before) <= set(found)
        rounds += 1
    assert all(writer.returncode == 0 for writer in writers)
    assert rounds > 3
    assert compacted > 3
    everything = acknowledged()
    assert _ids(log) == everything
    compact(log)
    assert _ids(log) == sorted(_in_parquet(log)) == everything


_COMPACTS = """
import sys
from pathlib import Path
from steelyard.predictions import compact
print(compact(Path(sys.argv[1])).records)
"""


def test_two_compactions_at_once_share_the_work(tmp_path: Path, make_payload, start_python) -> None:
    ids = _three_days(tmp_path, make_payload)
    both = [start_python(_COMPACTS, tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=30)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(int(output) for output in outputs) == [0, 20]
    assert _in_parquet(tmp_path) == ids


def test_a_duckdb_user_reads_the_folder_as_it_is(tmp_path: Path, make_payload) -> None:
    duckdb = pytest.importorskip("duckdb")
    with PredictionWriter(tmp_path, model="churn") as log:
        for version in (1, 1, 2):
            log.append(make_payload(version=version, row={"tenure": version}))
    compact(tmp_path)
    table = duckdb.read_parquet(f"{tmp_path}/parquet/*/*.parquet")
    tenures = table.aggregate("version, sum(cast(json_extract(row, '$.tenure') as int))")
    assert sorted(tenures.fetchall()) == [(1, 2), (2, 2)]
    assert sum(json.loads(text)["Yes"] for (text,) in table["probabilities"].fetchall()) == 2.25
