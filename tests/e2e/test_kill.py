"""`kill -9` at sampled moments of `run` and `promote`: no half version, the ledger whole."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.config import Config
from steelyard.flow.doctoring import examine
from steelyard.flow.stores import open_ledger
from steelyard.flow.versions import verify_version

# Whole runs; a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)

COMMAND = [sys.executable, "-m", "steelyard"]


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    environment.pop("STEELYARD_STATE", None)
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a command and all that it started; return whether it was still running."""
    time.sleep(seconds)
    alive = process.poll() is None
    # The server that the gates start belongs to the run's own session; it dies with it.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        alive = False
    process.wait()
    return alive


def finish(folder: Path, *words: str) -> Any:
    process = subprocess.run(
        [*COMMAND, *words, "--json"], cwd=folder, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stderr.decode() + process.stdout.decode()
    return json.loads(process.stdout)


def assert_whole(folder: Path) -> None:
    """Every version that is visible is whole and sealed, and the ledger replays."""
    config = Config(folder / ".steelyard")
    found = examine(config)
    assert found["ok"], found
    ledger = open_ledger(config)
    for name in ledger.models():
        numbers = [version.number for version in ledger.versions(name)]
        assert numbers == list(range(1, len(numbers) + 1))
        for version in ledger.versions(name):
            assert verify_version(version.reference, config)["ok"]


@pytest.fixture
def project(tmp_path: Path, make_project: Callable[[Path], Path]) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, make_project: Callable[[Path], Path]) -> Path:
    """Return a project with two versions that passed and no alias."""
    folder = make_project(tmp_path_factory.mktemp("judged") / "project")
    for depth in (2, 3):
        finish(folder, "run", "churn.py", "--set", f"max_depth={depth}", "--no-promote")
    return folder


def kill_runs(project: Path, times: int) -> None:
    began = time.monotonic()
    finish(project, "run", "churn.py")
    whole = time.monotonic() - began
    killed = 0
    draw = random.Random(times)
    for i in range(times):
        # Another depth each time, so that each run has another version to make.
        process = start(project, "run", "churn.py", "--set", f"max_depth={2 + i % 7}")
        # Evenly over the run, with the end, where records are written, twice as often.
        share = draw.uniform(0.05, 1.0) if i % 2 else draw.uniform(0.6, 1.0)
        killed += kill_after(process, share * whole)
        if i % 5 == 4 or i == times - 1:
            assert_whole(project)
    assert killed >= times // 2
    run = finish(project, "run", "churn.py")
    assert run["promoted"]
    assert_whole(project)


def kill_promotes(project: Path, times: int) -> None:
    began = time.monotonic()
    finish(project, "promote", "churn@1")
    whole = time.monotonic() - began
    draw = random.Random(times)
    ledger = open_ledger(Config(project / ".steelyard"))
    for i in range(times):
        process = start(project, "promote", f"churn@{1 + (i + 1) % 2}", "--reason", f"move {i}")
        kill_after(process, draw.uniform(0.1, 1.0) * whole)
        assert ledger.aliases("churn")["champion"] in (1, 2)
    assert_whole(project)
    assert finish(project, "promote", "churn@2")["to"] == 2


@pytest.mark.long
def test_a_few_kills_of_run(project: Path) -> None:
    kill_runs(project, 3)


@pytest.mark.long
def test_a_few_kills_of_promote(judged: Path) -> None:
    kill_promotes(judged, 5)


@pytest.mark.long
def test_fifty_kills_of_run(project: Path) -> None:
    kill_runs(project, 50)


@pytest.mark.long
def test_fifty_kills_of_promote(judged: Path) -> None:
    kill_promotes(judged, 50)


def test_two_promotes_at_once_have_one_order(judged: Path) -> None:
    for _ in range(4):
        both = [start(judged, "promote", f"churn@{n}", "--reason", f"to {n}") for n in (1, 2)]
        assert [process.wait(60) for process in both] == [0, 0]
    events = [
        event
        for event in open_ledger(Config(judged / ".steelyard")).history("churn")
        if event["kind"] == "alias"
    ]
    # Each move starts where the one before it ended.
    assert [event["from"] for event in events] == [None, *(event["to"] for event in events[:-1])]
    assert_whole(judged)
