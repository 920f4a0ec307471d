"""Whatever happens to writer, disk or folder: what `append` returned from is in the log, once."""

import errno
import fcntl
import json
import logging
import os
import random
import resource
import subprocess
import threading
import time as clock
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import LogFullError, StoreError, UsageError
from steelyard.predictions import PredictionWriter, read_segment, uuid7, writer
from steelyard.predictions.segment import Header


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("segments/*.log"))


def _logged(folder: Path) -> list[bytes]:
    return [payload for path in _segments(folder) for payload in read_segment(path)]


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.binary(max_size=90).map(lambda raw: raw.replace(b"\n", b"")), max_size=4)
    ),
    segment_bytes=st.integers(1, 400),
)
def test_every_payload_is_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], segment_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    with PredictionWriter(folder, model="churn", segment_bytes=segment_bytes) as log:
        for number, batch in enumerate(batches):
            if number % 2:
                log.append_many(batch)
            else:
                for payload in batch:
                    log.append(payload)
    assert _logged(folder) == [payload for batch in batches for payload in batch]


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path, make_payload) -> None:
    with PredictionWriter(tmp_path, model="churn", worker=4) as log:
        for count in range(1, 20):
            log.append(make_payload())
            reader = read_segment(log.segment)
            assert len(list(reader)) == count
            assert reader.damage == []
        assert reader.header == Header(1, "churn", 4, os.getpid())


