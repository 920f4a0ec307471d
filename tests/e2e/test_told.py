"""What a served model tells of itself from start to stop: its lines, on which stream, in what form."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger

ROW = {"rooms": 4, "area": 81.5}


class House(sy.Row):
    rooms: int
    area: float


def houses() -> pl.DataFrame:
    draw = np.random.default_rng(1)
    rooms, area = draw.integers(1, 8, 300), draw.uniform(20, 200, 300)
    return pl.DataFrame({"rooms": rooms, "area": area, "price": rooms * 10 + area})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store with three versions that passed, the first of them champion."""
    folder = tmp_path / "state"
    ledger = open_ledger(Config(folder))
    for alpha in (1.0, 2.0, 3.0):
        made = sy.Model(
            name="price",
            row=House,
            data=sy.Python(houses),
            label="price",
            estimator=Ridge(alpha=alpha),
        )
        built = build(made, read_table(made, Config(folder)), tmp_path / "candidates")
        ledger.register(
            "price",
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance={"alpha": alpha},
            verdict=Verdict(
                built.bundle, hash_json({"alpha": alpha}), (Check("schema", "rows", True),)
            ),
            documents={},
            by="test",
        )
    promote(folder, 1)
    return folder


def promote(state: Path, number: int) -> None:
    ledger = open_ledger(Config(state))
    ledger.promote(Reference("price", version=number), alias="champion", reason="", by="test")


@dataclass
class Server:
    process: subprocess.Popen[str]
    first: str
    url: str
    said: Path

    def ask(self, path: str, body: Any = None, **headers: str) -> int:
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | headers
        try:
            request = urllib.request.Request(self.url + path, data, given)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.said.read_text().splitlines()]

    def wait_for(self, event: str, seconds: float = 20) -> dict[str, Any]:
        late = time.monotonic() + seconds
        while time.monotonic() < late:
            for found in self.events():
                if found["event"] == event:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"no {event}: {self.said.read_text()}")

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        assert self.process.wait(30) == 0
        return rest


@pytest.fixture
def start(state: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, **environment: str) -> Server:
        said = tmp_path / "said.txt"
        with said.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0", *words],
                env={**os.environ, "STEELYARD_STATE": str(state), **environment},
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        running.append(process)
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found, said.read_text()
        return Server(process, first, found[0], said)

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_from_start_to_stop_each_event_is_a_line_of_json(start, state):
    server = start()
    ready = json.loads(server.first)
    assert (ready["event"], ready["level"], ready["version"]) == ("ready", "info", 1)
    assert ready["url"] == server.url
    assert server.ask("/predict/price", ROW) == 200
    promote(state, 2)
    swap = server.wait_for("swap")
    assert (swap["version"], swap["message"]) == (2, "price now answers with version 2.")
    version = open_ledger(Config(state)).resolve(Reference("price", version=3))
    packed = open_ledger(Config(state)).bundle_folder(version) / "packed.onnx"
    server.process.send_signal(signal.SIGSTOP)
    promote(state, 3)
    packed.chmod(0o644)
    packed.write_bytes(packed.read_bytes()[:-1] + b"x")
    server.process.send_signal(signal.SIGCONT)
    refused = server.wait_for("swap_refused")
    assert (refused["level"], refused["version"]) == ("error", 2)
    assert "packed.onnx" in refused["message"]
    assert server.end() == ""
    events = server.events()
    assert [e["event"] for e in events] == ["start", "swap", "swap_refused", "drain", "stop"]
    for event in events:
        assert event["model"] == "price"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert events[0]["bundle"] == ready["bundle"]
    assert [e["worker"] for e in events[1:]] == [0, 0, 0, 0]


def test_the_death_of_a_worker_is_an_event_of_its_keeper(start):
    server = start("--workers", "2")
    children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    late = time.monotonic() + 20
    while len(workers := Path(children).read_text().split()) < 2 and time.monotonic() < late:
        time.sleep(0.05)
    os.kill(int(workers[1]), signal.SIGKILL)
    death = server.wait_for("worker_death")
    assert (death["worker"], death["pid"]) == (1, int(workers[1]))
    assert death["message"].endswith("died: signal 9.")
    assert server.end() == ""


def test_no_request_is_told_unless_asked_for(start):
    server = start()
    for _ in range(5):
        assert server.ask("/predict/price", ROW) == 200
    assert server.ask("/predict/price", {"rooms": "x"}) == 422
    server.end()
    assert [e["event"] for e in server.events()] == ["start", "drain", "stop"]


def test_the_access_log_tells_every_request_and_nothing_secret(start):
    server = start("--access-log")
    secret = {"Authorization": "Bearer sy_very-secret"}
    assert server.ask("/predict/price?token=very-secret", ROW, **secret) == 200
    assert server.ask("/predict/price", {"rooms": "x"}, **secret) == 422
    assert server.ask("/nowhere?key=very-secret", **secret) == 404
    server.end()
    requests = [e for e in server.events() if e["event"] == "request"]
    assert [(e["method"], e["path"], e["status"]) for e in requests] == [
        ("POST", "/predict/price", 200),
        ("POST", "/predict/price", 422),
        ("GET", "/nowhere", 404),
    ]
    assert "very-secret" not in server.said.read_text()
    assert "81.5" not in server.said.read_text()


@pytest.mark.parametrize("chosen", ["flag", "variable"])
def test_a_person_can_have_text_anywhere(start, chosen):
    if chosen == "flag":
        server = start("--log-format", "text")
    else:
        server = start(STEELYARD_LOG_FORMAT="text")
    assert server.first.startswith("price@1 answers at http://127.0.0.1:")
    assert server.end().startswith("try it at ")
    lines = [line[9:] for line in server.said.read_text().splitlines()]
    assert lines == [
        "info    price@1 starts with 1 worker.",
        "info    Stopping: what is under way is answered first.",
        "info    Stopped.",
    ]


def test_a_terminal_gets_text(state):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0"],
        env={**os.environ, "STEELYARD_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("price@1 answers at ")
        assert os.read(ours, 1_000).decode()[9:].strip() == "info    price@1 starts with 1 worker."
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    os.close(ours)
