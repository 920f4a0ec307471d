"""Real processes on real sockets: start, share a port, die, be replaced, drain, end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from steelyard.errors import UsageError
from steelyard.predictions import read
from steelyard.serve.server import bind

SERVER = """
import sys
from pathlib import Path
from steelyard.core.ids import uuid7
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.server import Setup
from steelyard.serve.answer.version import Served
from steelyard.serve.workers import serve

bundle, folder, log, shared, workers, problem = sys.argv[1:]
setup = Setup(
    follow=lambda: Served(1, bundle, Path(folder)),
    open_log=lambda model: PredictionWriter(Path(log), model=model),
    new_id=uuid7,
    log_problem=lambda model: problem,
    shared=Path(shared),
    workers=int(workers),
)
serve(setup, "127.0.0.1", 0, lambda endpoint, url: print(url, flush=True))
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    log: Path

    def ask(self, path: str, body: object = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with closing(error):
                return error.code, error.read()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @property
    def workers(self) -> list[int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]


@pytest.fixture
def run(bundles, tmp_path) -> Iterator[Callable[..., Running]]:
    running: list[subprocess.Popen[str]] = []

    def start(workers: int = 1, problem: str = "", errors: int | None = None) -> Running:
        served, log = bundles["price"], tmp_path / "log"
        (tmp_path / "shared").mkdir(exist_ok=True)
        command = [sys.executable, "-c", SERVER, served.bundle, str(served.folder), str(log),
                   str(tmp_path / "shared"), str(workers), problem]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        running.append(process)
        assert process.stdout is not None
        return Running(process, process.stdout.readline().strip(), log)

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def logged(server: Running) -> list[str]:
    return [record.prediction_id for record in read(server.log)]


def eventually(look: Callable[[], object], seconds: float = 15) -> object:
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_server_answers_logs_and_ends_in_peace(run, house):
    server = run()
    status, body = server.ask("/predict/price", house)
    assert status == 200
    assert server.end() == 0
    assert logged(server) == [json.loads(body)["prediction_id"]]


def test_a_taken_port_is_told_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="takes any free one"):
            bind("127.0.0.1", taken.getsockname()[1])


def test_an_address_of_another_machine_is_told():
    with pytest.raises(UsageError, match=re.escape("cannot listen on 192.0.2.1:0")):
        bind("192.0.2.1", 0)


def test_what_is_under_way_is_answered_after_sigterm(run, house):
    server = run()
    port = int(server.url.rpartition(":")[2])
    body = json.dumps(house).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = (
            f"POST /predict/price HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:10])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(body[10:])
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.process.wait(30) == 0
    assert logged(server) == [json.loads(answer.partition(b"\r\n\r\n")[2])["prediction_id"]]


def test_a_signal_before_the_start_is_not_forgotten(bundles, tmp_path):
    served = bundles["price"]
    # The signal comes while the bundle is loaded.
    script = SERVER.replace(
        "follow=lambda: Served(",
        "follow=lambda: __import__('os').kill(__import__('os').getpid(), 15) or Served(",
    )
    command = [sys.executable, "-c", script, served.bundle, str(served.folder),
               str(tmp_path / "log"), str(tmp_path), "1", ""]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_server_whose_log_takes_nothing_is_not_ready(run):
    server = run(problem="the disk is full")
    status, body = server.ask("/health/ready")
    assert status == 503
    assert json.loads(body)["problem"] == "the disk is full"


def test_a_killed_worker_is_replaced_and_no_answer_is_lost(run, house):
    server = run(workers=2, errors=subprocess.PIPE)
    assert eventually(lambda: len(server.workers) == 2)
    before = set(server.workers)
    ids = [json.loads(server.ask("/predict/price", house)[1])["prediction_id"] for _ in range(20)]
    os.kill(min(before), signal.SIGKILL)
    assert eventually(lambda: len(set(server.workers) - before) == 1)
    assert server.process.stderr is not None
    assert f"({min(before)}) died: signal 9" in server.process.stderr.readline()

    def answers() -> bool:
        try:
            status, body = server.ask("/predict/price", house)
        except (urllib.error.URLError, ConnectionError):
            return False  # it met the dead worker's socket
        ids.append(json.loads(body)["prediction_id"])
        return status == 200

    assert eventually(answers)
    assert server.end() == 0
    assert Counter(logged(server)) == Counter(ids)


def test_a_killed_worker_is_replaced_also_where_its_counts_cannot_be_kept(run, house, tmp_path):
    server = run(workers=2)
    assert eventually(lambda: len(server.workers) == 2)
    before = set(server.workers)
    shutil.rmtree(tmp_path / "shared")
    os.kill(min(before), signal.SIGKILL)
    assert eventually(lambda: len(set(server.workers) - before) == 1)
    assert server.ask("/predict/price", house)[0] == 200
    assert server.end() == 0


def test_any_worker_shows_the_counters_of_all(run, house):
    server = run(workers=2)
    for _ in range(20):
        assert server.ask("/predict/price", house)[0] == 200

    def total() -> bool:
        text = server.ask("/metrics")[1].decode()
        found = re.search(r'steelyard_predictions_total{.*version="1"} (\S+)', text)
        return found is not None and float(found[1]) == 20

    assert eventually(total)
    assert server.end() == 0


def test_what_a_dead_worker_counted_is_not_forgotten(run, house, tmp_path):
    server = run(workers=2, errors=subprocess.DEVNULL)
    assert eventually(lambda: len(server.workers) == 2)
    for _ in range(20):
        assert server.ask("/predict/price", house)[0] == 200

    def told(name: str, labels: str = "") -> float:
        try:
            text = server.ask("/metrics")[1].decode()
        except (urllib.error.URLError, ConnectionError):
            return -1  # it met the dead worker's socket
        found = re.search(rf"^{name}{{[^}}]*{labels}[^}}]*}} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1

    def left() -> float:
        """Return what workers left for each other, which is what outlives them."""
        found = [json.loads(path.read_bytes()) for path in (tmp_path / "shared").glob("*-*.json")]
        return sum(count for one in found for _, count in one["counters"]["predictions"])

    assert eventually(lambda: left() == 20)
    for pid in server.workers:  # both, one after the other
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda pid=pid: pid not in server.workers and len(server.workers) == 2)
    assert eventually(lambda: told("steelyard_worker_deaths_total") == 2)
    assert eventually(lambda: told("steelyard_predictions_total") == 20)
    assert eventually(lambda: told("steelyard_workers") == 2)
    for place in (0, 1):
        worker = f'worker="{place}"'
        assert eventually(lambda worker=worker: told("process_open_fds", worker) > 0)
    assert server.end() == 0


def test_workers_end_with_the_process_that_keeps_them(run):
    server = run(workers=2)
    assert eventually(lambda: len(server.workers) == 2)
    workers = server.workers
    server.process.kill()
    server.process.wait()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_workers_that_cannot_start_are_given_up(bundles, tmp_path):
    command = [sys.executable, "-c", SERVER, "0" * 64, str(bundles["price"].folder),
               str(tmp_path / "log"), str(tmp_path), "2", ""]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "does not have the bundle's hash" in ended.stderr
    assert "workers in a row died" in ended.stderr
