"""The story of serving: a proven version, a log, a server; and a server for a candidate's gates."""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final, Literal

from steelyard.bundle.format import read_verified
from steelyard.core.config import Config
from steelyard.core.ids import uuid7
from steelyard.errors import StoreError
from steelyard.flow.following import subject
from steelyard.flow.securing import tell_open
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import Served
from steelyard.serve.contracts.table import contracts_of
from steelyard.serve.observe import logs
from steelyard.serve.observe.tracing import is_wanted
from steelyard.serve.secure.security import Security
from steelyard.serve.server import Setup, kept_port
from steelyard.serve.workers import serve

__all__ = ["Options", "serve_candidate", "serve_reference", "started"]

_log = logging.getLogger(__name__)

Durability = Literal["group", "power"]
OnFull = Literal["refuse", "answer"]
_START_SECONDS: Final = 30
_END_SECONDS: Final = 10
_PROBE_BYTES: Final = 4096
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True, slots=True)
class Options:
    """How a version is served, with the defaults of the command line.

    `log_form` None means text where a person reads what the server says, and JSON otherwise.
    `contracts` are the wire contracts that are chosen where paths clash. `timeout_ms` is how long a
    row that is asked alone may take where its request does not say; 0 is for ever.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    durability: Durability = "group"
    on_full: OnFull = "refuse"
    timeout_ms: int = Limits().timeout_ms
    security: Security = field(default_factory=Security)
    log_form: logs.Form | None = None
    access_log: bool = False
    contracts: tuple[str, ...] = ()
    grpc_port: int | None = None


def serve_reference(ref: str, config: Config, options: Options) -> None:
    """Serve what a reference or a folder names until SIGTERM, following an alias as it moves.

    Raises RefusedError where the version has no passed verdict bound to its bundle, and UsageError
    for contracts that clash.
    """
    durability, on_full = options.durability, options.on_full
    contracts = contracts_of(options.contracts, os.environ)
    served = subject(ref, config)
    found = served.follow()  # a mistake is told before anything listens
    traced = is_wanted(os.environ)
    form = options.log_form or logs.by_terminal()
    logs.set_up(form)
    _tell_start(served.model, found, options.workers)
    tell_open(options.security, options.host)

    def open_log(model: str) -> PredictionWriter:
        folder = config.predictions / model
        return _opened(
            PredictionWriter(folder, model=model, durability=durability, on_full=on_full)
        )

    def log_problem(model: str) -> str:
        # Where answers may go out unlogged, a full log is no reason to send no more requests.
        return _log_problem(config.predictions / model) if on_full == "refuse" else ""

    with (
        kept_port(options.host, options.grpc_port) as grpc,
        tempfile.TemporaryDirectory(prefix="steelyard-") as shared,
    ):
        counters = Path(shared) if options.workers > 1 else None
        setup = Setup(
            served.follow,
            open_log,
            uuid7,
            log_problem,
            shared=counters,
            workers=options.workers,
            limits=Limits(timeout_ms=options.timeout_ms),
            security=options.security,
            access_log=options.access_log,
            traced=traced,
            contracts=contracts,
            grpc=grpc,
        )
        announce = partial(_announce if form == "text" else _announce_event, grpc=grpc)
        serve(setup, options.host, options.port, announce)


def _tell_start(model: str, served: Served, workers: int) -> None:
    logs.describe(lambda: {"model": model, "version": served.version})
    by = f"{workers} workers" if workers > 1 else "1 worker"
    fields = {"event": "start", "bundle": served.bundle, "workers": workers, "pid": os.getpid()}
    _log.info("%s@%d starts with %s.", model, served.version, by, extra=fields)


def _opened(log: PredictionWriter) -> PredictionWriter:
    log.open()
    return log


def _log_problem(folder: Path) -> str:
    """Return why a prediction log could not take a record now; a few kilobytes are tried."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        return f"the prediction log cannot take records: {error.strerror}"
    return ""


def _announce(endpoint: Endpoint, url: str, grpc: str = "") -> None:
    served = endpoint.loaded.served
    version = f"{endpoint.model}@{served.version}" if served.version else endpoint.model
    sys.stdout.write(f"{version} answers at {url}/predict/{endpoint.model}\n")
    if grpc:
        sys.stdout.write(f"Open Inference Protocol v2 over gRPC at {grpc}\n")
    sys.stdout.write(f"try it at {url}/docs   bundle {served.bundle[:12]}\n")
    sys.stdout.flush()


def _announce_event(endpoint: Endpoint, url: str, grpc: str = "") -> None:
    served = endpoint.loaded.served
    message = f"{endpoint.model}@{served.version} answers at {url}/predict/{endpoint.model}"
    where = {"url": url, "grpc": grpc} if grpc else {"url": url}
    sys.stdout.write(logs.line("ready", message, bundle=served.bundle, **where) + "\n")
    sys.stdout.flush()


def serve_candidate(folder: Path, log: Path) -> None:
    """Serve a bundle that is not registered, on a free loopback port, for its gates.

    It ends with the process that started it.
    """
    _, bundle = read_verified(folder)
    setup = Setup(
        follow=lambda: Served(0, bundle, folder),
        open_log=lambda model: _opened(PredictionWriter(log, model=model)),
        new_id=uuid7,
        log_problem=lambda model: _log_problem(log),
        with_parent=True,
    )
    serve(setup, "127.0.0.1", 0, _announce)


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Start a real server for a bundle in a process of its own; give its URL; end it.

    Raises StoreError, with the server's last words, where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="steelyard-") as log:
        command = [sys.executable, "-m", "steelyard.flow.serving", str(folder), log]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield _url_of(process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url_of(process: subprocess.Popen[str]) -> str:
    """Return the URL that a server announces; what it says later is read and dropped."""
    output = process.stdout
    if output is None:
        raise StoreError("the server has no output to read")
    late = threading.Timer(_START_SECONDS, process.kill)
    late.start()
    said: deque[str] = deque(maxlen=10)
    url = ""
    for line in output:
        said.append(line)
        if found := _URL.search(line):
            url = found[0]
            break
    late.cancel()
    # An unread pipe would stop a server that has much to say.
    threading.Thread(target=_read_to_its_end, args=(output,), daemon=True).start()
    if url:
        return url
    raise StoreError(
        "the server for the gates did not start.", fix=f"It said: {''.join(said).strip()[-500:]}"
    )


def _read_to_its_end(output: IO[str]) -> None:
    with output:
        deque(output, 0)


if __name__ == "__main__":
    serve_candidate(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # its work is done and durable; interpreter teardown would only take time
