"""The server against its rivals, in one run: the same forest, the same rows, the same machine.

    python bench/serve.py [--peers all] [--loads 1x1,8x1,64x1,8x100] [--rounds 5] [--seconds 3]
        [--start-seconds 180] [--leaf 1] [--json]

A load is CONNECTIONSxROWS, the rows of a body. Every server is one process (or one worker behind
its own front), and Steelyard validates, logs and counts every request; the FastAPI rivals validate
and neither log nor count. `--peers mlflow,mlserver,bentoml,litserve,ray,pytriton`, or `all`, adds
servers that live in environments of their own (`make peers`). All take turns within each round, so
that a busy neighbour hits all of them; between its turns a peer is paused, since some take a share
of a core while nobody asks them. Medians over the rounds are shown. Processor time a request is
what a server costs whoever else is on the machine.

Rows vary, so that a forest is walked on ever other paths. With leaves of one row, scikit-learn's
default, its megabytes come from memory for every request and cost all servers alike; `--leaf 5` is
a forest that predicts better and fits into a cache.
"""

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bodies
import field
from field import ARROW, ECHO, ONNX, PEERS, SAME, SKLEARN, STEELYARD, NotRunningError, Running, Way
from models import Models, prepare
from processes import Server
from report import show, summary

HERE = Path(__file__).parent
RIVALS = {ONNX: "with_onnxruntime", SKLEARN: "with_sklearn", ECHO: "echo"}
OURS = (STEELYARD, SAME, ARROW)
FIGURES = ("rps", "p50_us", "p99_us", "cpu_us", "client_busy")

Load = tuple[int, int]


def start(
    options: argparse.Namespace, models: Models, folder: Path, stack: ExitStack
) -> tuple[list[Running], dict[str, str], dict[str, float]]:
    """Start every server; return those that answer rightly, why others do not, and idle shares."""
    own = stack.enter_context(field.steelyard(models.own, folder / "log"))
    same = stack.enter_context(field.steelyard(models.same, folder / "same-log"))
    running = [
        Running(Way(STEELYARD, "native", "/predict/churn"), own),
        Running(Way(SAME, "native", "/predict/churn"), same),
        Running(Way(ARROW, "arrow", "/predict/churn", only=lambda rows: rows > 1), own),
    ]
    for one in running:
        expected = models.expected if one.way.title == SAME else models.expected_own
        if wrong := field.check(one.way, one.server.port, models.rows, expected):
            sys.exit(f"{one.way.title}: {wrong}")
    launches = [field.rival(title, app, folder) for title, app in RIVALS.items()]
    launches += [launch for name in options.peers for launch in PEERS[name]]
    missing: dict[str, str] = {}
    idle: dict[str, float] = {}
    # One after the other: some give up by themselves where they start among many.
    for launch in launches:
        titles = [way.title for way in launch.ways]
        try:
            found = field.started(launch, folder, models, options.start_seconds, stack)
        except NotRunningError as error:
            missing |= dict.fromkeys(titles, str(error))
            tell(f"{' and '.join(titles)}: {error}")
            continue
        running += found
        idle[titles[0]] = idle_share(found[0].server)
        tell(f"{' and '.join(titles)}: started, and right")
        if launch.environment:
            found[0].server.pause()
    if stopped := [title for title in RIVALS if title in missing]:
        sys.exit(f"{stopped[0]}: {missing[stopped[0]]}")
    return running, missing, idle


