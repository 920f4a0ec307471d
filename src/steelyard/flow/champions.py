"""Which version was champion before another one, as the ledger tells."""

import json
import logging
from pathlib import Path

from steelyard.core.records import Version
from steelyard.core.reference import CHAMPION, Reference
from steelyard.errors import RefusedError, StoreError
from steelyard.registry.ledger import Ledger

__all__ = ["previous_champion", "stands_in"]

_log = logging.getLogger(__name__)


def previous_champion(ledger: Ledger, version: Version) -> Version | None:
    """Return the version that was champion before `version` became it, still proven; else None.

    For a version that never was champion, that is the champion of now. What was rolled back is
    passed over, as a rollback passes over it.
    """
    held: list[int] = []
    for event in ledger.history(version.model):
        if event["kind"] != "alias" or event["alias"] != CHAMPION:
            continue
        if event["move"] == "rollback":
            del held[len(held) - 2 - held[-2::-1].index(event["to"]) :]
        held.append(event["to"])
    if version.number in held:
        del held[len(held) - 1 - held[::-1].index(version.number) :]
    for number in reversed(held):
        if number == version.number:
            continue
        found = ledger.resolve(Reference(version.model, version=number))
        try:
            ledger.prove(found)
        except (RefusedError, StoreError) as error:
            _log.warning("%s cannot stand in for %s: %s", found.reference, version.reference, error)
            continue
        return found
    return None


def stands_in(ledger: Ledger, version: Version, folder: Path) -> tuple[Path, str] | None:
    """Return the previous champion's bundle, its folder and hash, where a version falls back on it.

    `folder` is the version's own bundle.
    """
    try:
        asked = json.loads((folder / "fallback.json").read_bytes())["kind"]
    except (OSError, ValueError, LookupError):
        return None  # a damaged bundle is refused by whoever loads it
    if asked != "previous_champion":
        return None
    try:
        found = previous_champion(ledger, version)
        return None if found is None else (ledger.bundle_folder(found), found.bundle)
    except StoreError as error:
        _log.warning("%s has no previous champion to fall back on: %s", version.reference, error)
        return None
