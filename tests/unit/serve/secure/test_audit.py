"""The audit log keeps what it was told through kills and company, and shows where it was touched."""

import json
import signal
import stat
import subprocess
import sys
import time

import pytest

from steelyard.errors import StoreError
from steelyard.serve.secure.audit import AuditLog

WRITER = """
import sys
from pathlib import Path
from steelyard.serve.secure.audit import AuditLog
log, name, count = AuditLog(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for i in range(count):
    log.record("tried", by=name, number=i)
    print(i, flush=True)
"""


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "audit")


@pytest.fixture
def written(log):
    for number in range(5):
        log.record("key_created", by="ann", key=f"{number:08d}")
    return log


def writer(log, name, count):
    command = [sys.executable, "-c", WRITER, str(log.path.parent), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def test_events_are_lines_of_json_in_their_order(written):
    found = [json.loads(line) for line in lines(written)]
    assert [event["key"] for event in found] == [f"{n:08d}" for n in range(5)]
    assert [event["seq"] for event in found] == [1, 2, 3, 4, 5]
    assert [event["previous"] for event in found] == [None, *[e["hash"] for e in found[:-1]]]
    assert {event["by"] for event in found} == {"ann"}
    assert written.problems() == (5, [])
    assert [event["key"] for event in written.read()] == [event["key"] for event in found]
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o600


def test_text_from_outside_is_one_short_value_on_one_line(log):
    log.record("access_refused", by="server", client='x"}\n{"event":"forged"}' + "y" * 5_000)
    [event] = log.read()
    assert len(lines(log)) == 1
    assert len(event["client"]) == 1_000
    assert event["event"] == "access_refused"


def forged(log):
    """Return lines with one in the middle that was written anew, seal and all, by who knows how."""
    other = AuditLog(log.path.parent.parent / "other")
    for number in range(5):
        other.record("key_created", by="ann" if number != 2 else "eve", key=f"{number:08d}")
    found = lines(log)
    return [*found[:2], lines(other)[2], *found[3:]]


TOUCHED = {
    "a changed value": (lambda log: [line.replace(b"00000002", b"00000009") for line in lines(log)], "line 3"),
    "a line taken out": (lambda log: lines(log)[:2] + lines(log)[3:], "line 3 does not follow"),
    "the first taken out": (lambda log: lines(log)[1:], "line 1 does not follow"),
    "the last cut off": (lambda log: lines(log)[:-1], "does not reach event 5"),
    "all cut off": (lambda log: [], "does not reach event 5"),
    "two exchanged": (lambda log: [lines(log)[i] for i in (0, 2, 1, 3, 4)], "line 2 does not follow"),
    "one repeated": (lambda log: [*lines(log), lines(log)[-1]], "line 6 does not follow"),
    "one put between": (lambda log: [*lines(log)[:2], b"{}\n", *lines(log)[2:]], "line 3 was changed"),
    "one written anew": (forged, "line 4 does not follow"),
    "another's bytes": (lambda log: [b"\x80\x04pickle\n"], "line 1 was changed"),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(TOUCHED))
def test_whatever_is_touched_is_seen_and_stays_seen(written, how):
    change, message = TOUCHED[how]
    written.path.write_bytes(b"".join(change(written)))
    count, problems = written.problems()
    assert any(message in problem for problem in problems), problems
    written.record("key_created", by="bob", key="later")
    assert [event["key"] for event in written.read()][-1] == "later"
    after, still = written.problems()
    assert after > count
    assert still
    written.record("key_created", by="bob", key="and later")
    assert written.problems()[1] == still


def test_the_head_is_missed_too(written):
    head = written.path.with_name("head.json")
    kept = head.read_bytes()
    for data in (None, b"{}", b"rubbish", kept.replace(b"5", b"4")):
        head.unlink()
        if data is not None:
            head.write_bytes(data)
        assert written.problems()[1] != []
        head.write_bytes(kept)
    assert written.problems() == (5, [])


def test_a_line_that_was_being_written_was_never_told(written):
    before = written.path.read_bytes()
    written.path.write_bytes(before + b'{"at":"2026')
    assert written.problems() == (5, [])
    written.record("key_created", by="ann", key="next")
    assert written.problems() == (6, [])
    assert written.path.read_bytes().startswith(before)


def test_a_line_whose_head_was_not_written_yet_counts(written):
    head = written.path.with_name("head.json")
    old = head.read_bytes()
    written.record("key_created", by="ann", key="sixth")
    head.write_bytes(old)
    assert written.problems() == (6, [])
    written.record("key_created", by="ann", key="seventh")
    assert written.problems() == (7, [])
    # So does the very first.
    first = AuditLog(written.path.parent.parent / "first")
    first.record("key_created", by="ann")
    first.path.with_name("head.json").unlink()
    assert first.problems() == (1, [])
    first.record("key_created", by="ann")
    assert first.problems() == (2, [])


def test_no_log_is_no_damage(log):
    assert log.problems() == (0, [])
    assert not log.path.parent.exists()


def test_writers_at_the_same_time_lose_nothing(log):
    running = [writer(log, f"writer-{i}", 8) for i in range(3)]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert log.problems() == (24, [])
    assert {(e["by"], e["number"]) for e in log.read()} == {
        (f"writer-{i}", j) for i in range(3) for j in range(8)
    }


def test_what_was_told_is_kept_at_any_kill(log):
    told = []
    for turn in range(5):
        process = writer(log, f"turn-{turn}", 10_000)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.003 * turn)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        told += [(f"turn-{turn}", int(number)) for number in (first + rest).split()]
    count, problems = log.problems()
    assert problems == []
    kept = [(event["by"], event["number"]) for event in log.read()]
    assert count == len(kept)
    assert set(told) <= set(kept)


def test_a_log_that_cannot_be_written_says_so(log):
    log.path.parent.parent.joinpath("audit").write_bytes(b"a file where the folder should be")
    with pytest.raises(StoreError, match="audit log"):
        log.record("key_created", by="ann")
