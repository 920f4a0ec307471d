"""Certificates are checked by the system, by a file or a context, or by nobody; extras are named."""

import ssl
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from steelyard.client import settings
from steelyard.errors import UnavailableError, UsageError

HOUSE = {"rooms": 4}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(server, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server behind TLS that asks its clients for a certificate if they have one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    listening = ThreadingHTTPServer(("127.0.0.1", 0), server.handler)
    listening.handle_error = lambda request, address: None  # who does not trust it hangs up
    listening.socket = context.wrap_socket(
        listening.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_an_unknown_certificate_is_not_trusted_and_not_asked_twice(secured, connect) -> None:
    with pytest.raises(UnavailableError, match=r"after 1 try.*not trusted") as refused:
        connect(secured).predict(HOUSE)
    assert "verify=" in str(refused.value)
    found = connect(f"{secured}/predict/price", fallback=0.5).predict(HOUSE)
    assert (found.prediction, found.source) == (0.5, "client-fallback")


def test_an_authority_may_be_a_file_or_a_context(secured, connect, authority, tmp_path) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    context = ssl.create_default_context(cafile=str(file))
    authority.issue_cert("client@example.org").configure_cert(context)
    for verify in (file, str(file), context):
        assert connect(secured, verify=verify).predict(HOUSE).source == "model"


def test_nobody_may_be_asked(secured, connect) -> None:
    assert connect(secured, verify=False).predict(HOUSE).source == "model"


def test_a_file_that_is_none_is_told(connect, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for file in (tmp_path / "absent.pem", broken):
        with pytest.raises(UsageError, match=file.name):
            connect("https://127.0.0.1:1", verify=file)


def test_what_is_not_installed_is_named_with_its_extra(connect, monkeypatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None if name == "tenacity" else True)
    with pytest.raises(UsageError, match="tenacity") as refused:
        connect("http://127.0.0.1:1")
    assert "steelyard[client]" in str(refused.value)
