import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_SECONDS = 110  # a busy machine takes a minute


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _ready(address: str, server: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an MLflow server on loopback, over SQLite and a folder; return its address."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    address = f"http://127.0.0.1:{(port := _free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True
        )
        try:
            if not _ready(address, process):
                pytest.fail(Path(folder, "log").read_text()[-2000:])
            yield address
        finally:
            # Its workers are processes of their own, and of its group.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)
