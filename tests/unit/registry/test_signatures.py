"""Where a key is configured, nothing unsigned is promoted, served, or gone back to."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from steelyard.bundle.format import MANIFEST
from steelyard.bundle.signature import SigningKey, Trust
from steelyard.core.hashing import file_hash
from steelyard.core.reference import Reference
from steelyard.errors import IntegrityError, RefusedError, SignatureError
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger
from steelyard.registry.signatures import Signatures


@pytest.fixture
def key(tmp_path):
    made = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(
        made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    return SigningKey(tmp_path / "key.pem")


@pytest.fixture
def trusting(store, key, tmp_path):
    return Ledger(store, Trust(tmp_path / "key.pub"))


def sign(store, key, version):
    folder = store.folder(f"bundles/{version.bundle}")
    hashes = {path.name: file_hash(path) for path in folder.iterdir()}
    assert hashes[MANIFEST] == version.bundle
    return Signatures(store).keep(version.bundle, key.id, key.sign(hashes))


def promote(ledger, number):
    return ledger.promote(Reference("churn", version=number), reason="", by="ann")


def test_only_what_is_signed_is_promoted_and_proven(trusting, store, key, candidate):
    version = candidate(1).register(trusting)
    for ask in (lambda: promote(trusting, 1), lambda: trusting.prove(version)):
        with pytest.raises(SignatureError, match=r"(?s)not signed.*steelyard sign churn@1"):
            ask()
    assert trusting.aliases("churn") == {}
    assert sign(store, key, version)
    assert not sign(store, key, version)  # once is enough
    assert promote(trusting, 1).moved
    assert trusting.prove(version).passed
    assert audit(trusting) == []


def test_without_a_key_nothing_is_asked_for(ledger, candidate):
    candidate(1).register(ledger)
    assert promote(ledger, 1).moved
    assert Signatures(ledger.store).check("0" * 64, "churn@1") == ""


def test_a_signature_stands_for_no_verdict(trusting, store, key, candidate):
    version = candidate(1, outcome="failed").register(trusting)
    sign(store, key, version)
    with pytest.raises(RefusedError, match="it failed quality"):
        promote(trusting, 1)


def test_a_rollback_passes_over_what_is_not_signed(ledger, trusting, store, key, candidate):
    versions = [candidate(n, made=n).register(ledger) for n in (1, 2, 3)]
    for number in (1, 2, 3):
        promote(ledger, number)  # before a key was configured
    with pytest.raises(RefusedError, match="not signed"):
        trusting.rollback("churn", reason="", by="ann")
    sign(store, key, versions[0])
    move = trusting.rollback("churn", reason="", by="ann")
    assert move.to == 1
    assert "churn@2 has no signature" in move.note


@pytest.mark.parametrize("data", [b"", b"{}", b"\x80\x04pickle"])
def test_rubbish_in_the_place_of_a_signature_does_not_count(trusting, store, key, candidate, data):
    version = candidate(1).register(trusting)
    store.create(f"signatures/{version.bundle}/{key.id}.json", data)
    with pytest.raises(SignatureError, match="no sigstore bundle"):
        promote(trusting, 1)


def test_another_bundles_signature_does_not_count(trusting, store, key, candidate):
    first, second = (candidate(n, made=n).register(trusting) for n in (1, 2))
    sign(store, key, first)
    [data] = Signatures(store).of(first.bundle)
    store.create(f"signatures/{second.bundle}/{key.id}.json", data)
    with pytest.raises(SignatureError, match="of another bundle"):
        promote(trusting, 2)


def test_a_signed_bundle_whose_files_were_changed_is_refused(trusting, store, key, candidate):
    version = candidate(1).register(trusting)
    sign(store, key, version)
    folder = store.folder(f"bundles/{version.bundle}")
    (folder / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(RefusedError, match=r"model\.onnx"):
        promote(trusting, 1)
    # Neither does a manifest that fits the changed file help: the signature is of the other one.
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"]["model.onnx"] = file_hash(folder / "model.onnx")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        promote(trusting, 1)


def test_signatures_of_nothing_are_reported(ledger, store, key, candidate):
    candidate(1).register(ledger)
    Signatures(store).keep("ab" * 32, key.id, b"{}")
    assert [found.where for found in audit(ledger)] == [f"signatures/{'ab' * 32}"]


def test_what_is_no_hash_is_no_place(store):
    for bundle in ("", "..", "../../etc", "x" * 65):
        with pytest.raises(IntegrityError):
            Signatures(store).of(bundle)
