"""An S3 of our own on loopback, and buckets in it."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest


def _in_turn(app: Any) -> Any:
    lock = threading.Lock()

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        with lock:
            return [b"".join(app(environ, start_response))]

    return answer


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Start moto's server; return its address."""
    pytest.importorskip("obstore", reason="obstore is not installed (extra objectstore)")
    server_module = pytest.importorskip(
        "moto.server", reason="moto[server], which stands in for S3, is not installed"
    )
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    # S3 decides conditional writes one after another; moto's threads may let two of them win.
    server._server.app = _in_turn(server._server.app)
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def environment(s3: str) -> dict[str, str]:
    """The variables that lead to the server."""
    return {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def bucket(s3: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an empty bucket and put the way to it into the environment; return a URL inside."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    name = f"steelyard-{uuid4().hex[:12]}"
    httpx.put(f"{s3}/{name}").raise_for_status()
    return f"s3://{name}/team/models"
