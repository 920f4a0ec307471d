"""Which engine stands behind each port, by configuration."""

from pathlib import Path

from steelyard.adapters.objectstore.store import ObjectStore
from steelyard.bundle.signature import Trust
from steelyard.core.config import Config
from steelyard.core.ports import Store
from steelyard.core.records import Version
from steelyard.core.reference import Reference
from steelyard.registry.ledger import Ledger
from steelyard.registry.signatures import Signatures
from steelyard.registry.store import FolderStore

__all__ = ["open_ledger", "open_store", "resolved", "signatures_of", "trust_of"]


def open_ledger(config: Config) -> Ledger:
    """Return the ledger of a working folder."""
    return Ledger(open_store(config), trust_of(config))


def trust_of(config: Config) -> Trust | None:
    """Return whose signatures count; None where no key is configured, and none is asked for."""
    return Trust(config.verify_key) if config.verify_key else None


def signatures_of(config: Config) -> Signatures:
    """Return the signatures in the store of a working folder."""
    return Signatures(open_store(config), trust_of(config))


def open_store(config: Config) -> Store:
    """Return the store of bundles and the ledger: a folder, or an object store named by its URL."""
    if "://" in config.store:
        return ObjectStore(config.store, config.cache)
    return FolderStore(Path(config.store))


def resolved(ref: str, config: Config) -> tuple[Ledger, Version, Path]:
    """Return the ledger, the version that a reference names, and its bundle's folder."""
    ledger = open_ledger(config)
    version = ledger.resolve(Reference.parse(ref))
    return ledger, version, ledger.bundle_folder(version)
