"""Ids are UUIDv7: valid, ascending, unique across threads and forks, and they carry their time."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core import ids
from steelyard.errors import UsageError


def test_ids_are_canonical_uuids_of_version_7() -> None:
    for text in [ids.uuid7() for _ in range(5000)]:
        parsed = UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, RFC_4122, text)
        assert ids.is_uuid7(text)


def test_ids_strictly_ascend() -> None:
    made = [ids.uuid7() for _ in range(50_000)]
    assert all(one < two for one, two in pairwise(made))


def test_ids_ascend_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.uuid7()
    monkeypatch.setattr(ids, "time_ns", lambda: 1_000_000_000)
    later = [ids.uuid7() for _ in range(2000)]
    assert before < later[0]
    assert later == sorted(set(later))


def test_ids_ascend_when_a_millisecond_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.uuid7()
    monkeypatch.setattr(ids, "time_ns", lambda: 1_000_000_000)
    monkeypatch.setattr(ids._series, "_number", 2**26 - 1)
    after = [ids.uuid7() for _ in range(1000)]
    assert [before, *after] == sorted({before, *after})
    assert {UUID(one).version for one in after} == {7}
    assert ids.milliseconds_of(after[-1]) == ids.milliseconds_of(before) + 1


def test_the_random_part_differs_from_id_to_id() -> None:
    made = [int(ids.uuid7()[-12:], 16) for _ in range(1000)]
    steps = {two - one for one, two in pairwise(made)}
    assert len(steps) > 990


def test_a_burst_does_not_run_ahead_of_the_clock() -> None:
    made = [ids.uuid7() for _ in range(20_000)]
    assert ids.time_of(made[-1]) <= datetime.now(UTC)


def test_threads_get_different_and_ascending_ids() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def work(mine: list[str]) -> None:
        mine.extend(ids.uuid7() for _ in range(5000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len({one for mine in made for one in mine}) == 20_000


# The clock stands still, so that only the forgetting can make the child's ids differ; the lock
# is held by a thread that the child does not have.
_FORK = """
import os, signal
from steelyard.core import ids
ids.time_ns = lambda: 1_790_000_000_000_000_000
ids.uuid7()
held = ids._series._lock
held.acquire()
reading, writing = os.pipe()
child = os.fork()
if not child:
    signal.alarm(10)
    os.write(writing, " ".join(ids.uuid7() for _ in range(300)).encode())
    os._exit(0)
os.close(writing)
held.release()
mine = {ids.uuid7() for _ in range(300)}
with open(reading) as pipe:
    others = set(pipe.read().split())
os.waitpid(child, 0)
assert len(others) == 300, len(others)
assert not mine & others
"""


def test_a_forked_child_shares_no_randomness_and_no_lock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORK], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_id_tells_its_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = ids.time_of(ids.uuid7())
    assert before <= made <= datetime.now(UTC)
    assert made.tzinfo is UTC


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_floors_order_as_their_times_and_come_first(one: int, two: int) -> None:
    assert (ids.floor_of(one) < ids.floor_of(two)) == (one < two)
    first_id = ids.floor_of(one) + "-7000-8000-000000000000"
    assert ids.floor_of(one) < first_id
    assert ids.milliseconds_of(first_id) == one
    if one < two:
        assert first_id < ids.floor_of(two)


@given(st.text(max_size=200))
def test_other_text_is_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(UsageError, match="expected a prediction id") as caught:
        ids.time_of(text)
    assert caught.value.fix
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "01a20e21-9020-4e2a-b4b1-0230b800b3eb",
        "01a20e21-9020-7e2a-74b1-0230b800b3eb",
        "01A20E21-9020-7E2A-B4B1-0230B800B3EB",
        "01a20e21-9020-7e2a-b4b1-0230b800b3eb\n",
    ],
)
def test_near_misses_are_no_ids(text: str) -> None:
    assert not ids.is_uuid7(text)


def test_a_time_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(UsageError, match="year 9999"):
        ids.time_of("ffffffff-ffff-7fff-bfff-ffffffffffff")


def test_rows_of_a_key_have_valid_ids_and_those_of_other_keys_do_not_meet() -> None:
    keys = [ids.uuid7() for _ in range(20)]
    made = [one for key in keys for one in islice(ids.row_ids(key), 1000)]
    assert len(set(made)) == len(made)
    assert all(ids.is_uuid7(one) for one in made)
    assert [one[:19] for one in made[:1000]] == [keys[0][:19]] * 1000
    assert list(islice(ids.row_ids(keys[0]), 1000)) == made[:1000]
