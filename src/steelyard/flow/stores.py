"""Which engine stands behind each port, by configuration."""

from pathlib import Path

from steelyard.core.config import Config
from steelyard.core.records import Version
from steelyard.core.reference import Reference
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore

__all__ = ["open_ledger", "resolved"]


def open_ledger(config: Config) -> Ledger:
    """Return the ledger of a working folder."""
    return Ledger(FolderStore(config.store))


def resolved(ref: str, config: Config) -> tuple[Ledger, Version, Path]:
    """Return the ledger, the version that a reference names, and its bundle's folder."""
    ledger = open_ledger(config)
    version = ledger.resolve(Reference.parse(ref))
    return ledger, version, ledger.bundle_folder(version)
