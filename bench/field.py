"""Every server of the field: how it is started, which rows of the table it fills, that it is right.

A peer runs in an environment of its own, `.venv-peers/NAME`, which `requirements/install.sh` makes
from `requirements/peers/NAME.txt`. It is asked until it answers rightly; one that is not installed,
does not start or answers anything but the model's probabilities is no part of the run, which says why.
"""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bodies import FORMS, problem
from models import Models
from processes import Server, process

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".venv-peers"
CHECKED = 20

STEELYARD, SAME, ARROW = "Steelyard", "Steelyard, the peers' pipeline", "Steelyard, Arrow bodies"
ONNX, SKLEARN, ECHO = "FastAPI + onnxruntime", "FastAPI + scikit-learn", "bare uvicorn echo"


class Way(NamedTuple):
    """A row of the table: where a server is asked, in which form, and for how many rows a body."""

    title: str
    form: str
    route: str
    many: str = ""
    """The route of bodies with several rows, where it is another."""
    only: Callable[[int], bool] = lambda rows: True


class Launch(NamedTuple):
    """A process, started in its environment by FOLDER and a port, and the ways to ask it."""

    environment: str
    command: Callable[[Path, int], list[str]]
    ways: tuple[Way, ...]
    settings: tuple[tuple[str, str], ...] = ()


class Running(NamedTuple):
    way: Way
    server: Server
    is_peer: bool = False


def _script(name: str, *more: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, port: [str(HERE / "peers" / name), str(folder), str(port), *more]


def _bentoml(folder: Path, port: int) -> list[str]:
    return [
        "-m", "bentoml", "serve", "bentoml_service:Churn", "--working-dir", str(HERE / "peers"),
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def _ways(title: str, form: str, route: str) -> tuple[Way, ...]:
    """Return the pipeline as the peer's documentation serves it, and the graph."""
    return (
        Way(title, form, route.format("pipeline")),
        Way(f"{title} + onnxruntime", form, route.format("graph")),
    )


_MLFLOW = _ways("MLflow", "split", "/invocations")
PEERS: dict[str, tuple[Launch, ...]] = {
    "mlflow": (
        Launch("mlflow", _script("serve_mlflow.py", "pipeline"), _MLFLOW[:1]),
        Launch("mlflow", _script("serve_mlflow.py", "graph"), _MLFLOW[1:]),
    ),
    "mlserver": (
        Launch(
            "mlserver",
            _script("serve_mlserver.py"),
            _ways("MLServer", "v2", "/v2/models/{}/infer"),
        ),
    ),
    "bentoml": (
        Launch(
            "bentoml",
            _bentoml,
            _ways("BentoML", "rows", "/{}"),
            (("BENTOML_DO_NOT_TRACK", "True"),),
        ),
    ),
    "litserve": (
        Launch("litserve", _script("serve_litserve.py"), _ways("LitServe", "rows", "/{}")),
    ),
    "ray": (Launch("ray", _script("serve_ray.py"), _ways("Ray Serve", "rows", "/{}")),),
    "pytriton": (
        Launch(
            "pytriton",
            _script("serve_pytriton.py"),
            (Way("pytriton + onnxruntime", "tensors", "/v2/models/churn/infer"),),
        ),
    ),
}
FIVE = ("MLflow", "MLServer", "BentoML", "LitServe", "Ray Serve")


class NotRunningError(Exception):
    """A server is no part of the run; the message says why."""


def free_port() -> int:
    """Return a port that is free, as are some after it; peers take those for their other fronts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def steelyard(bundle: Path, log: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "steelyard.flow.serving", str(bundle), str(log)]
    with process(command, stdout=subprocess.PIPE) as server:
        for line in server.stdout or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield Server(int(found[1]), server.pid)
                return
    sys.exit("Steelyard did not start")


def rival(title: str, app: str, folder: Path) -> Launch:
    """Return what starts an app of rivals.py under uvicorn, in this environment."""
    many = "/predict/churn/rows"
    way = Way(title, "native", "/predict/churn", many)
    factory = ["--factory"]
    if title == ECHO:
        way, factory = Way(title, "echo", "/", only=lambda rows: rows == 1), []
    return Launch(
        "",
        lambda folder, port: [
            "-m", "uvicorn", f"rivals:{app}", "--app-dir", str(HERE), "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log",
            "--log-level", "warning", *factory,
        ],
        (way,),
    )  # fmt: skip


def python_of(environment: str) -> str:
    """Return the interpreter of a peer's environment, or this one. Raises NotRunningError."""
    if not environment:
        return sys.executable
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        raise NotRunningError(
            f"not installed: sh requirements/install.sh peers/{environment} "
            f".venv-peers/{environment}"
        )
    return str(python)


def check(way: Way, port: int, rows: list[Any], expected: list[float]) -> str:
    """Ask for one row, each of some rows, and some at once; return what was wrong, if anything."""
    parts = [(rows[i : i + 1], expected[i : i + 1]) for i in range(CHECKED) if way.only(1)]
    parts += [(rows[:CHECKED], expected[:CHECKED])] if way.only(CHECKED) else []
    for part, right in parts:
        body, headers = FORMS[way.form].body(part)
        route = way.many or way.route if len(part) > 1 else way.route
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", route, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:
            return f"status {answer.status}: {text[:300]!r}"
        if wrong := problem(way.form, text, right):
            return f"it answers wrongly: {wrong}"
    return ""


def started(
    launch: Launch, folder: Path, models: Models, seconds: float, stack: ExitStack
) -> list[Running]:
    """Start a process that lives as long as `stack`, and wait until it answers rightly by each way.

    Raises NotRunningError, with the process ended, where it does not within `seconds`.
    """
    port = free_port()
    said = folder / f"{launch.ways[0].title.replace(' ', '-')}.out"
    command = [python_of(launch.environment), *launch.command(folder, port)]
    # As when its environment is activated: some peers start commands of theirs by name.
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "FOLDER": str(folder), **dict(launch.settings)}
    late = time.monotonic() + seconds
    with ExitStack() as own:
        output = own.enter_context(said.open("w"))
        running = own.enter_context(
            process(command, cwd=folder, env=environment, stdout=output, stderr=output)
        )
        for way in launch.ways:
            while wrong := _wrong(way, port, models):
                if running.poll() is not None or time.monotonic() > late:
                    ended = "" if running.returncode is None else f"ended ({running.returncode}); "
                    words = " | ".join(said.read_text(errors="replace").splitlines()[-5:])
                    raise NotRunningError(f"{ended}{wrong}; it said: {words[-600:]}")
                time.sleep(0.3)
        stack.push(own.pop_all())
    server = Server(port, running.pid)
    return [Running(way, server, bool(launch.environment)) for way in launch.ways]


def _wrong(way: Way, port: int, models: Models) -> str:
    try:
        return check(way, port, models.rows, models.expected)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
