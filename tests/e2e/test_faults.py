"""Faults under load: nothing wrong without a mark, nothing answered lost, and all right again after.

Each test counts what comes back to clients that know the right answers, before, during and after a
fault. The short form is part of the suite; the long one, `make long`, prints its counts as a table.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from steelyard.core.config import Config

TITLES = ("fault", "while", "right", "fallback", "status", "lost connection", "torn", "silence",
          "wrong")  # fmt: skip


@pytest.fixture(params=[1.0, pytest.param(20.0, marks=[pytest.mark.long])], ids=["short", "long"])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long a fault goes on."""
    return float(request.param)


class Course:
    """The course of a fault: what clients heard before, during and after it."""

    def __init__(self, name: str, server: Any, load: Any, tell: Callable[[str], None]) -> None:
        self.name = name
        self.server = server
        self.clients = load
        self.heard = load.heard
        self.began = self.healed = 0.0
        self._tell = tell

    def settle(self, patience: float = 60) -> None:
        """Wait until a good number of answers in a row were right."""
        late = time.monotonic() + patience
        while time.monotonic() < late:
            last = self.heard.outcomes[-200:]
            if len(last) == 200 and last[0][0] > self.healed and {x for _, x in last} == {"right"}:
                return
            time.sleep(0.01)
        raise AssertionError(f"no recovery: {self.after} {self.server.said()[-2000:]}")

    @property
    def before(self) -> Counter[str]:
        return self.heard.between(end=self.began)

    @property
    def during(self) -> Counter[str]:
        return self.heard.between(self.began, self.healed)

    @property
    def after(self) -> Counter[str]:
        return self.heard.between(self.healed)

    def judge(self) -> None:
        """Hold to what is true of every fault; the server has ended."""
        assert set(self.before) == {"right"}
        whole = self.before + self.during + self.after
        assert not whole["wrong"]
        assert not whole["silence"]
        assert not whole["torn"]
        logged = self.server.logged()
        found = {one["prediction_id"]: (one["prediction"], one["source"]) for one in logged}
        lost = [key for key, given in self.heard.given.items() if found.get(key) != given]
        assert not lost, f"{len(lost)} of {len(self.heard.given)} answered predictions are lost"
        assert self.heard.twice == 0
        assert len(found) == len(logged), "an answer is in the log twice"
        said = self.server.said()
        for trouble in ("Exception in", "never retrieved", "never awaited"):
            assert trouble not in said, said[-3000:]
        for name, found in (("before", self.before), ("during", self.during), ("after", self.after)):
            self._tell(_line(self.name, name, found))
        recovery = self.heard.recovery(self.healed)
        self._tell(
            f"| {self.name} | all right again after {recovery:.2f} s; {len(self.heard.given)} answered"
            f" predictions: {len(lost)} lost, {self.heard.twice} answered twice, "
            f"{len(logged)} in the log |"
        )


def _line(name: str, when: str, found: Counter[str]) -> str:
    def some(start: str) -> str:
        named = sorted(x for x in found if x.startswith(start))
        return ", ".join(f"{x.removeprefix(start)} {found[x]}" for x in named) or "0"

    cells = [str(found["right"]), some("fallback "), some("status ")]
    cells += [str(found[x]) for x in ("connection", "torn", "silence", "wrong")]
    return "| " + " | ".join([name, when, *cells]) + " |"


@pytest.fixture(scope="module")
def title() -> list[str]:
    return ["| " + " | ".join(TITLES) + " |"]


@pytest.fixture
def course(
    request: pytest.FixtureRequest,
    seconds: float,
    title: list[str],
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """Return what runs a fault's course: clients at work before it, during and after it."""

    def tell(line: str) -> None:
        if seconds > 1:
            with capsys.disabled():
                while title:
                    print("\n" + title.pop())  # noqa: T201
                print(line)  # noqa: T201

    @contextlib.contextmanager
    def run(name: str, server: Any, clients: Any, heal: Callable[[], object]) -> Iterator[Course]:
        with clients:
            found = Course(name, server, clients, tell)
            found.settle()
            found.began = time.monotonic()
            yield found
            time.sleep(max(0.0, seconds - (time.monotonic() - found.began)))
            heal()
            found.healed = time.monotonic()
            found.settle()
        assert server.end() == 0
        found.judge()

    return run


# The model.

REASONS = {
    "sleep 3": {"late", "broken"}, "raise": {"failed", "broken"}, "nan": {"not_finite"},
}  # fmt: skip


@pytest.mark.parametrize("fault", REASONS)
@pytest.mark.parametrize("together", [1, 5])
def test_a_model_that_fails_is_stood_in_for_by_the_fallback(
    faulty, load, course, fault, together
) -> None:
    server = faulty("--timeout-ms", "250")
    clients = load(server, together=together)
    with course(f"model: {fault}, {together} rows", server, clients, lambda: server.fault("well")) as ran:
        server.fault(fault)
    assert set(ran.during) <= {"right"} | {f"fallback {why}" for why in REASONS[fault]}
    assert ran.during.total() > ran.during["right"]


STATUSES = {"sleep 3": {"503"}, "raise": {"500", "503"}, "nan": {"422"}}


@pytest.mark.parametrize("fault", STATUSES)
def test_without_a_fallback_a_failure_is_an_error(faulty, load, course, fault) -> None:
    server = faulty("--timeout-ms", "250", model="bare")
    with course(f"{fault}, no fallback", server, load(server), lambda: server.fault("well")) as ran:
        server.fault(fault)
    assert set(ran.during) <= {"right"} | {f"status {status}" for status in STATUSES[fault]}


# The workers.


def test_a_killed_worker_is_replaced(faulty, load, course, seconds) -> None:
    server = faulty("--workers", "2")
    kills = 0
    with course("kill -9", server, load(server), lambda: None) as ran:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            os.kill(server.workers()[kills % 2], signal.SIGKILL)
            kills += 1
            wait_for(lambda: len(server.workers()) == 2)
            time.sleep(3.5 if seconds > 1 else 0.0)
        deaths = server.counted("worker_deaths_total")
    assert sum(deaths.values()) == kills
    assert set(ran.during) <= {"right", "connection"}


def wait_for(true: Callable[[], object], patience: float = 60) -> None:
    late = time.monotonic() + patience
    while not true():
        assert time.monotonic() < late
        time.sleep(0.01)


# What is stored.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "steelyard-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("policy", ["refuse", "answer"])
def test_a_full_disk(faulty, load, course, small_disk, policy) -> None:
    pytest.skip("todo")


def test_the_store_is_gone(faulty, load, course, houses_store, tmp_path) -> None:
    store = tmp_path / "store"
    subprocess.run(["cp", "-r", houses_store[0], store], check=True)
    server = faulty(store=str(store))
    gone = tmp_path / "gone"
    with course("store gone", server, load(server), lambda: gone.rename(store)) as ran:
        store.rename(gone)
        wait_for(lambda: '"behind"' in server.get("/health/ready")[1])
        assert server.get("/health/ready")[0] == 200
    assert set(ran.during + ran.after) == {"right"}
