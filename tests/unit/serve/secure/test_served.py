"""Real processes: keys that change under them, TLS with files that are renewed, the admin port."""

import http.client
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from steelyard.errors import UsageError
from steelyard.serve.secure.audit import AuditLog
from steelyard.serve.secure.keys import KeyFile
from steelyard.serve.secure.tls import Tls, TlsFiles


def test_a_running_server_follows_its_keys_and_notes_who_was_turned_away(eventually, run, house):
    server = run()
    keys = KeyFile(server.state / "keys.json")
    assert server.ask("/predict/price", house).status == 200
    _, text = keys.create("shop", models=["price"])
    assert eventually(lambda: server.ask("/predict/price", house).status == 401)
    with_key = server.connect()
    assert server.exchange(with_key, "/predict/price", house, key=text).status == 200
    keys.revoke("shop")
    # On the connection that is open, on which the key was good.
    assert eventually(
        lambda: server.exchange(with_key, "/predict/price", house, key=text).status == 401
    )
    refused = server.ask("/predict/price", house)
    assert refused.headers["www-authenticate"]
    assert "Bearer" in refused.document["error"]
    # Probes have no key; what they are not told is what a stranger has no business with.
    assert server.ask("/health/ready").document == {"ready": True}
    for path in ("/health/live", "/v1/models/price", "/v2/models/price/ready", "/ping",
                 "/v1/endpoints/1/deployedModels/2"):  # fmt: skip
        assert server.raw(f"GET {path} HTTP/1.1")[0] == 200
    for path in ("/", "/docs", "/v1/models", "/v1/models/price:predict", "/v2/models/price"):
        assert server.ask(path).status == 401
    with_key.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    events = list(AuditLog(server.state / "audit").read())
    reasons = {event["reason"]: event["count"] for event in events}
    assert reasons["no key"] >= 2
    assert reasons["revoked key"] == 1
    assert {event["client"] for event in events} == {"127.0.0.1"}
    assert AuditLog(server.state / "audit").problems() == (len(events), [])


def test_every_response_carries_what_protects_it_and_no_banner(run, house, free_port):
    server = run(admin=free_port)
    answers = [
        server.ask("/predict/price", house),
        server.ask("/predict/price", {**house, "rooms": -1}),
        server.ask("/predict/price", {"rows": [house]}),
        server.ask("/predict/other", house),
        server.ask("/predict/price"),
        server.ask("/health/ready"),
        server.ask("/metrics"),
        server.ask("/docs"),
        server.ask("/nope"),
        server.ask("/v2/models/price"),
        server.ask("/" + "a" * 9_000),
        server.ask("/admin/state", port=free_port),
    ]
    assert [answer.status for answer in answers] == [
        200, 422, 200, 404, 405, 200, 200, 200, 404, 200, 414, 401]  # fmt: skip
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


def write(authority: trustme.CA, folder: Path) -> list[str]:
    """Write a certificate and its key as a renewing program does: aside, then into place."""
    issued = authority.issue_cert("127.0.0.1")
    folder.mkdir(exist_ok=True)
    for name, blobs in (("key", [issued.private_key_pem]), ("cert", issued.cert_chain_pems)):
        aside = folder / f"{name}.new"
        aside.write_bytes(b"".join(blob.bytes() for blob in blobs))
        aside.rename(folder / f"{name}.pem")
    return [str(folder / "cert.pem"), str(folder / "key.pem")]


