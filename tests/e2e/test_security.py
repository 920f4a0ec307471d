"""Keys, signatures and the audit log as an operator meets them: by the command line, on a live server."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.bundle.signature import SigningKey
from steelyard.core.config import Config
from steelyard.core.hashing import file_hash, hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger

ROW = {"rooms": 4}


class House(sy.Row):
    rooms: int


def houses() -> pl.DataFrame:
    rooms = np.arange(100)
    return pl.DataFrame({"rooms": rooms, "price": rooms * 2.0})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store with two versions that passed, the first of them champion."""
    folder = tmp_path / "state"
    config = Config(folder)
    ledger = open_ledger(config)
    for alpha in (1.0, 2.0):
        made = sy.Model(
            name="price", row=House, data=sy.Python(houses), label="price", estimator=Ridge(alpha)
        )
        built = build(made, read_table(made, config), folder / "candidates")
        provenance = {"alpha": alpha}
        ledger.register(
            "price",
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance=provenance,
            verdict=Verdict(built.bundle, hash_json(provenance), (Check("schema", "rows", True),)),
            documents={},
            by="test",
        )
    promote(folder, 1)
    return folder


def promote(state: Path, number: int) -> None:
    """Move the champion as another machine does, which knows of no key and has no MLflow."""
    ledger = open_ledger(Config(state))
    ledger.promote(Reference("price", version=number), reason="", by="test")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    made = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def environment(state: Path, public: Path | None = None) -> dict[str, str]:
    given = {**os.environ, "STEELYARD_STATE": str(state), "STEELYARD_USER": "ann"}
    return given | ({"STEELYARD_VERIFY_KEY": str(public)} if public else {})


def steelyard(state: Path, *words: object, code: int = 0, public: Path | None = None) -> Any:
    """Run a command with --json and return its document."""
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", *map(str, words), "--json"],
        env=environment(state, public), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


Serve = Callable[..., "Server"]


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        found = None
        while found is None and (line := process.stdout.readline()):
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found is not None
        self.port = int(found[1])

    def ask(self, path: str, body: object = None, key: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start(state: Path, *words: str, public: Path | None = None) -> Server:
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0", *words],
            env=environment(state, public), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        running.append(process)
        return Server(process)

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def eventually(look: Callable[[], object], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(found)


def events(state: Path) -> list[dict[str, Any]]:
    path = state / "audit" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_keys_by_the_command_line_on_a_live_server(state, serve):
    server = serve(state)
    assert server.ask("/predict/price", ROW)[0] == 200
    made = steelyard(state, "keys", "create", "shop", "--model", "price", "--expires", "30d")
    assert eventually(lambda: server.ask("/predict/price", ROW)[0] == 401)
    assert server.ask("/predict/price", ROW, made["key"])[0] == 200
    assert server.ask("/metrics", None, made["key"])[0] == 403
    turned = steelyard(state, "keys", "rotate", "shop", "--grace", "1h")
    assert eventually(lambda: server.ask("/predict/price", ROW, turned["key"])[0] == 200)
    assert server.ask("/predict/price", ROW, made["key"])[0] == 200
    steelyard(state, "keys", "revoke", made["id"])
    assert eventually(lambda: server.ask("/predict/price", ROW, made["key"])[0] == 401)
    assert server.ask("/predict/price", ROW, turned["key"])[0] == 200
    listed = steelyard(state, "keys", "list")["keys"]
    assert [(key["name"], key["state"]) for key in listed] == [
        ("shop", "revoked"), ("shop", "active")]  # fmt: skip
    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    for text in (made["key"], turned["key"]):
        assert text.encode() not in kept
        assert text.rpartition("_")[2].encode() not in kept
    assert [(e["event"], e["by"]) for e in events(state)][:3] == [
        ("key_created", "ann"), ("key_rotated", "ann"), ("key_revoked", "ann")]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tls-cert", "x.pem"), "--tls-key"),
        (("--tls-cert", "x.pem", "--tls-key", "y.pem"), "there is no x.pem"),
        (("--admin-port", "9", "--auth", "off"), "--scope admin"),
        (("--admin-port", "9", "--admin-host", "0.0.0.0"), "in the clear"),
    ],
)
def test_what_would_not_be_safe_is_not_started(state, words, message):
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0", *words],
        env=environment(state), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_keys_open_nothing(state):
    (state / "keys.json").write_text("{")
    (state / "keys.json").chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0"],
        env=environment(state), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "keys.json" in done.stderr


