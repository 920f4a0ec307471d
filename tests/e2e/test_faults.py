"""Faults under load: nothing wrong without a mark, nothing answered lost, and all right again after.

Each test counts what comes back to clients that know the right answers, before, during and after a
fault. The short form is part of the suite; the long one, `make long`, prints its counts as a table.
"""

import asyncio
import contextlib
import os
import shutil
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

# Servers and clients that start while the machine is at work take their time.
pytestmark = pytest.mark.timeout(300)

TITLES = ("fault", "while", "right", "fallback", "status", "refused", "cut off", "torn", "silence",
          "wrong")  # fmt: skip


@pytest.fixture(params=[0.5, pytest.param(15.0, marks=[pytest.mark.long])], ids=["short", "long"])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long a fault goes on."""
    return float(request.param)


LATE = {"fallback late", "status 503"}
"""What a busy machine may make of an answer where the time is short."""


def only_long(value: Any) -> Any:
    """Return a parameter that the long form alone has."""
    return pytest.param(value, marks=[pytest.mark.long])


class Course:
    """The course of a fault: what clients heard before, during and after it."""

    def __init__(self, name: str, server: Any, load: Any, tell: Callable[[str], None]) -> None:
        self.name = name
        self.server = server
        self.clients = load
        self.heard = load.heard
        self.began = self.healed = 0.0
        self.fallbacks: dict[str, float] = {}
        """Fallback answers that the server counted, by their reasons."""
        self.dropped = 0.0
        """Answers that the server says it could not log."""
        self.tell = tell

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
    def so_far(self) -> Counter[str]:
        """What came since the fault began, while it goes on."""
        return self.heard.between(self.began)

    @property
    def before(self) -> Counter[str]:
        return self.heard.between(end=self.began)

    @property
    def during(self) -> Counter[str]:
        return self.heard.between(self.began, self.healed)

    @property
    def after(self) -> Counter[str]:
        return self.heard.between(self.healed)

    def judge(self, drops: bool = False) -> None:
        """Hold to what is true of every fault; the server has ended.

        Where it `drops`, the log may lack answers: as many as the server counted.
        """
        assert not set(self.before) - {"right"} - LATE
        whole = self.before + self.during + self.after
        assert not whole["wrong"]
        assert not whole["silence"]
        assert not whole["torn"]
        logged = self.server.logged()
        found = {one["prediction_id"]: (one["prediction"], one["source"]) for one in logged}
        lost = [key for key, given in self.heard.given.items() if found.get(key) != given]
        assert len(lost) == self.dropped, f"lost: {len(lost)} of {len(self.heard.given)}"
        assert drops or not lost
        assert self.heard.twice == 0
        assert len(found) == len(logged), "an answer is in the log twice"
        said = self.server.said()
        for trouble in ("Exception in", "never retrieved", "never awaited"):
            assert trouble not in said, said[-3000:]
        for name, found in (
            ("before", self.before),
            ("during", self.during),
            ("after", self.after),
        ):
            if found:
                self.tell(line(self.name, name, found))
        recovery = self.heard.recovery(self.healed) if self.after["right"] else float("nan")
        self.tell(
            f"| {self.name} | | all right {recovery:.2f} s after its end; {len(self.heard.given)} "
            f"predictions answered, {len(logged)} logged, {len(lost)} lost, "
            f"{self.heard.twice} answered twice |"
        )


def line(name: str, when: str, found: Counter[str]) -> str:
    def some(start: str) -> str:
        named = sorted(x for x in found if x.startswith(start))
        return ", ".join(f"{x.removeprefix(start)} {found[x]}" for x in named) or "0"

    cells = [str(found["right"]), some("fallback "), some("status ")]
    cells += [str(found[x]) for x in TITLES[5:]]
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
    def run(
        name: str,
        server: Any,
        clients: Any,
        heal: Callable[[], object] | None,
        *,
        drops: bool = False,
    ) -> Iterator[Course]:
        with clients:
            found = Course(name, server, clients, tell)
            found.settle()
            found.began = time.monotonic()
            yield found
            time.sleep(max(0.0, seconds - (time.monotonic() - found.began)))
            found.healed = time.monotonic()
            if heal is not None:
                heal()
                found.settle()
        if heal is not None:
            found.dropped = sum(server.counted("log_dropped_total").values())
            found.fallbacks = server.counted("fallbacks_total")
        assert server.end() == 0
        found.judge(drops)

    return run


def wait_for(true: Callable[[], object], patience: float = 60) -> None:
    late = time.monotonic() + patience
    while not true():
        assert time.monotonic() < late
        time.sleep(0.01)


# The model.

REASONS = {
    "sleep 1": {"late", "broken"}, "raise": {"failed", "broken"}, "nan": {"not_finite"},
}  # fmt: skip
SHORT = "--timeout-ms", "400"


def terms(fault: str) -> tuple[str, ...]:
    """Return how a server is started whose model will fail like that."""
    return SHORT if fault.startswith("sleep") else ()


@pytest.mark.parametrize("fault", REASONS)
def test_a_model_that_fails_is_stood_in_for_by_the_fallback(faulty, load, course, fault) -> None:
    server = faulty(*terms(fault))
    with course(f"model: {fault}", server, load(server), lambda: server.fault("well")) as ran:
        server.fault(fault)
        wait_for(lambda: set(ran.so_far) - {"right"})
    fallbacks = {f"fallback {why}" for why in REASONS[fault]}
    assert set(ran.during + ran.after) <= {"right"} | fallbacks
    whole = ran.before + ran.during + ran.after
    heard = Counter({x: n for x, n in whole.items() if x.startswith("fallback")})
    assert heard == {f"fallback {why}": n for why, n in ran.fallbacks.items()}


@pytest.mark.parametrize("fault", ["sleep 1", *map(only_long, ["raise", "nan"])])
def test_so_are_the_rows_of_a_request_of_several(faulty, load, course, fault) -> None:
    server = faulty(*terms(fault))
    clients, name = load(server, 4, together=5), f"model: {fault}, 5 rows"
    with course(name, server, clients, lambda: server.fault("well")) as ran:
        server.fault(fault)
        # What has no time of its own waits for a model that sleeps.
        wait_for(lambda: ran.so_far)
    assert set(ran.during + ran.after) <= {"right"} | {f"fallback {x}" for x in REASONS[fault]}


STATUSES = {"sleep 1": {"503"}, "raise": {"500", "503"}, "nan": {"422"}}


@pytest.mark.parametrize("fault", ["nan", *map(only_long, ["sleep 1", "raise"])])
def test_without_a_fallback_a_failure_is_an_error(faulty, load, course, fault) -> None:
    server = faulty(*terms(fault), model="bare")
    name = f"model: {fault}, no fallback"
    with course(name, server, load(server), lambda: server.fault("well")) as ran:
        server.fault(fault)
        wait_for(lambda: set(ran.so_far) - {"right"})
    assert set(ran.during + ran.after) <= {"right"} | {f"status {x}" for x in STATUSES[fault]}


# The process.


def test_a_killed_worker_is_replaced(faulty, load, course, seconds) -> None:
    server = faulty("--workers", "2")
    wait_for(lambda: len(server.workers()) == 2)
    killed: list[int] = []
    with course("worker: kill -9", server, load(server), lambda: None) as ran:
        while not killed or time.monotonic() < ran.began + seconds - STEADY:
            killed.append(server.workers()[len(killed) % 2])
            os.kill(killed[-1], signal.SIGKILL)
            begun = time.monotonic()
            wait_for(lambda: len(set(server.workers()) - set(killed)) == 2)
            ran.tell(f"| | | another worker began {time.monotonic() - begun:.2f} s after a kill |")
            wait_for(lambda: ran.so_far["right"] > 100)
            time.sleep(STEADY if seconds > 1 else 0)
        deaths = server.counted("worker_deaths_total")
    assert sum(deaths.values()) == len(killed)
    assert set(ran.during + ran.after) <= {"right", "cut off", "refused"}


STEADY = 3.5
"""Workers that die sooner are not replaced for ever."""


@pytest.mark.parametrize("workers", [2, only_long(1)])
def test_a_server_that_is_told_to_end_answers_what_it_has_begun(
    faulty, load, course, workers
) -> None:
    server = faulty("--workers", str(workers))
    with course(f"SIGTERM, workers: {workers}", server, load(server), None) as ran:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        ran.tell(f"| | | it ended after {time.monotonic() - ran.began:.2f} s |")
    assert set(ran.during) <= {"right", "cut off", "refused"}


def test_so_it_does_where_a_slow_model_has_many_waiting(faulty, load, known) -> None:
    server = faulty("--timeout-ms", "10000")
    server.fault("sleep 0.3")
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server, known.rows[0])))
               for _ in range(50)]  # fmt: skip
    for thread in threads:
        thread.start()
    wait_for(lambda: server.counted("waiting_rows").get("", 0) > 10)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert server.end() == 0
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 50
    assert len(server.logged()) == 50


def ask(server: Any, row: bytes) -> bytes:
    """Return what comes for one row, whatever it is."""
    head = f"POST /predict/{server.model} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(row)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode() + row)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# What is stored.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "steelyard-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("policy", ["refuse", "answer"])
def test_a_full_disk(faulty, load, course, small_disk, policy) -> None:
    server = faulty("--on-full", policy, state=small_disk)
    ballast = small_disk / "ballast"
    answers = policy == "answer"
    with course(f"disk full, {policy}", server, load(server), ballast.unlink, drops=answers) as ran:
        fill(ballast)
        if answers:
            wait_for(lambda: server.counted("log_dropped_total"))
        else:
            wait_for(lambda: ran.so_far["status 503"])
        assert server.get("/health/ready")[0] == (200 if answers else 503)
        assert server.get("/health/live")[0] == 200
    assert set(ran.during + ran.after) == {"right"} if answers else {"right", "status 503"}
    assert (ran.dropped > 0) == answers


def fill(path: Path) -> None:
    """Leave no byte on a disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def test_the_store_is_gone(faulty, load, course, houses_store, tmp_path) -> None:
    store, gone = tmp_path / "store", tmp_path / "gone"
    shutil.copytree(houses_store[0], store)
    server = faulty(store=str(store))
    with course("store: folder gone", server, load(server), lambda: gone.rename(store)) as ran:
        store.rename(gone)
        wait_for(lambda: '"behind"' in server.get("/health/ready")[1])
        assert server.get("/health/ready")[0] == 200
    assert set(ran.during + ran.after) == {"right"}


