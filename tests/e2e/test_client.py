"""The client against real servers that die, are stopped, come back, or whose answers get lost."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.client import Client
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.errors import AccessError, InputError, UnavailableError
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger
from steelyard.predictions import compact, read, read_segment


class House(sy.Row):
    rooms: int = sy.Field(ge=1, le=1_000_000)
    area: float


def houses() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    rooms, area = draw.integers(1, 8, 300), draw.uniform(20, 200, 300)
    return pl.DataFrame({"rooms": rooms, "area": area, "price": rooms * 10 + area})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a version that passed and is champion."""
    folder = tmp_path_factory.mktemp("served") / "state"
    config = Config(folder)
    definition = sy.Model(
        name="price", row=House, data=sy.Python(houses), label="price", estimator=Ridge()
    )
    built = build(definition, read_table(definition, config), folder / "candidates")
    ledger = open_ledger(config)
    ledger.register(
        "price",
        bundle=built.folder,
        bundle_hash=built.bundle,
        provenance={},
        verdict=Verdict(built.bundle, hash_json({}), (Check("schema", "rows", True),)),
        documents={},
        by="test",
    )
    ledger.promote(Reference("price", version=1), alias="champion", reason="", by="test")
    return folder


class Server:
    """A real server on a port of its own; its log lies in `log`."""

    def __init__(self, store: Path, log: Path, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log / "predictions" / "price"
        self._words = words
        self._environment = {
            **os.environ,
            "STEELYARD_STATE": str(log),
            "STEELYARD_STORE": str(store / "store"),
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "steelyard", "serve", "price", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *self._words], env=self._environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+", line), line

    def workers(self) -> list[int]:
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def raw_ids(self) -> Counter[str]:
        """How often each id was written, doubles included."""
        return Counter(
            msgspec.json.decode(payload)["prediction_id"]
            for path in self.log.glob("segments/*.log")
            for payload in read_segment(path)
        )


@pytest.fixture
def serve(store: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*words: str) -> Server:
        started.append(Server(store, tmp_path, *words))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.end()


def wait_for(true: Callable[[], object]) -> None:
    late = time.monotonic() + 60
    while not true():
        assert time.monotonic() < late
        time.sleep(0.01)


def wait_for_more(answers: dict[str, float], failures: list[Exception]) -> None:
    enough = len(answers) + 200
    wait_for(lambda: len(answers) > enough or failures)


def test_kills_under_load_lose_nothing_and_log_everything_once(serve) -> None:
    server = serve("--workers", "2")
    answers: dict[str, float] = {}
    failures: list[Exception] = []
    stop = threading.Event()

    def ask(client: Client, first: int) -> None:
        number = first
        while not stop.is_set():
            number += 1
            row = {"rooms": number, "area": 50.0}
            try:
                several = number % 10 == 0
                found = client.predict_many([row] * 30) if several else [client.predict(row)]
            except Exception as error:  # noqa: BLE001  # any failure is a finding
                failures.append(error)
                return
            answers.update({one.prediction_id: float(one.prediction) for one in found})

    with Client(server.url, timeout=30, attempts=20) as client:
        client.service()
        threads = [threading.Thread(target=ask, args=(client, i * 100_000)) for i in range(4)]
        for thread in threads:
            thread.start()
        for together in (1, 2, 1):
            wait_for_more(answers, failures)
            wait_for(lambda: len(server.workers()) == 2)
            for worker in server.workers()[:together]:
                os.kill(worker, signal.SIGKILL)
        wait_for_more(answers, failures)
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    server.end()
    logged = {record.prediction_id: record.prediction for record in read(server.log)}
    assert logged == answers  # none lost, none besides, each with the answer that was given
    assert compact(server.log).records == len(answers)
    assert {record.prediction_id for record in read(server.log)} == set(answers)


class Between:
    """A proxy before a server; `lose` is called with an answer that will not be passed on."""

    def __init__(self, port: int, lose: Callable[[], None], times: int) -> None:
        self._port = port
        self._lose = lose
        self._times = times
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Between":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(20)

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                self._exchange(client)

    def _exchange(self, client: socket.socket) -> None:
        """Pass one request and its answer, both short, on; or lose the answer."""
        request = client.recv(65_536)
        while b"POST" in request[:4] and not request.endswith(b"}"):
            request += client.recv(65_536)
        with socket.create_connection(("127.0.0.1", self._port), timeout=20) as server:
            server.sendall(request)
            answer = server.recv(65_536)
            while not answer.endswith(b"}"):
                answer += server.recv(65_536)
        if self._times:
            self._times -= 1
            self._lose()
        else:
            client.sendall(answer)


def test_an_answer_that_got_lost_is_given_again_by_the_same_worker(serve) -> None:
    server = serve()
    with Between(server.port, lambda: None, 2) as between:
        with Client(f"{between.url}/predict/price") as client:
            one = client.predict({"rooms": 3, "area": 50.0})
        assert server.raw_ids() == {one.prediction_id: 1}  # written once, asked three times


def test_an_answer_that_got_lost_with_its_server_counts_once(serve) -> None:
    server = serve()

    def restart() -> None:
        server.end(signal.SIGKILL)
        server.start()

    with (
        Between(server.port, restart, 1) as between,
        Client(f"{between.url}/predict/price") as client,
    ):
        one = client.predict({"rooms": 3, "area": 50.0})
        many = client.predict_many([{"rooms": 3, "area": 50.0}])
    assert server.raw_ids()[one.prediction_id] == 2
    assert [record.prediction_id for record in read(server.log)] == sorted(
        [one.prediction_id, many[0].prediction_id]
    )
    server.end()
    assert compact(server.log).records == 2


def test_a_server_that_hangs_is_not_waited_for_beyond_the_deadline(serve) -> None:
    server = serve()
    row = {"rooms": 3, "area": 50.0}
    with Client(server.url, fallback=0.0) as client:
        assert client.predict(row).source == "model"
        server.process.send_signal(signal.SIGSTOP)
        late = client.predict(row, timeout=0.3)
        assert (late.prediction, late.source) == (0.0, "client-fallback")
        assert "in time" in late.reason
        server.process.send_signal(signal.SIGCONT)
        assert client.predict(row, timeout=30).source == "model"


def test_a_server_that_goes_and_comes_back(serve) -> None:
    server = serve()
    row = {"rooms": 3, "area": 50.0}
    with Client(server.url, fallback=lambda row: row["rooms"] * 1.0, attempts=2) as client:
        before = client.predict(row)
        server.end()
        gone = client.predict(row)
        assert (gone.prediction, gone.source, gone.model) == (3.0, "client-fallback", "price")
        with pytest.raises(UnavailableError, match="after 2 tries"):
            Client(server.url, attempts=2).predict(row)
        server.start()
        after = client.predict(row)
        assert (after.source, after.prediction) == ("model", before.prediction)
    logged = {record.prediction_id for record in read(server.log)}
    assert logged == {before.prediction_id, after.prediction_id}


def test_rows_are_answered_as_one_by_one_and_refused_by_name(serve) -> None:
    server = serve()
    rows = [{"rooms": i + 1, "area": 10.0 * i} for i in range(1_500)]
    with Client(server.url, row=House) as client:
        service = client.service()
        assert (service.model, service.version) == ("price", 1)
        assert service.row["properties"]["rooms"]["minimum"] == 1
        many = client.predict_many(rows)
        assert [one.prediction for one in many[:20]] == [
            client.predict(row).prediction for row in rows[:20]
        ]
        assert client.predict(House(rooms=1, area=0)).prediction == many[0].prediction
    with Client(server.url) as client, pytest.raises(InputError, match=r"rows\.1234\.rooms"):
        client.predict_many([*rows[:1234], {"rooms": 0, "area": 1.0}])
    assert len(set(server.raw_ids())) == 1_000 + 1_500 + 21


def test_a_table_is_answered_as_its_rows(serve) -> None:
    server = serve()
    frame = pl.DataFrame(
        {"rooms": [i % 9 + 1 for i in range(12_000)], "area": [10.0 * i for i in range(12_000)]}
    )
    with Client(server.url) as client:
        assert client.service().tables
        rows = client.predict_many(frame.to_dicts())
        numbers = [one.prediction for one in rows]
        assert [one.prediction for one in client.predict_many(frame)] == numbers
        table = client.predict_table(frame)
        assert isinstance(table, pl.DataFrame)
        assert table["prediction"].to_list() == numbers
        assert table["prediction_id"].n_unique() == 12_000
        arrow = client.predict_table(frame.to_arrow())
        assert arrow["prediction"].to_pylist() == numbers
        assert client.predict_many(frame.to_pandas())[-1].prediction == numbers[-1]
        bad = frame.with_columns(rooms=pl.when(pl.col("area") == 110_000.0).then(0).otherwise(1))
        for ask in (client.predict_many, client.predict_table):
            with pytest.raises(InputError, match=r"rows\.11000\.rooms"):
                ask(bad)
    checked = Client(server.url, row=House)  # checked here, and so sent as rows
    with checked, pytest.raises(InputError, match=r"rows\.11000\.rooms"):
        checked.predict_many(bad)
    gone = Client("http://127.0.0.1:1/predict/price", fallback=lambda row: row["area"], attempts=1)
    found = gone.predict_many(frame.head(3))
    assert [one.prediction for one in found] == [0.0, 10.0, 20.0]
    with pytest.raises(UnavailableError):
        gone.predict_table(frame)


def test_a_server_that_asks_for_a_key_gets_it(serve, tmp_path: Path) -> None:
    server = serve("--auth", "required")
    row = {"rooms": 3, "area": 50.0}
    with Client(server.url, fallback=0.0) as client, pytest.raises(AccessError, match="valid key"):
        client.predict(row)
    made = subprocess.run(
        [sys.executable, "-m", "steelyard", "keys", "create", "client", "--json"],
        env={**os.environ, "STEELYARD_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    key = json.loads(made.stdout)["key"]
    with Client(server.url, api_key=key) as client:
        wait_for(lambda: answered(client, row))  # the server looks for new keys now and then
        assert client.predict_many([row])[0].source == "model"


def answered(client: Client, row: dict[str, float]) -> bool:
    try:
        return client.predict(row).source == "model"
    except AccessError:
        return False
