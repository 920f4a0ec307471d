"""A served model that can be made to fail, and clients that know what is right and count what comes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.bundle.predictor import Predictor
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger
from steelyard.predictions import read_segment

FALLBACK = 42.5
ANSWER_SECONDS = 60.0
"""An answer that takes longer is none."""
PATIENT_MS = "30000"
"""A busy machine may be slow: where no time is part of a fault, none decides what comes."""


class House(sy.Row):
    rooms: int
    area: float


def houses() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    rooms, area = draw.integers(1, 8, 300), draw.uniform(20, 200, 300)
    return pl.DataFrame({"rooms": rooms, "area": area, "price": rooms * 10 + area})


@dataclass(frozen=True)
class Known:
    """Rows, each with the right answer; models `price`, with a fallback, and `bare`, without."""

    rows: list[bytes]
    answers: list[float]


def register(model: str, fallback: Any, config: Config) -> Path:
    """Put a champion into the store that the environment and `config` name; return its bundle."""
    made = sy.Model(
        name=model,
        row=House,
        data=sy.Python(houses),
        label="price",
        estimator=Ridge(),
        fallback=fallback,
    )
    built = build(made, read_table(made, config), config.state / "candidates")
    ledger = open_ledger(config)
    verdict = Verdict(built.bundle, hash_json({}), (Check("schema", "rows", True),))
    ledger.register(
        model,
        bundle=built.folder,
        bundle_hash=built.bundle,
        provenance={},
        verdict=verdict,
        documents={},
        by="test",
    )
    ledger.promote(Reference(model, version=1), alias="champion", reason="", by="test")
    return built.folder


@pytest.fixture(scope="session")
def houses_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Known]:
    """A store with both models, and what is known of them."""
    state = tmp_path_factory.mktemp("faults") / "state"
    register("bare", None, Config(state))
    predictor = Predictor.load(register("price", sy.Constant(FALLBACK), Config(state)))
    rows = [{"rooms": 1 + i % 7, "area": 20.0 + i / 4} for i in range(400)]
    answers = predictor.predict_many([(row["rooms"], row["area"]) for row in rows])
    known = Known([json.dumps(row).encode() for row in rows], [float(a) for a, _ in answers])
    assert len(set(known.answers)) == len(rows)
    return state / "store", known


class FaultyServer:
    """A real server; `fault` says what its model does from now on."""

    def __init__(
        self,
        store: str,
        folder: Path,
        *words: str,
        model: str = "price",
        state: Path | None = None,
        **environment: str,
    ) -> None:
        self.model = model
        self.state = state or folder
        self._file = folder / "fault"
        self.fault("well")
        self._said = folder / "said"
        command = [sys.executable, str(Path(__file__).with_name("faulty_server.py"))]
        if "--timeout-ms" not in words:
            words = *words, "--timeout-ms", PATIENT_MS
        places = {"STEELYARD_STATE": str(self.state), "STEELYARD_STORE": store}
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [*command, str(self._file), "serve", model, "--port", "0", *words],
                env={**os.environ, **places, **environment},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + self.said()
        self.port = int(found[1])

    def fault(self, word: str) -> None:
        """Let the model be `well`, `sleep SECONDS`, `raise` or give `nan`."""
        aside = self._file.with_suffix(".new")
        aside.write_text(word)
        aside.rename(self._file)

    def said(self) -> str:
        """Return what it wrote to standard error."""
        return self._said.read_text()

    def workers(self) -> list[int]:
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_SECONDS
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def counted(self, name: str) -> dict[str, float]:
        """Return a family of counters by its labels' values other than the model, those not 0."""
        found = {}
        for line in self.get("/metrics")[1].splitlines():
            if match := re.fullmatch(rf"steelyard_{name}{{(.*)}} (\S+)", line):
                labels = re.findall(r'(\w+)="(.*?)"', match[1])
                found[" ".join(v for k, v in labels if k != "model")] = float(match[2])
        return {labels: value for labels, value in found.items() if value}

    def memory(self) -> int:
        """Return the most bytes of memory that it ever had."""
        told = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", told)
        assert found
        return int(found[1]) * 1024

    def end(self) -> int:
        """End it as an operator would; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def logged(self) -> list[dict[str, Any]]:
        """Return every record that was written, doubles included."""
        folder = self.state / "predictions" / self.model
        return [
            msgspec.json.decode(payload)
            for path in folder.glob("segments/*.log")
            for payload in read_segment(path)
        ]


@dataclass
class Heard:
    """What came back to some clients: when and what, and the predictions by their ids."""

    outcomes: list[tuple[float, str]] = field(default_factory=list)
    given: dict[str, tuple[float, str]] = field(default_factory=dict)
    twice: int = 0

    def note(self, outcome: str) -> None:
        self.outcomes.append((time.monotonic(), outcome))

    def between(self, begin: float = 0.0, end: float = float("inf")) -> Counter[str]:
        """Count the outcomes of a while."""
        return Counter(outcome for at, outcome in list(self.outcomes) if begin <= at < end)

    def recovery(self, healed: float) -> float:
        """Return the seconds until everything was right again, from `healed` on."""
        return max(0.0, *(at - healed for at, x in self.outcomes if x != "right"), 0.0)


class Load:
    """Clients that ask on and on, each one request after the other, on connections that they keep.

    A request has `together` rows. What it comes to is `right`, `fallback REASON`, `status NNN`,
    `refused` where no connection is made, `cut off` where it is lost before an answer began, `torn`
    where amid one, `silence`, or `wrong`: an answer without a mark that is not the right one.
    """

    def __init__(self, server: FaultyServer, known: Known, clients: int, together: int = 1) -> None:
        self.heard = Heard()
        self._port, self._path = server.port, f"/predict/{server.model}"
        self._known = known
        self._clients = clients
        self._together = together
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join(2 * ANSWER_SECONDS)
        assert not self._thread.is_alive()

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(i) for i in range(self._clients)))

    async def _client(self, place: int) -> None:
        number = place * 37
        while not self._stopped.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.heard.note("refused")
                await asyncio.sleep(0.02)
                continue
            try:
                goes_on = True
                while goes_on and not self._stopped.is_set():
                    number += 1
                    goes_on = await self._ask(reader, writer, number)
            finally:
                writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        """Ask once, and note what it comes to; return whether the connection goes on."""
        places = [(number + i) % len(self._known.rows) for i in range(self._together)]
        rows = [self._known.rows[place] for place in places]
        body = rows[0] if self._together == 1 else b'{"rows":[%b]}' % b",".join(rows)
        head = f"POST {self._path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
        started = b""
        try:
            writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            async with asyncio.timeout(ANSWER_SECONDS):
                started = await reader.readexactly(1)
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next(int(x[16:]) for x in lines if x.startswith("content-length:"))
                answer = await reader.readexactly(length)
        except TimeoutError:
            self.heard.note("silence")
            return False
        except (OSError, EOFError):
            self.heard.note("torn" if started else "cut off")
            await asyncio.sleep(0.02)
            return False
        status = int(lines[0].split()[1])
        if status == 200:
            self._judge(answer, places)
        else:
            self.heard.note(f"status {status}")
            if status == 503:
                assert "retry-after: 1" in lines
                await asyncio.sleep(0.02)
        return "connection: close" not in lines

    def _judge(self, answer: bytes, places: list[int]) -> None:
        try:
            found = json.loads(answer, parse_constant=float.fromhex)
            answers = [found] if self._together == 1 else found["predictions"]
            whats = {self._what(one, i) for one, i in zip(answers, places, strict=True)}
        except (ValueError, KeyError, TypeError):
            whats = {"wrong"}
        # Of a request's rows the worst counts, and a wrong one is the worst.
        self.heard.note(max(whats, key=lambda what: (what == "wrong", what != "right", what)))

    def _what(self, answer: dict[str, Any], place: int) -> str:
        key, value, source = answer["prediction_id"], answer["prediction"], answer["source"]
        self.heard.twice += key in self.heard.given
        self.heard.given[key] = value, source
        if source == "fallback":
            return f"fallback {answer['reason']}" if value == FALLBACK else "wrong"
        right = source == "model" and "reason" not in answer
        return "right" if right and value == self._known.answers[place] else "wrong"


@pytest.fixture
def register_price() -> Callable[[Config], Path]:
    """Return what puts the model `price` into the store that the environment names."""
    return lambda config: register("price", sy.Constant(FALLBACK), config)


@pytest.fixture
def known(houses_store: tuple[Path, Known]) -> Known:
    return houses_store[1]


@pytest.fixture
def load(known: Known) -> Callable[..., Load]:
    """Return what makes clients of a server: how many, and how many rows they send together."""
    return lambda server, clients=8, together=1: Load(server, known, clients, together)


@pytest.fixture
def faulty(
    houses_store: tuple[Path, Known], tmp_path: Path
) -> Iterator[Callable[..., FaultyServer]]:
    """Return what starts a server of one of the models with further words of the command line."""
    started: list[FaultyServer] = []

    def start(*words: str, store: str = "", **more: Any) -> FaultyServer:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        place = store or str(houses_store[0])
        started.append(FaultyServer(place, folder, *words, **more))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.end()
