"""Real servers to be fuzzed: one by default, with gRPC, and one with keys, admin routes, other paths."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier

import steelyard as sy
from steelyard import Field
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table
from steelyard.serve.secure.keys import KeyFile
from steelyard.testing.fuzz import Request, Target, target_of

ROWS = 200


class Customer(sy.Row):
    tenure: int = Field(ge=0, le=100)
    charge: float = Field(gt=0)
    total: float | None = None
    plan: Literal["basic", "pro"]
    since: date
    active: bool


def customers() -> pl.DataFrame:
    random = np.random.default_rng(0)
    tenure = random.integers(0, 100, ROWS)
    return pl.DataFrame(
        {
            "tenure": tenure,
            "charge": random.uniform(1, 100, ROWS),
            "total": [None if i % 7 == 0 else float(i) for i in range(ROWS)],
            "plan": np.where(tenure % 2, "basic", "pro"),
            "since": [date(2020, 1, 1) + timedelta(days=i) for i in range(ROWS)],
            "active": tenure > 30,
            "churn": np.where(tenure + random.normal(0, 30, ROWS) > 50, "Yes", "No"),
        }
    )


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    definition = sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive="Yes",
        estimator=RandomForestClassifier(10, random_state=0),
    )
    return build(definition, read_table(definition, Config(folder / "state")), folder).folder


@dataclass
class Server:
    """A server in a process of its own; what it says on standard error is kept in a file."""

    process: subprocess.Popen[str]
    url: str
    grpc: str
    said: Path

    def errors(self) -> list[str]:
        """Return what it says of failures of its own; the gRPC library has a log of its own."""
        found = []
        for line in self.said.read_text("utf-8", "replace").splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            told = f"{event.get('message')} {event.get('traceback', '')}"
            if event.get("level") in ("error", "critical") and "_cygrpc" not in told:
                found.append(f"{told[:300]} ... {told[-1_500:]}")
        return [line for line in found if "can't decode byte" not in line]


def start(bundle: Path, state: Path, *words: str, **environment: str) -> Server:
    said = state / "said.jsonl"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "serve", f"{bundle}/", "--port", "0", *words],
            env={**os.environ, "STEELYARD_STATE": str(state), "STEELYARD_LOG_FORMAT": "json",
                 **environment},
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, said.read_text()
    event = json.loads(line)
    grpc = f"grpc://{event['grpc']}" if "grpc" in event else ""
    url = re.sub(r"0\.0\.0\.0", "127.0.0.1", event["url"])
    return Server(process, url, grpc, said)


def end(server: Server) -> int:
    server.process.terminate()
    code = server.process.wait(60)
    assert server.process.stdout is not None
    server.process.stdout.close()
    return code


@pytest.fixture(scope="session")
def usual(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(bundle, tmp_path_factory.mktemp("usual"), "--grpc-port", "0")
    yield server
    assert end(server) == 0


@dataclass
class Keyed:
    server: Server
    admin: str
    predict_key: str
    admin_key: str


@pytest.fixture(scope="session")
def keyed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """A server for SageMaker's contract and Vertex's own paths that asks for keys, over gRPC too."""
    state = tmp_path_factory.mktemp("keyed")
    keys = KeyFile(state / "keys.json")
    _, predict_key = keys.create("all", scopes=("predict", "metrics"))
    _, admin_key = keys.create("boss", scopes=("admin",))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = start(
        bundle, state, "--grpc-port", "0", "--contract", "sagemaker", "--admin-port", str(port),
        AIP_HEALTH_ROUTE="/alive", AIP_PREDICT_ROUTE="/answers",
    )  # fmt: skip
    yield Keyed(server, f"http://127.0.0.1:{port}", predict_key, admin_key)
    assert end(server) == 0


def tables() -> list[Request]:
    """Return good requests whose bodies are tables, in the ways in which tables are written."""
    rows = customers().drop("churn").head(3).to_arrow()
    rows = rows.set_column(3, "plan", rows["plan"].cast(pa.string()))
    dictionary = rows.set_column(3, "plan", rows["plan"].dictionary_encode())
    bodies: list[tuple[str, bytes]] = []
    for table, compression in ((rows, None), (dictionary, None), (rows, "lz4"), (rows, "zstd")):
        stream = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(stream, table.schema, options=options) as writer:
            writer.write_table(table)
        bodies.append(("vnd.apache.arrow.stream", stream.getvalue()))
    for compression in ("none", "snappy", "zstd"):
        file = io.BytesIO()
        pq.write_table(rows, file, compression=compression)
        bodies.append(("vnd.apache.parquet", file.getvalue()))
    return [
        Request(b"POST", b"/predict/churn",
                [(b"content-type", f"application/{kind}".encode()), (b"accept", b"application/json")],
                body)
        for kind, body in bodies
    ]  # fmt: skip


@pytest.fixture(scope="session")
def targets(usual: Server, keyed: Keyed) -> list[Target]:
    """What is fuzzed: every route of both servers, and the admin port with a key and without."""
    first = target_of(usual.url, grpc=usual.grpc, process=usual.process.pid)
    first.name, first.requests, first.weight = "usual", [*first.requests, *tables()], 6
    key = {"X-API-Key": keyed.predict_key}
    second = target_of(
        keyed.server.url, grpc=keyed.server.grpc, process=keyed.server.process.pid, headers=key
    )
    second.name, second.weight = "keyed", 3
    state = b"/admin/state"
    boss = Target(
        "admin", keyed.admin, [Request(b"GET", state, [(b"x-api-key", keyed.admin_key.encode())])],
        steady=False,
    )  # fmt: skip
    # Apart from the other, whose key would drain the server once they are spliced.
    nobody = Target(
        "no admin", keyed.admin,
        [Request(b"POST", b"/admin/drain"), Request(b"GET", state),
         Request(b"POST", b"/admin/drain", [(b"x-api-key", keyed.predict_key.encode())])],
    )  # fmt: skip
    return [first, second, boss, nobody]


@pytest.fixture
def document(usual: Server) -> Any:
    import urllib.request

    with urllib.request.urlopen(f"{usual.url}/openapi.json", timeout=20) as answer:
        return json.load(answer)
