"""A real server, and a proxy before it that can be told to spoil what comes back."""

import http.client
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier

import steelyard as sy
from steelyard import Field
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table

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
    folder = tmp_path_factory.mktemp("wire")
    definition = sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive="Yes",
        estimator=RandomForestClassifier(10, random_state=0),
    )
    return build(definition, read_table(definition, Config(folder / "state")), folder).folder


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Rows whose answers differ, so that an answer in the wrong place shows."""
    return [
        {"tenure": tenure, "charge": 20.0, "total": total, "plan": plan, "since": "2020-03-01",
         "active": tenure > 30}
        for tenure, total, plan in ((2, 7.0, "basic"), (50, 8.0, "pro"), (97, 9.0, "basic"))
    ]  # fmt: skip


class Servers:
    """Real servers for a bundle, each in a process of its own, started when they are asked for."""

    def __init__(self, bundle: Path, log: Path, stack: ExitStack) -> None:
        self.bundle, self.log, self.stack = bundle, log, stack
        self.urls: dict[str, str] = {}

    def url(self, contract: str) -> str:
        """Return the base URL of a server that answers a contract."""
        kind = contract if contract in ("sagemaker", "lambda") else "default"
        if kind not in self.urls:
            self.urls[kind] = self.function() if kind == "lambda" else self.server(kind)
        return self.urls[kind]

    def process(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "serve", str(self.bundle), *words],
            env={**os.environ, "STEELYARD_STATE": str(self.log), **environment},
            stdout=subprocess.DEVNULL if environment else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.stack.callback(end, process)
        return process

    def server(self, kind: str) -> str:
        chosen = ("--contract", "sagemaker") if kind == "sagemaker" else ()
        process = self.process("--port", "0", *chosen)
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        return found[0]

    def function(self) -> str:
        emulated = self.stack.enter_context(emulation())
        self.process("--contract", "lambda", AWS_LAMBDA_RUNTIME_API=emulated.address)
        return f"http://{emulated.address}"


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def servers(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(bundle, tmp_path_factory.mktemp("state"), stack)


@pytest.fixture(scope="session")
def server(servers: Servers) -> str:
    return servers.url("native")


@dataclass(frozen=True)
class Exchange:
    """A request with the response of the real server."""

    method: str
    path: str
    headers: dict[str, str]
    asked: bytes
    status: int
    given: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def request(self) -> Any:
        return json.loads(self.asked)

    def answering(self, document: Any, status: int | None = None) -> "Exchange":
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return replace(self, body=body, status=status or self.status)


Sin = Callable[[Exchange], Exchange | None]
"""Spoils a response; None ends the connection without one."""

HOP = {"connection", "content-length", "date", "host", "transfer-encoding"}


class Liar(ThreadingHTTPServer):
    """A proxy that sins."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.sin: Sin = lambda exchange: exchange
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some cases are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Liar

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection(
            self.server.upstream.hostname or "", self.server.upstream.port, timeout=30
        )

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def answer(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        try:
            self.upstream.request(self.command, self.path, asked, headers)
            reply = self.upstream.getresponse()
            status, given, body = reply.status, dict(reply.getheaders()), reply.read()
        except OSError:
            # The server refuses a body that is too large before it has read it.
            self.upstream.close()
            status, given, body = 413, {"content-type": "application/json"}, b'{"error":"large"}'
        lowered = {k.lower(): v for k, v in headers.items()}
        given = {k.lower(): v for k, v in given.items() if k.lower() not in HOP}
        exchange = Exchange(self.command, self.path, lowered, asked, status, given, body)
        with self.server.lock:
            spoiled = self.server.sin(exchange)
        if spoiled is None:
            self.close_connection = True
            return
        self.send_response_only(spoiled.status)
        for name, value in spoiled.given.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(spoiled.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(spoiled.body)
        if spoiled.given.get("x-then") == "close":
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *args: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def liars(servers: Servers) -> Iterator[Callable[[str], Liar]]:
    """Return a function that gives the proxy before a contract's server."""
    known: dict[str, Liar] = {}
    with ExitStack() as stack:

        def liar_of(contract: str) -> Liar:
            upstream = servers.url(contract)
            if upstream not in known:
                known[upstream] = Liar(upstream)
                stack.enter_context(running(known[upstream]))
            return known[upstream]

        yield liar_of


# AWS Lambda.


@dataclass
class Invocation:
    """An event on its way to a runtime, and what the runtime made of it."""

    event: bytes
    seconds: float = 10
    done: threading.Event = field(default_factory=threading.Event)
    answer: bytes = b""
    failed: str = ""
    """The kind of error that the runtime told, if it told one."""


class Lambda(ThreadingHTTPServer):
    """Stands in for Lambda: its runtime API, and the URL at which its emulators are invoked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _LambdaHandler)
        self.events: queue.Queue[tuple[str, Invocation] | None] = queue.Queue()
        self.under_way: dict[str, Invocation] = {}
        self.init_errors: list[dict[str, Any]] = []
        self.most_bytes = 6 * 1024 * 1024

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def invoke(self, event: Any, seconds: float = 10) -> Invocation:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        invocation = Invocation(body, seconds)
        self.events.put((uuid.uuid4().hex, invocation))
        assert invocation.done.wait(30), "no runtime answered"
        return invocation

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A runtime that is killed is what some tests are about."""


class _LambdaHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Lambda

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next"
        found = self.server.events.get()
        if found is None:
            self.close_connection = True
            return
        key, invocation = found
        self.server.under_way[key] = invocation
        headers = {
            "Lambda-Runtime-Aws-Request-Id": key,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:1:function:churn",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1",
        }
        self.reply(200, invocation.event, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/2015-03-31/functions/function/invocations":
            found = self.server.invoke(body)
            self.reply(200, found.answer, {"X-Amz-Function-Error": found.failed or None})
            return
        if self.path == "/2018-06-01/runtime/init/error":
            kind = self.headers["Lambda-Runtime-Function-Error-Type"]
            self.server.init_errors.append(json.loads(body) | {"kind": kind})
            self.reply(202, b'{"status": "OK"}')
            return
        _, _, _, _, key, what = self.path.split("/")
        if what == "response" and len(body) > self.server.most_bytes:
            self.reply(413, b'{"errorType": "RequestEntityTooLarge"}')
            return
        invocation = self.server.under_way.pop(key)
        invocation.answer, invocation.failed = body, "Unhandled" if what == "error" else ""
        self.reply(202, b'{"status": "OK"}')
        invocation.done.set()

    def reply(self, status: int, body: bytes, headers: dict[str, str | None] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def emulation() -> Iterator[Lambda]:
    emulated = Lambda()
    with running(emulated):
        try:
            yield emulated
        finally:
            emulated.events.put(None)


@pytest.fixture
def aws_lambda() -> Iterator[Lambda]:
    with emulation() as emulated:
        yield emulated
