"""The server against its rivals, in one run: the same forest, the same rows, the same machine.

    python bench/serve.py [--rounds 5] [--seconds 3] [--connections 1,8,64] [--leaf 1] [--json]

Every server is one process with uvloop and httptools. Steelyard validates, logs and counts every
request; the rivals validate and neither log nor count. They take turns within each round, so that
a busy neighbour hits all of them; medians over the rounds are shown. Processor time a request is
what a server costs whoever else is on the machine; on a busy one it is the figure to look at.

Rows vary, so that a forest is walked on ever other paths. With leaves of one row, scikit-learn's
default, its 7 MB come from memory for every request and cost all servers alike; `--leaf 5` is a
forest that predicts better and fits into a cache.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import joblib
import telco
from processes import Server, process
from rich.console import Console
from rich.table import Table
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from steelyard.core.config import Config
from steelyard.flow.building import build, read_table

HERE = Path(__file__).parent
STEELYARD, ONNX, SKLEARN, ECHO = (
    "Steelyard",
    "FastAPI + onnxruntime",
    "FastAPI + scikit-learn",
    "bare uvicorn echo",
)
RIVALS = {ONNX: "with_onnxruntime", SKLEARN: "with_sklearn", ECHO: "echo"}
START_SECONDS = 60


def prepare(folder: Path, leaf: int) -> Path:
    """Train the forest on the same rows for all; return Steelyard's bundle."""
    definition = telco.churn(leaf)
    built = build(definition, read_table(definition, Config(folder / "state")), folder / "bundles")
    frame = telco.customers().to_pandas()
    encode = ColumnTransformer(
        [("encode", OneHotEncoder(handle_unknown="ignore"), list(telco.STRINGS))],
        remainder="passthrough",
    )
    pipeline = make_pipeline(encode, telco.forest(leaf))
    pipeline.fit(frame[telco.COLUMNS], frame["Churn"])
    joblib.dump(pipeline, folder / "pipeline.joblib")
    kinds = [(name, FloatTensorType([None, 1])) for name in telco.NUMBERS]
    kinds += [(name, StringTensorType([None, 1])) for name in telco.STRINGS]
    options = {RandomForestClassifier: {"zipmap": False}}
    converted = convert_sklearn(pipeline, initial_types=kinds, options=options)
    (folder / "pipeline.onnx").write_bytes(converted.SerializeToString())
    rows = telco.customers(2_000, seed=1).select(telco.COLUMNS).to_dicts()
    (folder / "requests.json").write_text(json.dumps([json.dumps(row) for row in rows]))
    return built.folder


@contextmanager
def steelyard(bundle: Path, folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "steelyard.flow.serving", str(bundle), str(folder / "log")]
    with process(command, stdout=subprocess.PIPE) as server:
        for line in server.stdout or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield Server(int(found[1]), server.pid)
                return
    sys.exit("Steelyard did not start")


@contextmanager
def rival(app: str, folder: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", f"rivals:{app}", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        *(["--factory"] if app != "echo" else []),
    ]  # fmt: skip
    environment = {**os.environ, "FOLDER": str(folder)}
    with process(command, cwd=HERE, env=environment) as server:
        late = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > late:
                    sys.exit(f"{app} did not start")
                time.sleep(0.1)
        yield Server(port, server.pid)


def load(server: Server, folder: Path, connections: int, seconds: float) -> dict[str, Any]:
    command = [
        sys.executable, str(HERE / "load.py"), str(server.port), "/predict/churn",
        str(folder / "requests.json"), "--connections", str(connections),
        "--seconds", str(seconds),
    ]  # fmt: skip
    busy = server.busy_seconds()
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    busy = server.busy_seconds() - busy
    found: dict[str, Any] = json.loads(run.stdout)
    if found["problems"]:
        sys.exit(f"{found['problems']} problems, the first: {found['first_problem']}")
    return {**found, "cpu_us": busy / found["sent"] * 1e6}


def stages(server: Server) -> dict[str, float]:
    """Return the mean microseconds of each stage of Steelyard's core, from its own metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found = {}
    for stage in ("decode", "predict", "encode", "log", "total"):
        numbers = [
            float(re.search(rf'latency_seconds_{kind}{{.*stage="{stage}"}} (\S+)', text)[1])
            for kind in ("sum", "count")
        ]
        found[stage] = numbers[0] / numbers[1] * 1e6
    return found


def measure(rounds: int, seconds: float, connections: list[int], leaf: int) -> dict[str, Any]:
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(dir=".") as name, ExitStack() as stack:
        folder = Path(name).absolute()
        bundle = prepare(folder, leaf)
        servers = {STEELYARD: stack.enter_context(steelyard(bundle, folder))}
        for title, app in RIVALS.items():
            servers[title] = stack.enter_context(rival(app, folder))
        for _ in range(rounds):
            for count in connections:
                for title, server in servers.items():
                    found = load(server, folder, count, seconds)
                    runs.setdefault(title, {}).setdefault(count, []).append(found)
        core = stages(servers[STEELYARD])
    medians = {
        title: {
            count: {
                name: statistics.median(run[name] for run in found)
                for name in ("rps", "p50_us", "p99_us", "cpu_us", "client_busy")
            }
            for count, found in by_count.items()
        }
        for title, by_count in runs.items()
    }
    return {
        "leaf": leaf,
        "rounds": rounds,
        "seconds": seconds,
        "servers": medians,
        "stages_us": core,
    }


def ratios(servers: dict[str, Any], count: int) -> dict[str, float]:
    mine, theirs, echo = (servers[title][count] for title in (STEELYARD, ONNX, ECHO))
    return {
        f"requests/s, times {ONNX}": mine["rps"] / theirs["rps"],
        f"p99, share of {ONNX}": mine["p99_us"] / theirs["p99_us"],
        f"processor time, share of {ONNX}": mine["cpu_us"] / theirs["cpu_us"],
        f"requests/s, times {SKLEARN}": mine["rps"] / servers[SKLEARN][count]["rps"],
        f"requests/s, share of {ECHO}": mine["rps"] / echo["rps"],
    }


def show(found: dict[str, Any], connections: list[int]) -> None:
    console = Console(highlight=False, width=110)
    table = Table(title=f"medians of {found['rounds']} rounds of {found['seconds']:g} s", box=None)
    for name in ("connections", "server", "req/s", "p50 ms", "p99 ms", "CPU µs/req"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for count in connections:
        for title, by_count in found["servers"].items():
            run = by_count[count]
            table.add_row(
                str(count),
                title,
                f"{run['rps']:,.0f}",
                f"{run['p50_us'] / 1e3:.2f}",
                f"{run['p99_us'] / 1e3:.2f}",
                f"{run['cpu_us']:.1f}",
            )
        table.add_section()
    console.print(table)
    for count in connections:
        console.print(f"\n{count} connections")
        for name, value in ratios(found["servers"], count).items():
            console.print(f"  {name}: {value:.2f}")
    spent = ", ".join(f"{name} {value:.1f}" for name, value in found["stages_us"].items())
    console.print(f"\nµs a request in the core, by its own metrics: {spent}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", default="1,8,64")
    parser.add_argument("--leaf", type=int, default=1, help="least rows in a leaf of the forest")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = [int(text) for text in arguments.connections.split(",")]
    result = measure(arguments.rounds, arguments.seconds, counts, arguments.leaf)
    result["ratios"] = {count: ratios(result["servers"], count) for count in counts}
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, counts)