def test_many_records_take_one_write(
    tmp_path: Path, make_payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    with PredictionWriter(tmp_path, model="churn") as log:
        log.open()
        monkeypatch.setattr(os, "write", counted)
        log.append_many([make_payload() for _ in range(50)])
        log.append_many([])
        monkeypatch.undo()
    assert len(sizes) == 1
    assert len(_logged(tmp_path)) == 50


def test_nothing_is_written_of_a_batch_with_a_line_end_in_it(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, model="churn") as log:
        log.append(b"{}")
        with pytest.raises(UsageError, match="line end"):
            log.append_many([b"{}", b"{\n}"])
        assert _logged(tmp_path) == [b"{}"]


def test_threads_share_a_writer(tmp_path: Path, make_payload) -> None:
    mine = [[uuid7() for _ in range(400)] for _ in range(4)]
    with PredictionWriter(tmp_path, model="churn", segment_bytes=30_000) as log:

        def work(ids: list[str]) -> None:
            for one in ids:
                log.append(make_payload(one))

        threads = [threading.Thread(target=work, args=(ids,)) for ids in mine]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [json.loads(payload)["prediction_id"] for payload in _logged(tmp_path)]
    assert sorted(found) == sorted(one for ids in mine for one in ids)
    for ids in mine:
        assert [one for one in found if one in set(ids)] == ids


# Rotation


def test_segments_stay_within_their_size(tmp_path: Path, make_payload) -> None:
    ids = [uuid7() for _ in range(60)]
    with PredictionWriter(tmp_path, model="churn", segment_bytes=4000) as log:
        for one in ids:
            log.append(make_payload(one))
        log.append(b'"' + b"x" * 9000 + b'"')
        log.append(make_payload(ids[0]))
    sizes = [path.stat().st_size for path in _segments(tmp_path)]
    assert len(sizes) > 5
    assert [size for size in sizes if size > 4000] == [sizes[-2]]
    found = [json.loads(payload) for payload in _logged(tmp_path)]
    assert [one["prediction_id"] for one in found[:-2]] == ids


def test_an_hour_that_ends_takes_its_segment_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [7_200.0]
    monkeypatch.setattr(writer, "time", lambda: now[0])
    with PredictionWriter(tmp_path, model="churn") as log:
        log.append(b"1")
        now[0] = 10_799.9
        log.append(b"2")
        now[0] = 10_800.0
        log.append(b"3")
    assert [list(read_segment(path)) for path in _segments(tmp_path)] == [[b"1", b"2"], [b"3"]]


def test_an_idle_writer_lets_go_of_its_segment_when_the_hour_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clock.time()
    monkeypatch.setattr(writer, "time", lambda: 3_599.7 + clock.time() - start)
    with PredictionWriter(tmp_path, model="churn", group_ms=1) as log:
        log.append(b"1")
        (path,) = _segments(tmp_path)
        assert not _lockable(path)
        _wait_for(lambda: _lockable(path))
        assert log.segment is None
        log.append(b"2")
    assert _logged(tmp_path) == [b"1", b"2"]


def _lockable(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _wait_for(condition, seconds: float = 10) -> None:
    end = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < end, "it did not come about"
        clock.sleep(0.005)


def test_a_named_segment_is_locked_and_has_its_header_from_the_start(tmp_path: Path) -> None:
    seen: list[bool] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in _segments(tmp_path):
                try:
                    seen.append(not _lockable(path) or path in done)
                    reader = read_segment(path)
                    list(reader)
                except FileNotFoundError:
                    continue
                seen.append(reader.header is not None)

    done: set[Path] = set()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(100):
        log = PredictionWriter(tmp_path, model="churn")
        log.open()
        done.add(log.segment)
        log.close()
    stop.set()
    watcher.join()
    assert seen
    assert all(seen)


def test_a_segment_without_records_is_removed(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, model="churn") as log:
        log.open()
        assert len(_segments(tmp_path)) == 1
    assert list((tmp_path / "segments").iterdir()) == []


# Durability


def _spy_on_fsync(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    calls: list[tuple[float, int]] = []
    fdatasync = os.fdatasync

    def spy(fd: int) -> None:
        size = os.fstat(fd).st_size
        fdatasync(fd)
        calls.append((clock.monotonic(), size))

    monkeypatch.setattr(os, "fdatasync", spy)
    return calls


def test_groups_are_fsynced_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _spy_on_fsync(monkeypatch)
    with PredictionWriter(tmp_path, model="churn", group_ms=30) as log:
        for _ in range(3):
            before = len(calls)
            log.append(b"1")
            for _ in range(100):
                log.append(b"2")
            size = log.segment.stat().st_size
            assert len(calls) == before
            _wait_for(lambda before=before: len(calls) > before)
            assert calls[-1][1] == size
        idle = len(calls)
        clock.sleep(0.15)
        assert len(calls) == idle


def test_closing_fsyncs_the_last_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _spy_on_fsync(monkeypatch)
    log = PredictionWriter(tmp_path, model="churn", group_ms=60_000)
    log.append(b"1")
    path = log.segment
    log.close()
    log.close()
    assert calls[-1][1] == path.stat().st_size


def test_power_fsyncs_before_every_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _spy_on_fsync(monkeypatch)
    with PredictionWriter(tmp_path, model="churn", durability="power") as log:
        for count in range(5):
            log.append(b"1")
            # The first call is for the header.
            assert len(calls) == count + 2
            assert calls[-1][1] == log.segment.stat().st_size
        log.append_many([b"1"] * 10)
        assert len(calls) == 7


@pytest.mark.parametrize("durability", ["group", "power"])
def test_a_failed_fsync_is_told_and_the_file_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability
) -> None:
    failing = [False]
    fdatasync = os.fdatasync

    def failing_at_times(fd: int) -> None:
        if failing[0]:
            failing[0] = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", failing_at_times)
    with PredictionWriter(tmp_path, model="churn", durability=durability, group_ms=5) as log:
        log.append(b"1")
        first = log.segment
        _wait_for(lambda: not log._dirty or durability == "power")
        failing[0] = True
        if durability == "power":
            with pytest.raises(LogFullError, match="Input/output error"):
                log.append(b"2")
        else:
            log.append(b"2")
            _wait_for(lambda: log.sync_errors == 1)
        _wait_for(lambda: log.segment is None)
        log.append(b"3")
        assert log.segment != first
    assert set(_logged(tmp_path)) >= {b"1", b"3"}


def test_a_folder_removed_under_the_writer_is_noticed(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "churn", model="churn", group_ms=5) as log:
        log.append(b"1")
        log.segment.unlink()
        log.append(b"2")
        _wait_for(lambda: log.segment is None)
        assert log.sync_errors == 1
        log.append(b"3")
    assert _logged(tmp_path / "churn") == [b"3"]


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "steelyard-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_an_interrupt_amid_a_record_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        if b"half" in bytes(data):
            write(fd, data[:20])
            raise KeyboardInterrupt
        return write(fd, data)

    monkeypatch.setattr(os, "write", interrupted)
    with PredictionWriter(tmp_path, model="churn") as log:
        log.append(b'"before"')
        with pytest.raises(KeyboardInterrupt):
            log.append(b'"half of it is written"')
        log.append(b'"after"')
    assert _logged(tmp_path) == [b'"before"', b'"after"']


@pytest.mark.parametrize("durability", ["group", "power"])
def test_a_full_disk_refuses_and_leaves_only_whole_records(
    small_disk: Path, make_payload, durability
) -> None:
    stone = small_disk / "stone"
    stone.write_bytes(bytes(20_000))
    kept: list[bytes] = []
    refused: list[LogFullError] = []
    with PredictionWriter(
        small_disk / "churn", model="churn", durability=durability, group_ms=5
    ) as log:
        while len(refused) < 5:
            payload = make_payload(row={"text": "x" * random.randrange(3000)})
            try:
                log.append(payload)
                kept.append(payload)
            except LogFullError as error:
                refused.append(error)
        assert all("No space left" in error.message and error.fix for error in refused)
        with pytest.raises(LogFullError):
            log.append_many([make_payload(row={"text": "x" * 1000})] * 40)
        path = log.segment
        reader = read_segment(path)
        assert list(reader) == kept
        assert reader.damage == []
        stone.unlink()
        for _ in range(20):
            kept.append(make_payload())
            log.append(kept[-1])
        assert log.segment == path
    reader = read_segment(path)
    assert list(reader) == kept
    assert reader.damage == []


def test_a_full_disk_answers_and_counts(
    small_disk: Path, make_payload, caplog: pytest.LogCaptureFixture
) -> None:
    stone = small_disk / "stone"
    stone.write_bytes(bytes(20_000))
    with PredictionWriter(small_disk / "churn", model="churn", on_full="answer") as log:
        with caplog.at_level(logging.ERROR):
            for _ in range(400):
                log.append(make_payload())
        log.append_many([make_payload(row={"text": "x" * 1000})] * 40)
        held = len(_logged(small_disk / "churn"))
        assert 0 < held < 400
        assert held + log.dropped == 440
        assert len([one for one in caplog.records if "unlogged" in one.message]) == 1
        stone.unlink()
        dropped = log.dropped
        _wait_for(lambda: not log._dirty)
        with caplog.at_level(logging.WARNING):
            log.append(make_payload())
        assert log.dropped == dropped
        assert "takes records again" in caplog.text
    assert len(_logged(small_disk / "churn")) == held + 1


def test_a_disk_that_is_full_from_the_start_is_left_clean(small_disk: Path) -> None:
    stone = small_disk / "stone"
    with stone.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(512))
            except OSError:
                break
    log = PredictionWriter(small_disk / "churn", model="churn")
    for _ in range(3):
        with pytest.raises(LogFullError):
            log.append(b"1")
        with pytest.raises(LogFullError):
            log.open()
    assert not list(small_disk.glob("churn/segments/*"))
    stone.unlink()
    log.append(b"2")
    log.close()
    assert _logged(small_disk / "churn") == [b"2"]


_LIMITED = """
import sys
from pathlib import Path
from steelyard.errors import LogFullError
from steelyard.predictions import PredictionWriter
log = PredictionWriter(Path(sys.argv[1]), model="churn")
refused = 0
for number in range(200):
    try:
        log.append(b"%d:" % number + b"x" * 100)
        print(number)
    except LogFullError as error:
        assert "File too large" in error.message
        refused += 1
assert refused, "the limit was not met"
log.close()
"""


def test_a_limit_on_file_sizes_costs_no_acknowledged_record(tmp_path: Path, start_python) -> None:
    process = start_python(
        _LIMITED,
        tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors.decode()
    found = [int(payload.split(b":")[0]) for payload in _logged(tmp_path)]
    assert found == [int(number) for number in output.split()]
    for path in _segments(tmp_path):
        reader = read_segment(path)
        assert list(reader)
        assert not reader.damage


# Kill -9 and fork

_WRITES = """
import os, sys
from pathlib import Path
from steelyard.predictions import PredictionWriter
folder, durability, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log = PredictionWriter(folder, model="churn", durability=durability, segment_bytes=20 * size)
number = 0
while True:
    if number % 3:
        log.append(b"%d:" % number + b"x" * (number * 37 % size))
        number += 1
    else:
        log.append_many([b"%d:" % n + b"x" * (n * 37 % size) for n in range(number, number + 4)])
        number += 4
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize("attempt", range(20))
def test_kill_9_costs_no_acknowledged_record(tmp_path: Path, start_python, attempt: int) -> None:
    chance = random.Random(attempt)
    durability = "power" if attempt % 4 == 3 else "group"
    told = tmp_path / "told"
    with told.open("wb") as output:
        process = start_python(
            _WRITES, tmp_path / "churn", durability, chance.choice([200, 30_000]), stdout=output
        )
        _wait_for(lambda: told.stat().st_size > 0)
        clock.sleep(chance.random() * 0.08)
        process.kill()
        process.wait()
    acknowledged = int(told.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2])
    found = [int(payload.split(b":")[0]) for payload in _logged(tmp_path / "churn")]
    assert found == list(range(len(found)))
    assert len(found) >= acknowledged
    for path in _segments(tmp_path / "churn"):
        reader = read_segment(path)
        list(reader)
        assert [one.reason for one in reader.damage] in ([], ["torn"])
        assert _lockable(path)


_FORKS = """
import os, signal, sys
from pathlib import Path
from steelyard.predictions import PredictionWriter, read_segment
folder = Path(sys.argv[1])
log = PredictionWriter(folder, model="churn", group_ms=5)
log.append(b"parent 1")
parent = log.segment
log._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(10)
    assert log.segment is None
    log.append(b"child 1")
    assert log.segment != parent
    log.close()
    os._exit(0)
log._lock.release()
assert os.waitpid(child, 0)[1] == 0
log.append(b"parent 2")
assert log.segment == parent
log.close()
assert list(read_segment(parent)) == [b"parent 1", b"parent 2"]
"""


def test_a_forked_child_writes_to_a_segment_of_its_own(tmp_path: Path, start_python) -> None:
    process = start_python(_FORKS, tmp_path, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors.decode()
    assert sorted(_logged(tmp_path)) == [b"child 1", b"parent 1", b"parent 2"]
    assert len(_segments(tmp_path)) == 2


# Misuse


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    log = PredictionWriter(tmp_path, model="churn")
    log.append(b"1")
    log.close()
    with pytest.raises(StoreError, match="closed"):
        log.append(b"2")
    with pytest.raises(StoreError, match="closed"):
        log.open()
    assert _logged(tmp_path) == [b"1"]


def test_a_folder_that_cannot_be_made_is_found_at_start(tmp_path: Path) -> None:
    (tmp_path / "churn").write_bytes(b"")
    log = PredictionWriter(tmp_path / "churn", model="churn", on_full="answer")
    with pytest.raises(LogFullError, match="Not a directory"):
        log.open()


@pytest.mark.parametrize(
    ("option", "value"),
    [("durability", "none"), ("on_full", "wait"), ("segment_bytes", 0), ("group_ms", -1)],
)
def test_an_impossible_option_is_named(tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(UsageError, match=option):
        PredictionWriter(tmp_path, model="churn", **{option: value})