def test_what_is_not_signed_is_neither_served_promoted_nor_asked(state, keys, serve, tmp_path):
    private, public = keys
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([ROW]))
    found = steelyard(state, "verify", "price@1", public=public, code=1)
    assert (found["ok"], found["golden"]["ok"], found["signature"]["ok"]) == (False, True, False)
    for words in (("promote", "price@2"), ("predict", "price@1", rows)):
        refused = steelyard(state, *words, public=public, code=1)
        assert refused["error"] == "SignatureError"
        assert f"steelyard sign price@{words[1][-1]}" in refused["message"]
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0"],
        env=environment(state, public), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "steelyard sign price@1" in done.stderr
    signed = steelyard(state, "sign", "price@1", "--key", private)
    assert signed["new"]
    assert not steelyard(state, "sign", "price@1", "--key", private)["new"]
    found = steelyard(state, "verify", "price@1", public=public)
    assert found["signature"]["keys"] == [signed["key"]]
    assert len(steelyard(state, "predict", "price@1", rows, public=public)["predictions"]) == 1
    assert serve(state, public=public).ask("/predict/price", ROW)[0] == 200
    kinds = [event["event"] for event in events(state)]
    assert kinds == ["move_refused", "signature_refused", "bundle_signed"]
    # Without a key it is said who signed, and that nobody checked.
    assert "not checked" in steelyard(state, "verify", "price@1")["signature"]["result"]


def test_a_live_server_takes_over_only_what_is_signed(state, keys, serve):
    private, public = keys
    steelyard(state, "sign", "price@1", "--key", private)
    server = serve(state, public=public)
    promote(state, 2)

    def health() -> Any:
        return server.ask("/health/ready")[1]

    assert eventually(lambda: "signature" in health().get("behind", ""))
    assert health()["version"] == 1
    assert server.ask("/predict/price", ROW)[1]["version"] == 1
    steelyard(state, "doctor", public=public, code=1)
    steelyard(state, "sign", "price@2", "--key", private)
    assert eventually(lambda: health()["version"] == 2)
    refusals = [e for e in events(state) if e["event"] == "signature_refused"]
    assert [e["version"] for e in refusals] == ["price@2"]  # once, however often it was asked


def test_a_bundle_served_from_a_folder_is_held_to_its_signature(state, keys, tmp_path):
    private, public = keys
    version = open_ledger(Config(state)).resolve(Reference("price", version=1))
    source = state / "store" / "bundles" / version.bundle
    folder = tmp_path / "model"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())

    def started() -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard", "serve", f"{folder}/", "--port", "0"],
            env=environment(tmp_path / "elsewhere", public), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if "http://" in line:
                process.send_signal(signal.SIGTERM)
        process.stdout.close()
        return process.wait(30), said

    assert started()[0] == 1
    hashes = {path.name: file_hash(path) for path in source.iterdir()}
    (folder / "model.sig").write_bytes(SigningKey(private).sign(hashes))
    assert started()[0] == 0
    (folder / "model.sig").write_bytes(
        SigningKey(private).sign({**hashes, "manifest.json": "0" * 64})
    )
    code, said = started()
    assert code == 1
    assert "of another bundle" in said


def test_doctor_sees_that_the_audit_log_was_touched(state):
    for name in ("a", "b", "c"):
        steelyard(state, "keys", "create", name)
    steelyard(state, "doctor")
    path = state / "audit" / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2]]))
    found = steelyard(state, "doctor", code=1)
    told = [f["message"] for f in found["findings"] if f["state"] == "error"]
    assert any("audit log" in message and "missing" in message for message in told)


def test_grpc_has_the_same_certificate_as_http_and_is_not_in_the_clear(state, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    process = subprocess.Popen(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0", "--grpc-port", "0",
         "--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"],
        env=environment(state) | {"STEELYARD_LOG_FORMAT": "json"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["url"].startswith("https://")
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        call = "/inference.GRPCInferenceService/ServerLive"
        with grpc.secure_channel(ready["grpc"], credentials) as channel:
            assert channel.unary_unary(call)(b"", timeout=20)
        with (
            grpc.insecure_channel(ready["grpc"]) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            channel.unary_unary(call)(b"", timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()
