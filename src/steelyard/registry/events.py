"""Ledger events: immutable files, each sealed by a hash of its own and bound to the one before.

The last member of an event is the sha256 of all bytes before it; the next event repeats it as
`previous`. So a changed byte, a missing event and an event of another model are all seen.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from steelyard.core.seals import unseal
from steelyard.errors import IntegrityError, StoreError

__all__ = ["FORMAT", "Event", "event_key", "ledger_key", "open_event", "sequence_of"]

FORMAT: Final = 1
_NAME = re.compile(r"(\d{10})\.json")
_FIX = (
    "Restore the store from a copy. A ledger that was changed by other means than Steelyard "
    "cannot say what may be served."
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was read: its place in the order, its seal and all its members."""

    key: str
    seq: int
    kind: str
    hash: str
    members: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the event as plain JSON values."""
        return {**self.members, "hash": self.hash}

    def broken(self, why: str) -> IntegrityError:
        """Return the error that names this event's file and why it cannot be believed."""
        return broken(self.key, why)


def broken(key: str, why: str) -> IntegrityError:
    """Return the error that names an event's file and why it cannot be believed."""
    return IntegrityError(f"{key}: {why}.", fix=_FIX)


def ledger_key(model: str) -> str:
    """Return the prefix below which a model's events lie."""
    return f"ledger/{model}"


def event_key(model: str, seq: int) -> str:
    """Return the key of a model's event.

    >>> event_key("churn", 7)
    'ledger/churn/0000000007.json'
    """
    return f"{ledger_key(model)}/{seq:010d}.json"


def sequence_of(key: str) -> int | None:
    """Return the place that an event's key states; None for another file.

    >>> sequence_of("ledger/churn/0000000007.json")
    7
    """
    match = _NAME.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


def open_event(data: bytes, model: str, seq: int, previous: str | None) -> Event:
    """Read the event that follows `previous`; IntegrityError where it is not that event."""
    key = event_key(model, seq)
    try:
        members, digest = unseal(data)
    except ValueError:
        why = "the event was changed after it was written: its seal does not fit"
        raise broken(key, why) from None
    try:
        found = (members["format"], members["model"], members["seq"], members["previous"])
        kind, at, by = members["kind"], members["at"], members["by"]
        plain = isinstance(kind, str) and isinstance(at, str) and isinstance(by, str)
    except (ValueError, KeyError, TypeError):
        raise broken(key, "the file is no ledger event") from None
    if found[0] != FORMAT:
        raise StoreError(
            f"{key} has format {found[0]!r}; this Steelyard reads format {FORMAT}.",
            fix="Upgrade Steelyard here: a newer one writes to this store.",
        )
    if not plain or found[1:3] != (model, seq):
        raise broken(key, f"the event belongs elsewhere: model {found[1]!r}, place {found[2]!r}")
    if found[3] != previous:
        raise broken(key, "the event does not follow the one before it: one of them was replaced")
    return Event(key, seq, kind, digest, members)
