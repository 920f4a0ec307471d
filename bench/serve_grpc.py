"""Open Inference Protocol over gRPC against a bare grpc.aio handler, in one run.

    python bench/serve_grpc.py [--rounds 5] [--seconds 3] [--calls 1,8,64] [--connections 1] [--json]

Both are one process with uvloop and grpc.aio, and answer the same rows by the same bundle. Steelyard
checks, logs and counts every call; the bare handler does nothing of the kind. They take turns within
each round; medians over the rounds are shown. Processor time a call, that of the library's threads
included, is the figure to look at on a busy machine.
"""

import argparse
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import telco
from processes import Server, process
from rich.console import Console
from rich.table import Table

from steelyard.bundle.predictor import Predictor
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table
from steelyard.serve.contracts.tensors import datatype_of, raw_bytes
from steelyard.serve.grpc.messages import SERVICE, message

HERE = Path(__file__).parent
METHOD = f"/{SERVICE}/ModelInfer"
STEELYARD, BARE = "Steelyard", "bare grpc.aio"
COMPARED = 500


def prepare(folder: Path, leaf: int) -> Path:
    """Train the forest; write the calls; return the bundle."""
    definition = telco.churn(leaf)
    config = Config(folder / "state")
    built = build(definition, read_table(definition, config), folder)
    fields = Predictor.load(built.folder).fields
    calls = []
    for row in telco.customers(2_000, seed=1).select(telco.COLUMNS).iter_rows(named=True):
        request = message("ModelInferRequest")(model_name="churn")
        for field in fields:
            datatype = datatype_of(field)
            request.inputs.add(name=field.name, datatype=datatype, shape=[1])
            request.raw_input_contents.append(raw_bytes(datatype, [row[field.name]]))
        calls.append(base64.b64encode(request.SerializeToString()).decode())
    (folder / "calls.json").write_text(json.dumps(calls))
    return built.folder


@contextmanager
def started(command: list[str], pattern: str, folder: Path) -> Iterator[Server]:
    environment = {**os.environ, "STEELYARD_STATE": str(folder / "state")}
    with process(command, stdout=subprocess.PIPE, env=environment) as server:
        for line in server.stdout or ():
            if found := re.search(pattern, line):
                yield Server(int(found[1]), server.pid)
                return
    sys.exit(f"{command} did not start")


def answers(server: Server, folder: Path) -> list[tuple[bytes, ...]]:
    """Return the raw outputs of some calls."""
    found = []
    response_type = message("ModelInferResponse")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(METHOD)
        for text in json.loads((folder / "calls.json").read_text())[:COMPARED]:
            response = response_type.FromString(call(base64.b64decode(text), timeout=30))
            found.append(tuple(response.raw_output_contents))
    return found


def load(server: Server, folder: Path, calls: int, connections: int, seconds: float) -> Any:
    command = [
        sys.executable, str(HERE / "load_grpc.py"), str(server.port), METHOD,
        str(folder / "calls.json"), "--calls", str(calls), "--connections", str(connections),
        "--seconds", str(seconds),
    ]  # fmt: skip
    busy = server.busy_seconds()
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    busy = server.busy_seconds() - busy
    found: dict[str, Any] = json.loads(run.stdout)
    if found["problems"]:
        sys.exit(f"{found['problems']} problems, the first: {found['first_problem']}")
    return {**found, "cpu_us": busy / found["sent"] * 1e6}


def measure(options: argparse.Namespace, counts: list[int]) -> dict[str, Any]:
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {STEELYARD: {}, BARE: {}}
    with tempfile.TemporaryDirectory(dir=".") as name, ExitStack() as stack:
        folder = Path(name).absolute()
        bundle = prepare(folder, options.leaf)
        mine = [sys.executable, "-m", "steelyard", "serve", str(bundle), "--port", "0",
                "--grpc-port", "0"]  # fmt: skip
        bare = [sys.executable, str(HERE / "bare_grpc.py"), str(bundle)]
        servers = {
            STEELYARD: stack.enter_context(started(mine, r'"grpc":"127.0.0.1:(\d+)', folder)),
            BARE: stack.enter_context(started(bare, r"(\d+)", folder)),
        }
        if answers(servers[STEELYARD], folder) != answers(servers[BARE], folder):
            sys.exit("the two do not give the same answers")
        for turn in range(options.rounds):
            for count in counts:
                for title in sorted(servers, reverse=bool(turn % 2)):
                    found = load(
                        servers[title], folder, count, options.connections, options.seconds
                    )
                    runs[title].setdefault(count, []).append(found)
    figures = ("rps", "p50_us", "p99_us", "cpu_us", "client_busy")
    return {
        title: {
            count: {figure: statistics.median(run[figure] for run in found) for figure in figures}
            for count, found in by_count.items()
        }
        for title, by_count in runs.items()
    }


def show(found: dict[str, Any], counts: list[int], title: str) -> None:
    console = Console(highlight=False, width=110)
    table = Table(title=title, box=None)
    for name in ("calls at once", "server", "calls/s", "p50 ms", "p99 ms", "CPU µs/call"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for count in counts:
        for server, by_count in found.items():
            run = by_count[count]
            table.add_row(
                str(count),
                server,
                f"{run['rps']:,.0f}",
                f"{run['p50_us'] / 1e3:.2f}",
                f"{run['p99_us'] / 1e3:.2f}",
                f"{run['cpu_us']:.1f}",
            )
        table.add_section()
    console.print(table)
    for count in counts:
        mine, bare = found[STEELYARD][count], found[BARE][count]
        console.print(
            f"{count} calls at once: {mine['rps'] / bare['rps']:.2f} of the calls/s of {BARE}, "
            f"{mine['cpu_us'] / bare['cpu_us']:.2f} of its processor time a call"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--calls", default="1,8,64")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--leaf", type=int, default=1, help="least rows in a leaf of the forest")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    at_once = [int(text) for text in arguments.calls.split(",")]
    result = measure(arguments, at_once)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        heading = f"medians of {arguments.rounds} rounds of {arguments.seconds:g} s"
        show(result, at_once, heading)
