"""Vouching for a version: a signature over its bundle, kept beside it."""

from typing import Any

from steelyard.bundle.format import MANIFEST, read_verified
from steelyard.bundle.signature import SigningKey
from steelyard.core.config import Config
from steelyard.core.hashing import hash_bytes
from steelyard.core.records import Version
from steelyard.flow.auditing import record
from steelyard.flow.stores import open_ledger, resolved, signatures_of
from steelyard.registry.ledger import Ledger

__all__ = ["sign_reference", "sign_version"]


def sign_reference(ref: str, key: SigningKey, config: Config) -> dict[str, Any]:
    """Sign what a reference names; return what was signed, with which key, and where it lies.

    Raises IntegrityError where the bundle is not what was registered.
    """
    ledger, version, _ = resolved(ref, config)
    return _signed(ledger, version, key, config)


def sign_version(version: Version, config: Config) -> None:
    """Sign a version with the configured key; nothing where there is none."""
    if config.sign_key is not None:
        _signed(open_ledger(config), version, SigningKey(config.sign_key), config)


def _signed(ledger: Ledger, version: Version, key: SigningKey, config: Config) -> dict[str, Any]:
    files, bundle = read_verified(ledger.bundle_folder(version), version.bundle)
    hashes = {name: hash_bytes(data) for name, data in files.items()} | {MANIFEST: bundle}
    new = signatures_of(config).keep(bundle, key.id, key.sign(hashes))
    if new:
        record(config, "bundle_signed", version=version.reference, bundle=bundle, key=key.id)
    return {
        "model": version.model,
        "version": version.number,
        "bundle": bundle,
        "key": key.id,
        "signature": f"signatures/{bundle}/{key.id}.json",
        "new": new,
    }
