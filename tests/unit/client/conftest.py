"""A server that says what a test told it to, over real connections."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from steelyard.client import AsyncClient, Client, settings
from steelyard.core.ids import row_ids

ROW = {
    "title": "House",
    "type": "object",
    "properties": {"rooms": {"type": "integer"}},
    "required": ["rooms"],
}
Reply = tuple[int, dict[str, str], bytes]


def prediction(prediction_id: str, number: float = 1.5) -> dict[str, Any]:
    return {
        "prediction": number,
        "prediction_id": prediction_id,
        "model": "price",
        "version": 2,
        "source": "model",
    }


def openapi(max_rows: int = 10_000) -> bytes:
    rows = {"properties": {"rows": {"maxItems": max_rows}}}
    document = {
        "info": {"version": "2"},
        "paths": {
            "/health/live": {},
            "/predict/price": {"post": {"requestBody": {"content": {"application/json": {}}}}},
        },
        "components": {"schemas": {"Row": ROW, "Rows": rows}},
    }
    return json.dumps(document).encode()


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass
class Server:
    """Answers as a server with one model does, but for what `replies` say first.

    `BREAK` is a reply: the connection is broken without a word.
    """

    BREAK: ClassVar[Reply] = (0, {}, b"")
    url: str = ""
    replies: list[Reply | Callable[[Request], Reply]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    handler: type[BaseHTTPRequestHandler] = BaseHTTPRequestHandler

    @property
    def asked(self) -> list[Request]:
        """The requests for predictions."""
        return [request for request in self.requests if request.method == "POST"]

    def good(self, request: Request, **changes: Any) -> Reply:
        """Reply as to one row."""
        return 200, {}, json.dumps(prediction(request.key) | changes).encode()

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.path == "/openapi.json":
            return 200, {}, openapi()
        if self.replies:
            told = self.replies.pop(0)
            return told(request) if callable(told) else told
        return self.usual(request)

    def usual(self, request: Request) -> Reply:
        document = json.loads(request.body)
        if "rows" not in document:
            return self.good(request)
        ids = zip(document["rows"], row_ids(request.key), strict=False)
        found = [prediction(one, row.get("rooms", 0)) for row, one in ids]
        return 200, {}, json.dumps({"predictions": found}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a response is one packet
    scripted: Server

    def setup(self) -> None:
        super().setup()
        self.scripted.connections += 1

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.scripted.reply(Request(self.command, self.path, headers, body))
        if reply == Server.BREAK:
            self.close_connection = True
            return
        status, more, content = reply
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    scripted = Server()
    handler = type("Scripted", (Handler,), {"scripted": scripted})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    scripted.handler = handler
    scripted.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield scripted
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_FIRST_WAIT", 0.001)
    monkeypatch.delenv("STEELYARD_API_KEY", raising=False)


class Waited:
    """An AsyncClient whose calls are waited for."""

    def __init__(self, *words: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient(*words, **options)
        self._settings = self.client._settings

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, "aclose" if name == "close" else name)
        return lambda *words, **options: self.runner.run(method(*words, **options))


@pytest.fixture(params=[Client, Waited], ids=["waiting", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a client, of either kind, with the same calls."""
    made: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        made.append(request.param(url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()
        if isinstance(client, Waited):
            client.runner.close()
