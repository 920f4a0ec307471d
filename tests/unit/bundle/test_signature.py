"""Signatures are read by OpenSSF's own tool and read what it writes; nothing else is taken for one."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from steelyard.bundle.format import MANIFEST, seal
from steelyard.bundle.signature import EncryptedKeyError, SigningKey, Trust, signer_of
from steelyard.core.hashing import file_hash
from steelyard.errors import SignatureError, UsageError

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def write_pair(folder: Path, name: str, key: Any) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return write_pair(tmp_path, "key", ec.generate_private_key(CURVES["P-256"]))


@pytest.fixture
def bundle(tmp_path) -> tuple[str, Path]:
    return seal({"model.onnx": b"a graph", "model.json": b"{}"}, tmp_path / "bundles")


@pytest.fixture
def signed(pair, bundle) -> bytes:
    return SigningKey(pair[0]).sign(hashes(bundle[1]))


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in folder.iterdir()}


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_the_reference_implementation_reads_what_is_written_here(tmp_path, bundle, curve):
    private, public = write_pair(tmp_path, "key", ec.generate_private_key(CURVES[curve]))
    signature = tmp_path / "ours.sig"
    signature.write_bytes(SigningKey(private).sign(hashes(bundle[1])))
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(bundle[1], signature)
    # What lies beside a bundle for other systems does not disturb it, a changed file does.
    (bundle[1] / "MLmodel").write_bytes(b"for MLflow")
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(bundle[1], signature)
    (bundle[1] / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(ValueError, match="mismatch"):
        verifier.verify(bundle[1], signature)


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_what_the_reference_implementation_writes_is_read_here(tmp_path, bundle, curve):
    private, public = write_pair(tmp_path, "key", ec.generate_private_key(CURVES[curve]))
    signature = tmp_path / "theirs.sig"
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
    signer.sign(bundle[1], signature)
    data = signature.read_bytes()
    assert Trust(public).check(bundle[0], [data], "churn@1") == SigningKey(private).id
    assert signer_of(data) == SigningKey(private).id
    with pytest.raises(SignatureError, match="of another bundle"):
        Trust(public).check("0" * 64, [data], "churn@1")


def test_the_command_of_the_reference_implementation_agrees_both_ways(
    tmp_path, bundle, pair, signed
):
    command = [sys.executable, "-m", "model_signing"]
    ours, theirs = tmp_path / "ours.sig", tmp_path / "theirs.sig"
    ours.write_bytes(signed)
    for words in (
        ["sign", "key", bundle[1], "--private_key", pair[0], "--signature", theirs],
        ["verify", "key", bundle[1], "--public_key", pair[1], "--signature", ours],
    ):
        subprocess.run([*command, *words], check=True, capture_output=True, timeout=60)
    assert Trust(pair[1]).check(bundle[0], [theirs.read_bytes()], "churn@1")


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.use_shard_serialization(),
        lambda c: c.use_file_serialization(hashing_algorithm="blake2"),
        lambda c: c.use_file_serialization(hashing_algorithm="blake3"),
    ],
)
def test_statements_of_another_kind_are_told_as_such(tmp_path, bundle, pair, use):
    signature = tmp_path / "theirs.sig"
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=pair[0])
    signer.set_hashing_config(use(model_signing.hashing.Config())).sign(bundle[1], signature)
    with pytest.raises(SignatureError, match="no statement of the sha256 of a model's files"):
        Trust(pair[1]).check(bundle[0], [signature.read_bytes()], "churn@1")


# What is no signature of a bundle.


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


def restated(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Change what is signed, without signing it."""

    def apply(document: dict[str, Any]) -> None:
        envelope = document["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return changed(apply)


def flip(document: dict[str, Any]) -> None:
    raw = bytearray(base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"]))
    raw[-1] ^= 1
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(raw).decode()


UNFIT = {
    "empty": lambda data: b"",
    "no JSON": lambda data: b"\x80\x04\x95pickle",
    "a list": lambda data: b"[]",
    "deep": lambda data: b"[" * 100_000,
    "huge": lambda data: data + b" " * 2_000_000,
    "another media type": changed(lambda d: d.update(mediaType="text/plain")),
    "another payload type": changed(lambda d: d["dsseEnvelope"].update(payloadType="text/plain")),
    "no signatures": changed(lambda d: d["dsseEnvelope"].update(signatures=[])),
    "two signatures": changed(lambda d: d["dsseEnvelope"]["signatures"].append({"sig": ""})),
    "no base64": changed(lambda d: d["dsseEnvelope"].update(payload="?")),
    "a number": changed(lambda d: d["dsseEnvelope"].update(payload=1)),
    "an empty signature": changed(lambda d: d["dsseEnvelope"]["signatures"][0].update(sig="")),
    "a flipped bit": changed(flip),
    "another file": restated(lambda s: s["predicate"]["resources"].pop()),
    "another subject": restated(lambda s: s["subject"][0].update(name="x")),
    "a forged hint": changed(
        lambda d: d["verificationMaterial"]["publicKey"].update(hint="0" * 64)
    ),
    "a hint of another kind": changed(
        lambda d: d["verificationMaterial"]["publicKey"].update(hint=["x"])
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(UNFIT))
def test_what_was_touched_is_no_signature(pair, bundle, signed, how):
    with pytest.raises(SignatureError, match=r"churn@1 has no signature that .* trusts") as caught:
        Trust(pair[1]).check(bundle[0], [UNFIT[how](signed)], "churn@1")
    assert "steelyard sign churn@1" in str(caught.value)
    assert len(str(caught.value)) < 1_000
    # It neither helps nor hinders one that is good.
    assert Trust(pair[1]).check(bundle[0], [UNFIT[how](signed), signed], "churn@1")


def test_a_signature_without_a_hint_is_tried_with_every_key(pair, bundle, signed):
    bare = changed(lambda d: d["verificationMaterial"]["publicKey"].pop("hint"))(signed)
    assert Trust(pair[1]).check(bundle[0], [bare], "churn@1") == SigningKey(pair[0]).id
    assert signer_of(bare) == ""


def test_only_trusted_keys_count_and_a_file_may_hold_several(tmp_path, pair, bundle, signed):
    other = write_pair(tmp_path, "other", ec.generate_private_key(CURVES["P-384"]))
    with pytest.raises(SignatureError, match="signed by another key"):
        Trust(other[1]).check(bundle[0], [signed], "churn@1")
    both = tmp_path / "both.pub"
    both.write_bytes(b"old:\n" + other[1].read_bytes() + b"new:\n" + pair[1].read_bytes())
    assert Trust(both).check(bundle[0], [signed], "churn@1") == SigningKey(pair[0]).id
    with pytest.raises(SignatureError, match="it is not signed"):
        Trust(both).check(bundle[0], [], "churn@1")


def signed_statement(private: Path, files: dict[str, str]) -> bytes:
    """Sign a statement that lists other files, as a key's owner may for something else."""
    return SigningKey(private).sign(files)


def test_a_good_signature_of_another_thing_is_of_another_thing(pair, bundle):
    other = signed_statement(pair[0], hashes(bundle[1]) | {MANIFEST: "ab" * 32})
    with pytest.raises(SignatureError, match="of another bundle"):
        Trust(pair[1]).check(bundle[0], [other], "churn@1")


# Keys.


def test_an_encrypted_key_needs_its_password(tmp_path, bundle):
    key = ec.generate_private_key(CURVES["P-256"])
    path = tmp_path / "locked.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    )
    for password in (None, "wrong"):
        with pytest.raises(EncryptedKeyError, match=r"locked\.pem"):
            SigningKey(path, password)
    assert SigningKey(path, "word").sign(hashes(bundle[1]))


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "secp256k1", "empty", "text", "the other half"])
def test_keys_of_other_kinds_are_told_with_the_command_that_makes_one(tmp_path, pair, kind):
    private, public = tmp_path / "x.pem", tmp_path / "x.pub"
    if kind in ("empty", "text"):
        for path in (private, public):
            path.write_bytes(b"" if kind == "empty" else b"no key at all")
    elif kind == "the other half":
        private, public = pair[1], pair[0]
    else:
        made: Any = {
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        }[kind]()
        write_pair(tmp_path, "x", made)
    with pytest.raises(UsageError, match="openssl ecparam"):
        SigningKey(private)
    with pytest.raises(UsageError, match="openssl ec "):
        Trust(public)


def test_a_missing_key_is_told(tmp_path):
    for use in (SigningKey, Trust):
        with pytest.raises(UsageError, match=r"cannot read the key .*nothing\.pem"):
            use(tmp_path / "nothing.pem")