def tell(text: str) -> None:
    """Say how far a run of minutes is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write_bodies(running: list[Running], loads: list[Load], models: Models, folder: Path) -> None:
    for found in running:
        expected = models.expected_own if found.way.title in (STEELYARD, ARROW) else models.expected
        for rows in {rows for _, rows in loads if found.way.only(rows)}:
            starts = range(0, len(models.rows) - rows + 1, rows)
            bodies.write(
                _requests(folder, found.way, rows),
                found.way.form,
                found.way.many or found.way.route if rows > 1 else found.way.route,
                [models.rows[i : i + rows] for i in starts],
                [expected[i : i + rows] for i in starts],
            )


def _requests(folder: Path, way: Way, rows: int) -> Path:
    return folder / f"{re.sub('[^A-Za-z]', '', way.title)}-{rows}.json"


def measure_once(found: Running, load: Load, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the figures of one load. Raises NotRunningError for an answer that is wrong."""
    connections, rows = load
    command = [
        sys.executable, str(HERE / "load.py"), str(found.server.port),
        str(_requests(folder, found.way, rows)), "--connections", str(connections),
        "--seconds", str(seconds),
    ]  # fmt: skip
    busy = found.server.busy_seconds()
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    busy = found.server.busy_seconds() - busy
    figures: dict[str, Any] = json.loads(run.stdout)
    if figures["problems"]:
        raise NotRunningError(
            f"{figures['problems']} problems at {connections}x{rows}, the first: "
            f"{figures['first_problem']}"
        )
    if not figures["requests"]:
        raise NotRunningError(f"no answer in {seconds:g} s at {connections}x{rows}")
    return {**figures, "cpu_us": busy / figures["answered"] * 1e6}


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


def measure(options: argparse.Namespace, loads: list[Load]) -> dict[str, Any]:
    runs: dict[Load, dict[str, list[dict[str, Any]]]] = {load: {} for load in loads}
    with tempfile.TemporaryDirectory(dir=".") as name, ExitStack() as stack:
        folder = Path(name).absolute()
        tell("fitting the forests")
        models = prepare(folder, options.leaf)
        running, missing, idle = start(options, models, folder, stack)
        write_bodies(running, loads, models, folder)
        for turn in range(options.rounds):
            tell(f"round {turn + 1} of {options.rounds}")
            for load in loads:
                for found in running:
                    title = found.way.title
                    if title in missing or not found.way.only(load[1]):
                        continue
                    found.server.resume()
                    try:
                        figures = measure_once(found, load, folder, options.seconds)
                    except NotRunningError as error:
                        if title in OURS or title in RIVALS:
                            sys.exit(f"{title}: {error}")
                        missing[title] = str(error)
                    else:
                        runs[load].setdefault(title, []).append(figures)
                    if found.is_peer:
                        found.server.pause()
        core = stages(running[0].server)
    medians = {
        load: {
            title: {figure: statistics.median(run[figure] for run in found) for figure in FIGURES}
            for title, found in by_title.items()
            if title not in missing
        }
        for load, by_title in runs.items()
    }
    return {
        "leaf": options.leaf,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "loads": medians,
        "missing": missing,
        "idle_share": idle,
        "stages_us": core,
    }


def idle_share(server: Server, seconds: float = 1) -> float:
    """Return the share of a core that a server takes while nobody asks."""
    before = server.busy_seconds()
    time.sleep(seconds)
    return (server.busy_seconds() - before) / seconds


def loads_of(text: str) -> list[Load]:
    found = []
    for part in text.split(","):
        connections, _, rows = part.partition("x")
        found.append((int(connections), int(rows)))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default="", help=f"all, or some of {', '.join(PEERS)}")
    parser.add_argument("--loads", default="1x1,8x1,64x1,8x100", help="CONNECTIONSxROWS,...")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--start-seconds", type=float, default=180, help="until a peer is given up")
    parser.add_argument("--leaf", type=int, default=1, help="least rows in a leaf of the forest")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    asked = list(PEERS) if arguments.peers == "all" else arguments.peers.split(",")
    arguments.peers = [name for name in asked if name]
    if unknown := set(arguments.peers) - set(PEERS):
        parser.error(f"--peers: expected some of {', '.join(PEERS)}, got {', '.join(unknown)}")
    # So that what was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = measure(arguments, loads_of(arguments.loads))
    if arguments.json:
        print(json.dumps(summary(result), indent=2))
    else:
        show(result)