BUCKET = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), sep=":", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """An S3 of a process of its own, to which the environment leads."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto.server")
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", BUCKET], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdin is not None
    url = f"http://{process.stdout.readline().strip()}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "STEELYARD_STORE": "s3://models/team",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"{url}/models").raise_for_status()
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_bucket_is_gone(
    faulty, load, course, bucket, register_price, tmp_path, seconds
) -> None:
    register_price(Config(tmp_path / "made"))
    server = faulty(store="s3://models/team")
    with course("store: bucket's server gone", server, load(server), lambda: None) as ran:
        bucket.send_signal(signal.SIGSTOP)  # it does not even refuse
        time.sleep(seconds / 2)
        bucket.kill()
        began = time.monotonic()
        wait_for(lambda: '"behind"' in server.get("/health/ready")[1])
        ran.tell(f"| | | told as `behind` {time.monotonic() - began:.1f} s after it was killed |")
        assert server.get("/health/ready")[0] == 200
    assert set(ran.during + ran.after) == {"right"}


# The clients.


@pytest.mark.parametrize(("clients", "together"), [(160, 5), (1_500, 1)])
def test_ten_times_too_many_clients_are_told_to_come_again(
    faulty, load, course, seconds, clients, together
) -> None:
    server = faulty("--timeout-ms", "1000")
    health: Counter[int] = Counter()
    slowest = 0.0
    name = f"overload: {clients} clients, {together} rows"
    with course(name, server, load(server, 4), lambda: server.fault("well")) as ran:
        server.fault("sleep 0.06")
        with load(server, clients, together=together) as crowd:
            while time.monotonic() < ran.began + seconds or not crowd.heard.between()["status 503"]:
                begun = time.monotonic()
                health[server.get("/health/live")[0]] += 1
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.02)
            server.fault("well")
        found = crowd.heard.between()
        ran.tell(line(name, "the crowd", found))
        ran.tell(f"| | | health: {dict(health)}, the slowest in {slowest:.3f} s |")
        ran.heard.given.update(crowd.heard.given)
    assert set(health) == {200}
    assert set(found) <= {"right", "fallback late", "fallback broken", "status 503"}
    assert found["status 503"]


def test_slow_clients_do_not_hurt_the_others(faulty, load, course, known, seconds) -> None:
    server = faulty()
    row = known.rows[0]
    head = f"POST /predict/price HTTP/1.1\r\nhost: here\r\ncontent-length: {len(row)}\r\n"
    sent = head.encode() + b"content-type: application/json\r\n\r\n" + row
    heard: Counter[str] = Counter()

    async def drip() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        answer = asyncio.create_task(reader.readline())
        for byte in sent:
            writer.write(bytes([byte]))
            await asyncio.wait([answer], timeout=seconds / len(sent))
            if answer.done():
                break
        heard[(await answer).decode().strip()] += 1
        writer.close()

    async def drip_all() -> None:
        await asyncio.gather(*(drip() for _ in range(100)))

    with course("100 clients, byte by byte", server, load(server), lambda: None) as ran:
        asyncio.run(drip_all())
        ran.tell(f"| | | they heard {dict(heard)} |")
    assert set(ran.during) == {"right"}
    # A head has ten seconds, which a busy machine may use up.
    assert set(heard) <= {"HTTP/1.1 200 OK", "HTTP/1.1 408 Request Timeout"}


def test_huge_bodies_are_refused_at_once_and_take_no_memory(faulty, load, course, seconds) -> None:
    server = faulty()
    start = b"POST /predict/price HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
    part = b"x" * (1 << 20)
    bodies = {
        "declared": (b"content-length: 10000000000\r\n\r\n", b""),
        "chunked": (b"transfer-encoding: chunked\r\n\r\n", b"100000\r\n" + part + b"\r\n"),
        "sent": (b"content-length: 100000000\r\n\r\n", part),
    }
    heard: Counter[str] = Counter()

    def send(head: bytes, part: bytes) -> str:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(start + head)
            with contextlib.suppress(OSError):
                for _ in range(100 if part else 0):
                    connection.sendall(part)
            try:
                return connection.recv(1_000).split(b"\r\n")[0].decode()
            except ConnectionResetError:
                return "reset"  # the rest that was on its way met a closed connection

    with course("huge bodies", server, load(server), lambda: None) as ran:
        for head, part in bodies.values():
            send(head, part)
        before = server.memory()
        while time.monotonic() < ran.began + seconds or heard.total() < 12 * len(bodies):
            for name, (head, part) in bodies.items():
                heard[f"{name}: {send(head, part)}"] += 1
        grown = server.memory() - before
        ran.tell(f"| | | {dict(heard)}; memory grew by {grown / 2**20:.1f} MiB at the most |")
    assert set(ran.during) == {"right"}
    assert "declared: HTTP/1.1 413 Request Entity Too Large" in heard
    assert all("413" in what or what.endswith("reset") for what in heard)
    assert grown < 32 * 2**20  # four bodies of the largest size
