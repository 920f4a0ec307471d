"""A served model from outside: hostile requests, kills under load, moves of the alias, bad starts."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier

import steelyard as sy
from steelyard import Field
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger
from steelyard.predictions import read

ROW = {"tenure": 5, "charge": 70.5, "total": None, "plan": "basic", "city": "Rome",
       "at": "2024-01-01T00:00:00", "active": True}  # fmt: skip
FIELDS = list(ROW)


class Customer(sy.Row):
    tenure: int = Field(ge=0, le=100)
    charge: float = Field(gt=0)
    total: float | None
    plan: Literal["basic", "pro"]
    city: str = Field(max_length=20, min_length=1)
    at: datetime
    active: bool


def customers() -> pl.DataFrame:
    random_ = np.random.default_rng(0)
    tenure = random_.integers(0, 100, 300)
    return pl.DataFrame(
        {
            "tenure": tenure,
            "charge": random_.uniform(1, 100, 300),
            "total": [None if i % 7 == 0 else float(i) for i in range(300)],
            "plan": np.where(tenure % 2, "basic", "pro"),
            "city": [["Rome", "Oslo", "Ürümqi"][i % 3] for i in range(300)],
            "at": ["2024-01-01T00:00:00"] * 300,
            "active": tenure > 30,
            "churn": np.where(tenure + random_.normal(0, 30, 300) > 50, "Yes", "No"),
        }
    )


def definition(trees: int) -> sy.Model:
    return sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive="Yes",
        estimator=RandomForestClassifier(trees, random_state=0),
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions that passed, the first of them champion, and one that failed."""
    folder = tmp_path_factory.mktemp("served") / "state"
    config = Config(folder)
    ledger = open_ledger(config)
    for trees, passed in ((5, True), (6, True), (7, False)):
        made = definition(trees)
        built = build(made, read_table(made, config), folder / "candidates")
        provenance = {"trees": trees}
        checks = (Check("schema", "rows", passed),)
        ledger.register(
            "churn",
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance=provenance,
            verdict=Verdict(built.bundle, hash_json(provenance), checks),
            documents={},
            by="test",
        )
    promote(folder, 1)
    return folder


