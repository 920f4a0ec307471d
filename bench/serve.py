"""The server against its rivals, in one run: the same forest, the same rows, the same machine.

    python bench/serve.py [--rounds 5] [--seconds 3] [--connections 1,8,64] [--json]

Every server is one process with uvloop and httptools. Steelyard validates, logs and counts every
request; the rivals validate and neither log nor count. They take turns within each round, so that
a busy neighbour hits all of them; medians over the rounds are shown.
"""

import argparse
import json
import os
import re
import signal
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
RIVALS = {SKLEARN: "with_sklearn", ONNX: "with_onnxruntime"}
START_SECONDS = 60


def prepare(folder: Path) -> Path:
    """Train the forest on the same rows for all; return Steelyard's bundle."""
    table = read_table(telco.churn, Config(folder / "state"))
    built = build(telco.churn, table, folder / "bundles")
    frame = telco.customers().to_pandas()
    encode = ColumnTransformer(
        [("encode", OneHotEncoder(handle_unknown="ignore"), list(telco.STRINGS))],
        remainder="passthrough",
    )
    pipeline = make_pipeline(encode, RandomForestClassifier(telco.TREES, random_state=0))
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
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(command, text=True, **options)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


@contextmanager
def steelyard(bundle: Path, folder: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "steelyard.flow.serving", str(bundle), str(folder / "log")]
    with process(command, stdout=subprocess.PIPE) as server:
        for line in server.stdout or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                return
    sys.exit("Steelyard did not start")


@contextmanager
def rival(app: str, folder: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", f"rivals:{app}", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        *(["--factory"] if app != "echo" else []),
    ]  # fmt: skip
    with process(command, cwd=HERE, env={**os.environ, "FOLDER": str(folder)}):
        late = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > late:
                    sys.exit(f"{app} did not start")
                time.sleep(0.1)
        yield port


def load(port: int, folder: Path, connections: int, seconds: float) -> dict[str, Any]:
    command = [
        sys.executable, str(HERE / "load.py"), str(port), "/predict/churn",
        str(folder / "requests.json"), "--connections", str(connections),
        "--seconds", str(seconds),
    ]  # fmt: skip
    found: dict[str, Any] = json.loads(subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout)  # fmt: skip
    if found["problems"]:
        sys.exit(f"port {port}: {found['problems']} problems, first: {found['first_problem']}")
    return found


def stages(port: int) -> dict[str, float]:
    """Return the mean microseconds of each stage of Steelyard's core, from its own metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = {}
    for stage in ("decode", "predict", "encode", "log", "total"):
        numbers = [
            float(re.search(rf'latency_seconds_{kind}{{.*stage="{stage}"}} (\S+)', text)[1])
            for kind in ("sum", "count")
        ]
        found[stage] = numbers[0] / numbers[1] * 1e6
    return found


def measure(rounds: int, seconds: float, connections: list[int]) -> dict[str, Any]:
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory(dir=".") as name, ExitStack() as stack:
        folder = Path(name).absolute()
        bundle = prepare(folder)
        ports = {STEELYARD: stack.enter_context(steelyard(bundle, folder))}
        for title, app in RIVALS.items():
            ports[title] = stack.enter_context(rival(app, folder))
        ports[ECHO] = stack.enter_context(rival("echo", folder))
        for _ in range(rounds):
            for count in connections:
                for title, port in ports.items():
                    found = load(port, folder, count, seconds)
                    runs.setdefault(title, {}).setdefault(count, []).append(found)
        core = stages(ports[STEELYARD])
    medians = {
        title: {
            count: {
                name: statistics.median(run[name] for run in found)
                for name in ("rps", "p50_us", "p99_us", "client_busy")
            }
            for count, found in by_count.items()
        }
        for title, by_count in runs.items()
    }
    return {"rounds": rounds, "seconds": seconds, "servers": medians, "stages_us": core}


def ratios(servers: dict[str, Any], count: int) -> dict[str, float]:
    mine, theirs, echo = (servers[title][count] for title in (STEELYARD, ONNX, ECHO))
    return {
        "requests/s, times FastAPI + onnxruntime": mine["rps"] / theirs["rps"],
        "p99, share of FastAPI + onnxruntime": mine["p99_us"] / theirs["p99_us"],
        "requests/s, times FastAPI + scikit-learn": mine["rps"] / servers[SKLEARN][count]["rps"],
        "requests/s, share of the bare echo": mine["rps"] / echo["rps"],
    }


def show(found: dict[str, Any], connections: list[int]) -> None:
    console = Console(highlight=False)
    table = Table(title=f"medians of {found['rounds']} rounds of {found['seconds']:g} s")
    table.add_column("server")
    for count in connections:
        for name in ("req/s", "p50 ms", "p99 ms"):
            table.add_column(f"{name}\n{count} conn.", justify="right")
    for title, by_count in found["servers"].items():
        cells = [title]
        for count in connections:
            run = by_count[count]
            cells += [
                f"{run['rps']:,.0f}",
                f"{run['p50_us'] / 1e3:.2f}",
                f"{run['p99_us'] / 1e3:.2f}",
            ]
        table.add_row(*cells)
    console.print(table)
    for count in connections:
        shown = ", ".join(f"{n}: {v:.2f}" for n, v in ratios(found["servers"], count).items())
        console.print(f"{count} connections: {shown}")
    spent = ", ".join(f"{name} {value:.1f}" for name, value in found["stages_us"].items())
    console.print(f"microseconds a request in the core, by its own metrics: {spent}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", default="1,8,64")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = [int(text) for text in arguments.connections.split(",")]
    result = measure(arguments.rounds, arguments.seconds, counts)
    result["ratios"] = {count: ratios(result["servers"], count) for count in counts}
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, counts)
