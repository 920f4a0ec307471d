"""The story of serving: a proven version, a log, a server; and a server for a candidate's gates."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from steelyard.bundle.format import read_verified
from steelyard.core.config import Config
from steelyard.core.ids import uuid7
from steelyard.core.ports import LogWriter
from steelyard.core.reference import Reference
from steelyard.errors import StoreError
from steelyard.flow.stores import open_ledger
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.endpoint import Endpoint, Follow, Served
from steelyard.serve.server import Setup, serve

__all__ = ["serve_candidate", "serve_reference", "started"]

Durability = Literal["group", "power"]
_START_SECONDS: Final = 30
_END_SECONDS: Final = 10
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


def _follow(reference: Reference, config: Config) -> Follow:
    """Return what tells a server which version its reference names now."""
    ledger = open_ledger(config)
    seen: tuple[int, Served] | None = None

    def follow() -> Served:
        nonlocal seen
        tail = ledger.tail(reference.model)
        if seen is None or seen[0] != tail:
            version = ledger.resolve(reference)
            ledger.prove(version)
            folder = ledger.bundle_folder(version)
            seen = (tail, Served(version.number, version.bundle, folder))
        return seen[1]

    return follow


def serve_reference(
    ref: str,
    config: Config,
    *,
    host: str,
    port: int,
    workers: int = 1,
    durability: Durability = "group",
    on_full: Literal["refuse", "answer"] = "refuse",
) -> None:
    """Serve what a reference names until SIGTERM, following its alias as it moves.

    Raises RefusedError where the version has no passed verdict bound to its bundle.
    """
    reference = Reference.parse(ref)
    follow = _follow(reference, config)
    follow()  # a mistake is told before anything listens

    def open_log(model: str) -> LogWriter:
        return PredictionWriter(
            config.predictions / model, model=model, durability=durability, on_full=on_full
        )

    with tempfile.TemporaryDirectory(prefix="steelyard-") as shared:
        counters = Path(shared) if workers > 1 else None
        setup = Setup(follow, open_log, uuid7, shared=counters, workers=workers)
        serve(setup, host, port, _announce)


def _announce(endpoint: Endpoint, url: str) -> None:
    served = endpoint.loaded.served
    version = f"{endpoint.model}@{served.version}" if served.version else endpoint.model
    print(f"{version} answers at {url}/predict/{endpoint.model}")
    print(f"try it at {url}/docs   bundle {served.bundle[:12]}", flush=True)


def serve_candidate(folder: Path, log: Path) -> None:
    """Serve a bundle that is not registered, on a free loopback port, for its gates."""
    _, bundle = read_verified(folder)

    def open_log(model: str) -> LogWriter:
        return PredictionWriter(log, model=model)

    setup = Setup(lambda: Served(0, bundle, folder), open_log, uuid7)
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
            if process.stdout is not None:
                process.stdout.close()


def _url_of(process: subprocess.Popen[str]) -> str:
    """Return the URL that a server announces; what it says later is read and dropped."""
    output = process.stdout
    if output is None:
        raise StoreError("the server has no output to read")
    late = threading.Timer(_START_SECONDS, process.kill)
    late.start()
    said: deque[str] = deque(maxlen=10)
    try:
        for line in output:
            said.append(line)
            if found := _URL.search(line):
                # An unread pipe would stop a server that has much to say.
                threading.Thread(target=deque, args=(output, 0), daemon=True).start()
                return found[0]
    finally:
        late.cancel()
    raise StoreError(
        "the server for the gates did not start.", fix=f"It said: {''.join(said).strip()[-500:]}"
    )


if __name__ == "__main__":
    serve_candidate(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # its work is done and durable; interpreter teardown would only take time