def serial(server: Any, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        found = wrapped.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def test_tls_answers_and_takes_over_renewed_files_while_connections_stay(
    eventually, run, house, authority, tmp_path
):
    files = write(authority, tmp_path / "tls")
    server = run(tls=files)
    assert server.scheme == "https"
    context = trusting(authority)
    open_ = server.connect(context)
    assert server.exchange(open_, "/predict/price", house).status == 200
    assert server.exchange(open_, "/health/ready").status == 200
    first = serial(server, context)
    write(authority, tmp_path / "tls")
    assert eventually(lambda: serial(server, context) != first)
    second = serial(server, context)
    assert server.exchange(open_, "/predict/price", house).status == 200
    # Half a renewal, or rubbish, changes nothing.
    cert = Path(files[0])
    kept = cert.read_bytes()
    cert.write_bytes(b"rubbish")
    time.sleep(1.6)
    assert serial(server, context) == second
    cert.write_bytes(kept)
    write(authority, tmp_path / "tls")
    assert eventually(lambda: serial(server, context) != second)
    assert server.exchange(open_, "/predict/price", house).status == 200
    open_.close()
    old = trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        serial(server, old)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        server.ask("/health/live")  # in the clear
    with pytest.raises(ssl.SSLCertVerificationError):
        server.ask("/health/live", context=ssl.create_default_context())


def test_clients_show_certificates_of_the_authority_that_was_named(run, house, authority, tmp_path):
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    server = run(tls=[*write(authority, tmp_path / "tls"), str(tmp_path / "clients.pem")])
    known = trusting(authority, clients.issue_cert("shop@example.org"))
    assert server.ask("/predict/price", house, context=known).status == 200
    for stranger in (None, trustme.CA().issue_cert("eve@example.org")):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            server.ask("/predict/price", house, context=trusting(authority, stranger))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cert", "other"), "not that of the certificate"),
        (("cert", "locked"), "is encrypted"),
        (("key", "key"), "no such PEM file"),
        (("cert", "nothing"), "there is no"),
        (("cert", "key", "key"), "no such PEM file"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_name(authority, tmp_path, names, message):
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    write(authority, tmp_path)
    (tmp_path / "key.pem").rename(tmp_path / "other.pem")
    write(authority, tmp_path)
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    with pytest.raises(UsageError, match=message) as caught:
        Tls(TlsFiles(*(tmp_path / f"{name}.pem" for name in names)))
    assert f"{names[1]}.pem" in str(caught.value)


# The admin port.


def test_the_admin_port_asks_for_an_admin_key_and_takes_nothing_else(
    eventually, run, house, free_port
):
    server = run(admin=free_port)
    keys = KeyFile(server.state / "keys.json")
    asked = {"port": free_port}
    assert server.ask("/admin/state", **asked).status == 401  # also where no key was ever made
    assert server.ask("/admin/drain", method="POST", **asked).status == 401
    admin, shop = (keys.create(name, scopes=[name])[1] for name in ("admin", "predict"))
    assert eventually(lambda: server.ask("/admin/state", key=admin, **asked).status == 200)
    state = server.ask("/admin/state", key=admin, **asked).document
    assert (state["model"], state["version"], state["ready"]) == ("price", 1, True)
    assert server.ask("/admin/state", key=shop, **asked).status == 403
    assert server.ask("/admin/drain", key=shop, method="POST", **asked).status == 403
    assert server.ask("/admin/drain", key=admin, **asked).status == 405
    page = {"origin": "http://127.0.0.1", **asked}
    assert server.ask("/admin/drain", key=admin, method="POST", **page).status == 403
    assert not server.ask("/admin/state", key=admin, **asked).document["draining"]
    # Neither port answers what is the other's.
    assert server.ask("/predict/price", house, key=admin, **asked).status == 404
    for path in ("/admin/state", "/admin/drain", "/admin"):
        assert server.ask(path, key=shop).status == 404
        assert server.ask(path, method="POST", key=shop).status == 404
    assert server.ask("/predict/price", house, key=admin).status == 403
    assert server.ask("/health/ready").status == 200


def test_every_worker_drains_and_still_answers(eventually, run, house, free_port, tmp_path):
    keys = KeyFile(tmp_path / "state" / "keys.json")
    admin, shop = (keys.create(name, scopes=[name])[1] for name in ("admin", "predict"))
    server = run(admin=free_port, workers=2)
    drained = server.ask("/admin/drain", key=admin, method="POST", port=free_port)
    assert drained.status == 202
    assert drained.document["draining"]
    assert eventually(lambda: {server.ask("/health/ready").status for _ in range(12)} == {503})
    assert server.ask("/health/live").status == 200
    assert {server.ask("/predict/price", house, key=shop).status for _ in range(8)} == {200}
    events = [e for e in AuditLog(server.state / "audit").read() if e["event"] == "drained"]
    assert [event["by"] for event in events] == [f"key {admin[3:11]}"]
