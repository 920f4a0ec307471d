"""The audit log: what was done to keys, aliases and signatures, and who was turned away.

One line of JSON an event, each sealed and bound to the one before by its hash. A small file beside
it, `head.json`, says how far the log reaches: so a line that was changed, taken out or cut off the
end is seen. Whoever may write to both files can write another history; ship the lines elsewhere
where that matters.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from steelyard.core.files import atomic_write, fsync_dir, locked
from steelyard.core.hashing import canonical_json
from steelyard.core.seals import seal, unseal
from steelyard.errors import StoreError

__all__ = ["AuditLog"]

_LONGEST: Final = 1_000
_DAMAGE: Final = "damage_found"


@dataclass(frozen=True, slots=True)
class _Head:
    """The last event that is known to be durable: its place, its hash, and where it ends.

    `damage` is why that is not known, where the log has more than `excused` lines.
    """

    seq: int = 0
    hash: str | None = None
    size: int = 0
    damage: str = ""
    excused: int = 0


class _HeadFile(msgspec.Struct):
    seq: int
    hash: str
    size: int


class AuditLog:
    """The events of one state folder, which any of its processes may add to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self._head_path = folder / "head.json"
        self._lock = folder / "lock"

    def record(self, event: str, *, by: str, **details: Any) -> None:
        """Add an event; it is durable when this returns. `details` are plain JSON values.

        Raises StoreError where it cannot be written.
        """
        members = {name: _bounded(value) for name, value in details.items()}
        members |= {
            "event": event,
            "by": by,
            "at": datetime.now(UTC).isoformat("T", "milliseconds"),
        }
        try:
            with locked(self._lock):
                self._append(members)
        except OSError as error:
            raise StoreError(
                f"cannot write to the audit log {self.path}: {error.strerror}.",
                fix="See that the disk has room and that the folder belongs to this user.",
            ) from None

    def read(self) -> Iterator[dict[str, Any]]:
        """Give the events in their order, as far as they can be read."""
        for line in self._lines():
            try:
                yield unseal(line)[0]
            except ValueError:
                continue

    def problems(self) -> tuple[int, list[str]]:
        """Return how many events there are, and what is wrong with them; nothing where all is well."""
        if not self.path.parent.is_dir():
            return 0, []
        with locked(self._lock):
            lines, head = self._lines(), self._head()
        found: list[str] = []
        seq, previous, at_head = 0, None, None
        for number, line in enumerate(lines, 1):
            try:
                members, digest = unseal(line)
                place, before = members["seq"], members["previous"]
            except (ValueError, KeyError, TypeError):
                found.append(f"line {number} was changed after it was written")
                continue
            if (place, before) != (seq + 1, previous):
                found.append(f"line {number} does not follow the one before it: lines are missing")
            if members.get("event") == _DAMAGE:
                found.append(f"line {number} tells of damage: {members.get('what')}")
            seq, previous = place, digest
            at_head = digest if place == head.seq else at_head
        if head.damage and len(lines) > head.excused:
            found.append(head.damage)
        elif head.seq and at_head != head.hash:
            found.append(
                f"it does not reach event {head.seq}, which was its last: lines are missing"
            )
        return len(lines), found

    def _append(self, members: Mapping[str, Any]) -> None:
        """Write behind the last event and let the head follow; damage is told before."""
        reached = self._reached()
        events = [{**members, "event": _DAMAGE, "what": reached.damage}] if reached.damage else []
        data, seq, previous = b"", reached.seq, reached.hash
        for event in (*events, members):
            seq += 1
            line = seal({**event, "seq": seq, "previous": previous})
            data, previous = data + line + b"\n", unseal(line)[1]
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # What a killed writer left of a line was never acknowledged.
            os.ftruncate(handle, reached.size)
            os.pwrite(handle, data, reached.size)
            os.fsync(handle)
        finally:
            os.close(handle)
        if reached.size == 0:
            fsync_dir(self.path.parent)
        document = {"seq": seq, "hash": previous, "size": reached.size + len(data)}
        atomic_write(self._head_path, canonical_json(document), private=True)

    def _reached(self) -> _Head:
        """Return the head, moved over the whole lines behind it that a killed writer could not tell."""
        head = self._head()
        behind = self._bytes(head.size)
        if behind is None:
            size = (self._bytes(0) or b"").rfind(b"\n") + 1
            return replace(head, size=size, damage="the last lines are missing")
        size = head.size + behind.rfind(b"\n") + 1
        seq, previous, good = head.seq, head.hash, True
        lines = behind[: size - head.size].splitlines()
        for line in lines:
            try:
                members, digest = unseal(line)
                good = good and members["previous"] == previous
                seq, previous = members["seq"], digest
            except (ValueError, KeyError, TypeError):
                good = False
        damage = head.damage if len(lines) > head.excused else ""
        return _Head(seq, previous, size, damage if good else "lines were changed or are missing")

    def _head(self) -> _Head:
        try:
            told = msgspec.json.decode(self._head_path.read_bytes(), type=_HeadFile)
            return _Head(told.seq, told.hash, told.size)
        except FileNotFoundError:
            # Killed between the first event and the first head: nothing was lost.
            return _Head(
                damage=f"{self._head_path.name}, which tells the end, is missing", excused=1
            )
        except msgspec.MsgspecError:
            return _Head(damage=f"{self._head_path.name}, which tells the end, was changed")

    def _bytes(self, start: int) -> bytes | None:
        """Return the log from a place on; None where it ends before."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < start:
                    return None
                file.seek(start)
                return file.read()
        except FileNotFoundError:
            return b"" if start == 0 else None

    def _lines(self) -> list[bytes]:
        whole = (self._bytes(0) or b"").rpartition(b"\n")[0]
        return whole.split(b"\n") if whole else []


def _bounded(value: Any) -> Any:
    return value[:_LONGEST] if isinstance(value, str) else value
