"""A real server of a real bundle, in a process of its own, secured as a test wants it."""

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVER = """
import json, sys
from pathlib import Path
from steelyard.core.ids import uuid7
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import Served
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.audit import AuditLog
from steelyard.serve.secure.keys import KeyFile
from steelyard.serve.secure.security import Address, Security
from steelyard.serve.secure.tls import Tls, TlsFiles
from steelyard.serve.server import Setup
from steelyard.serve.workers import serve

given = json.loads(sys.argv[1])
folder = Path(given["state"])
shared = folder.with_name("shared")  # what the server itself writes is not among the state
shared.mkdir(exist_ok=True)
files = [Path(path) for path in given.get("tls", [])]
admin = given.get("admin")
access = Access(KeyFile(folder / "keys.json"))
access.load()
setup = Setup(
    follow=lambda: Served(1, given["bundle"], Path(given["folder"])),
    open_log=lambda model: PredictionWriter(folder / "log", model=model),
    new_id=uuid7,
    log_problem=lambda model: "",
    shared=shared,
    workers=given.get("workers", 1),
    limits=Limits(timeout_ms=0),  # a busy machine decides nothing here
    security=Security(
        access,
        tls=Tls(TlsFiles(*files)) if files else None,
        admin=Address("127.0.0.1", admin) if admin else None,
        audit=AuditLog(folder / "audit"),
    ),
)
serve(setup, "127.0.0.1", 0, lambda endpoint, url: print(url, flush=True))
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    document: Any


@dataclass
class Running:
    process: subprocess.Popen[str]
    scheme: str
    port: int
    state: Path

    def connect(
        self, context: ssl.SSLContext | None = None, port: int = 0
    ) -> http.client.HTTPConnection:
        if context is None:
            return http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        return http.client.HTTPSConnection(
            "127.0.0.1", port or self.port, timeout=10, context=context
        )

    def raw(self, head: str, body: bytes = b"", port: int = 0) -> tuple[int, bytes]:
        """Send a request as it stands, whatever a client's library would say of it; read the answer."""
        address = ("127.0.0.1", port or self.port)
        with socket.create_connection(address, timeout=10) as connection:
            text = f"{head}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
            text += "\r\n" if "\r\nhost:" in head else "host: here\r\n\r\n"
            connection.sendall(text.encode("utf-8", "surrogateescape") + body)
            data = b""
            while part := connection.recv(65_536):
                data += part
        return int(data.split(b" ", 2)[1]), data

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        key: str = "",
        context: ssl.SSLContext | None = None,
        port: int = 0,
        method: str = "",
        origin: str = "",
    ) -> Answer:
        connection = self.connect(context, port)
        try:
            return self.exchange(connection, path, body, key=key, method=method, origin=origin)
        finally:
            connection.close()

    @staticmethod
    def exchange(
        connection: http.client.HTTPConnection,
        path: str,
        body: object = None,
        *,
        key: str = "",
        method: str = "",
        origin: str = "",
    ) -> Answer:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        headers |= {"Origin": origin} if origin else {}
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
        response = connection.getresponse()
        text = response.read()
        kind = response.headers.get_content_type()
        document = json.loads(text) if kind == "application/json" else text
        return Answer(
            response.status, {k.lower(): v for k, v in response.headers.items()}, document
        )


@pytest.fixture
def run(bundles, tmp_path) -> Iterator[Callable[..., Running]]:
    running: list[subprocess.Popen[str]] = []

    def start(**given: Any) -> Running:
        served, state = bundles["price"], tmp_path / "state"
        state.mkdir(exist_ok=True)
        given |= {"bundle": served.bundle, "folder": str(served.folder), "state": str(state)}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, json.dumps(given)], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        scheme, _, address = process.stdout.readline().strip().partition("://")
        return Running(process, scheme, int(address.rpartition(":")[2]), state)

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def eventually() -> Callable[..., bool]:
    """Return a function that looks until it finds, for a while."""

    def wait(look: Callable[[], bool], seconds: float = 15) -> bool:
        deadline = time.monotonic() + seconds
        while not (found := look()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    return wait
