"""Steelyard's own ledger: versions, alias moves and the proof that they need.

    <store>/ledger/<model>/<sequence>.json   one event a file, each bound to the one before
    <store>/bundles/<hash>/                  what answers
    <store>/provenance/<hash>.json           what it was made from
    <store>/verdicts/<hash>.json             what the gates found
    <store>/documents/<hash>                 definition source, lock, model card

All but the ledger is content-addressed and is written before the event that names it, so that a
version is whole from the moment at which it can be seen. Needs nothing but the base install.
"""

from steelyard.registry.audit import Finding, audit
from steelyard.registry.ledger import Ledger
from steelyard.registry.state import AliasMove
from steelyard.registry.store import FolderStore

__all__ = ["AliasMove", "Finding", "FolderStore", "Ledger", "audit"]