def promote(state: Path, number: int) -> None:
    ledger = open_ledger(Config(state))
    ledger.promote(Reference("churn", version=number), alias="champion", reason="", by="test")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "steelyard", "serve", *words]


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int

    def ask(self, body: bytes, path: str = "/predict/churn", **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            given = {"Content-Type": "application/json", **headers}
            connection.request("POST", path, body, given)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def serve(state: Path, *words: str) -> Server:
    process = subprocess.Popen(
        command(*(words or ("churn",)), "--port", "0"),
        env={**os.environ, "STEELYARD_STATE": str(state)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, line
    return Server(process, int(found[1]))


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    started = serve(state)
    yield started
    assert end(started) == 0


def end(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()
    return code


# Hostile requests.

WRONG: dict[str, list[Any]] = {
    "tenure": [-1, 101, 5.5, "5", True, None, [], {}, 10**30, "x" * 500],
    "charge": [0, -0.1, "70.5", False, None, [1], float("nan"), float("inf")],
    "total": ["", "12", True, [None], {"a": 1}, float("-inf")],
    "plan": ["", "Basic", "basic ", 1, None, ["basic"], "\ud800"],
    "city": ["", "x" * 21, 5, None, {"city": "Rome"}, "\ufdd0"],
    "at": ["", "2024-01-01", "2024-13-01T00:00:00", "2024-01-01T00:00:00Z", 0, None, "now"],
    "active": [0, 1, "true", None, "", []],
}
RAW_WRONG = [b"1e999", b"-1e999", b"NaN", b"1" + b"0" * 5_000, b"[" * 200 + b"]" * 200,
             b'"\xff"', b'"\\ud800"', b'"\\udc00\\ud800"']  # fmt: skip
BODIES = [
    b"", b" ", b"null", b"[]", b"5", b'"row"', b"{", b"}", b"{}x", b'{"tenure"', b'{"tenure":}',
    b"\xef\xbb\xbf{}", b"\x00", b"\xff\xfe{\x00}\x00", b"{'tenure': 5}", b"tenure=5",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"rows":' * 1_000, b'{"rows":[[]]}', b'{"rows":[1,]}',
    b'{"rows":5}', b'{"rows":[{}]}', b'{"rows":[{}],"rows":[]}', b'{"rows":[],"x":1}',
    b'{"rows":' + b"[" * 100_000,
]  # fmt: skip


def noisy(draw: random.Random) -> tuple[bytes, set[str]]:
    data = bytearray(json.dumps(ROW).encode())
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data), set()


def cut_off(draw: random.Random) -> tuple[bytes, set[str]]:
    data = json.dumps(ROW).encode()
    return data[: draw.randrange(len(data))], set()


def repeated(draw: random.Random) -> tuple[bytes, set[str]]:
    name = draw.choice(FIELDS)
    pair = json.dumps({name: ROW[name]})[1:-1]
    return (json.dumps(ROW)[:-1] + ", " + pair + "}").encode(), {name}


def raw(draw: random.Random) -> tuple[bytes, set[str]]:
    """A value that no serialiser writes."""
    name = draw.choice(FIELDS)
    text = json.dumps(ROW | {name: "@"}).encode()
    return text.replace(b'"@"', draw.choice(RAW_WRONG)), {name}


def spoiled(draw: random.Random) -> tuple[dict[str, Any], set[str]]:
    """A row with wrong, absent and unknown fields."""
    row = dict(ROW)
    named = set()
    for name in draw.sample(FIELDS, draw.randint(1, 3)):
        named.add(name)
        if draw.random() < 0.2:
            del row[name]
        else:
            row[name] = draw.choice(WRONG[name])
    if draw.random() < 0.3:
        extra = draw.choice(["tenur", "Plan", "", "é", "x" * 300, "rows2"])
        row[extra] = draw.choice([1, None, {}, ROW])
        named.add(extra if len(extra) < 80 else "x" * 79 + "…")
    return row, named


def one_row(draw: random.Random) -> tuple[bytes, set[str]]:
    row, named = spoiled(draw)
    text = json.dumps(row, ensure_ascii=draw.random() < 0.5)
    return text.encode("utf-8", "surrogatepass"), named


def among_rows(draw: random.Random) -> tuple[bytes, set[str]]:
    row, named = spoiled(draw)
    place = draw.randint(0, 3)
    body = json.dumps({"rows": [ROW] * place + [row]}).encode()
    return body, {f"rows.{place}.{name}" for name in named}


def whole_body(draw: random.Random) -> tuple[bytes, set[str]]:
    return draw.choice(BODIES), set()


KINDS = [noisy, cut_off, repeated, raw, one_row, one_row, one_row, among_rows, whole_body]


def hostile(draw: random.Random) -> tuple[bytes, set[str]]:
    """Return a body that must be refused, and the fields that the refusal must name."""
    return draw.choice(KINDS)(draw)


def test_two_thousand_malformed_requests_are_told_which_field(server: Server) -> None:
    draw = random.Random(2026)
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for i in range(2_000):
        body, named = hostile(draw)
        connection.request("POST", "/predict/churn", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        document = json.loads(answer.read())
        statuses[answer.status] += 1
        shown = (i, body[:300], document)
        if answer.status == 200:  # noise may leave a body good
            assert not named, shown
            continue
        assert answer.status == 422, shown
        found = {error["field"] for error in document["errors"]}
        assert found, shown
        assert named <= found, shown
        assert all(error["message"] for error in document["errors"]), shown
        assert len(json.dumps(document)) < 20_000, shown
    connection.close()
    assert statuses[422] > 1_900
    # After all that it answers as before.
    assert server.ask(json.dumps(ROW).encode())[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"POST /predict/churn HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST /predict/churn HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
         b"413"),
        (b"PUT /predict/churn HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", b"405"),
        (b"GET /predict/churn/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /v2/models/%ff/infer HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
    ],
)  # fmt: skip
def test_requests_that_are_no_requests(server: Server, raw: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        assert connection.recv(65_536).split(b" ", 2)[1] == status


# Kills.


class Crowd:
    """Clients that ask on and on, and keep the ids of what was answered to them."""

    def __init__(self, clients: int) -> None:
        self.ids: list[str] = []
        self.port = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self) -> None:
        one, many = json.dumps(ROW).encode(), json.dumps({"rows": [ROW] * 40}).encode()
        draw = random.Random(threading.get_ident())
        while not self._stopped.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                while not self._stopped.is_set():
                    body = many if draw.random() < 0.1 else one
                    connection.request(
                        "POST", "/predict/churn", body, {"Content-Type": "application/json"}
                    )
                    answer = json.loads(connection.getresponse().read())
                    found = answer.get("predictions", [answer])
                    self.ids += [prediction["prediction_id"] for prediction in found]
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()


def kill_under_load(state: Path, times: int) -> None:
    draw = random.Random(times)
    answered = 0
    with Crowd(clients=4) as crowd:
        for _ in range(times):
            server = serve(state)
            crowd.port = server.port
            before = len(crowd.ids)
            time.sleep(draw.uniform(0.05, 0.4))
            server.process.kill()
            server.process.wait()
            assert server.process.stdout is not None
            server.process.stdout.close()
            answered += len(crowd.ids) > before
    assert answered > times / 2, "the kills came before the load"
    logged = Counter(record.prediction_id for record in read(Config(state).predictions / "churn"))
    lost = [prediction for prediction in crowd.ids if not logged[prediction]]
    assert not lost, f"{len(lost)} of {len(crowd.ids)} answered predictions are not in the log"
    assert max(logged.values()) == 1


def test_a_few_kills_lose_no_answered_prediction(state: Path) -> None:
    kill_under_load(state, 5)


@pytest.mark.long
def test_two_hundred_kills_lose_no_answered_prediction(state: Path) -> None:
    kill_under_load(state, 200)


# Moves of the alias.


def test_a_promotion_is_followed_under_load_and_nothing_fails(state: Path, server: Server) -> None:
    seen: list[int] = []
    statuses: Counter[int] = Counter()

    def until(number: int, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status, answer = server.ask(json.dumps(ROW).encode())
            statuses[status] += 1
            seen.append(answer["version"])
            if seen[-1] == number:
                return
        raise AssertionError(f"version {number} never answered; seen {Counter(seen)}")

    until(1)
    promote(state, 2)
    until(2)
    promote(state, 1)
    until(1)
    assert set(statuses) == {200}
    assert seen == sorted(seen[: seen.index(2) + 1]) + seen[seen.index(2) + 1 :]


# Starts.


def fails(state: Path, *words: str) -> tuple[int, str]:
    ended = subprocess.run(
        command(*words),
        env={**os.environ, "STEELYARD_STATE": str(state), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_an_unknown_model_is_told_with_the_nearest(state: Path) -> None:
    code, said = fails(state, "chrun")
    assert code == 2
    assert "Did you mean churn?" in said


def test_a_version_that_did_not_pass_is_not_served(state: Path) -> None:
    code, said = fails(state, "churn@3", "--port", "0")
    assert code == 1
    assert "3" in said


def test_a_flipped_byte_is_told_with_the_file(state: Path, tmp_path: Path) -> None:
    ledger = open_ledger(Config(state))
    folder = ledger.bundle_folder(ledger.resolve(Reference("churn", version=2)))
    path = folder / "packed.onnx"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, said = fails(state, "churn@2", "--port", "0")
    finally:
        path.write_bytes(whole)
    assert code == 1
    assert "packed.onnx" in said


def test_a_taken_port_is_told(state: Path, server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = fails(state, "churn", "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot listen" in said


def test_serving_needs_the_base_install_only() -> None:
    script = "import steelyard.flow.serving, steelyard.cli.serve, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    heavy = {"sklearn", "polars", "duckdb", "pyarrow", "pandas", "scipy", "onnx", "mlflow",
             "lightgbm", "ndonnx", "spox", "matplotlib", "obstore"}  # fmt: skip
    assert not loaded & heavy
    # Nor what only a later page needs.
    assert not loaded & {"starlette", "prometheus_client"}


def test_several_workers_share_a_port(state: Path) -> None:
    server = serve(state, "churn", "--workers", "2")
    versions = {server.ask(json.dumps(ROW).encode())[1]["version"] for _ in range(20)}
    assert versions == {1}
    assert end(server) == 0
