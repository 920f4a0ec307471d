"""What a model's events add up to: its versions, and who holds which alias with what before it.

Replay believes nothing: an event that a writer could not have written under the rules (an alias
on an unproven version, a number out of order) is refused, however well it is sealed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from steelyard.core.records import Version
from steelyard.core.reference import CHAMPION, Reference
from steelyard.errors import NotFoundError, StoreError, UsageError, nearest
from steelyard.registry.events import Event, open_event

__all__ = ["AliasMove", "State", "move_of"]


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias that moved from version `before` (None: from nowhere) to version `to`, and why.

    `verdict` is the one that the move relied on. `moved` is False where the alias was there
    already; the rest then tells of the move that brought it there. `note` is for people.
    """

    model: str
    alias: str
    before: int | None
    to: int
    verdict: str
    reason: str
    by: str
    at: str
    moved: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A version with its newest verdict, and what else its events say."""

    version: Version
    documents: Mapping[str, str]


class State:
    """One model's ledger up to event `seq`, whose hash is `head`."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.events: list[Event] = []
        self._known: list[_Known] = []
        self._by_content: dict[tuple[str, str], int] = {}
        # The moves that a rollback would undo, the last one on top.
        self._moves: dict[str, list[AliasMove]] = {}

    @property
    def seq(self) -> int:
        """How many events there are; the last one's place."""
        return len(self.events)

    @property
    def head(self) -> str | None:
        """The last event's hash."""
        return self.events[-1].hash if self.events else None

    @property
    def versions(self) -> tuple[Version, ...]:
        """Every version in order, each with its newest verdict."""
        return tuple(known.version for known in self._known)

    @property
    def aliases(self) -> dict[str, int]:
        """Alias -> number of the version that holds it."""
        return {alias: moves[-1].to for alias, moves in sorted(self._moves.items())}

    def holder(self, alias: str) -> AliasMove | None:
        """Return the move by which an alias came where it is."""
        moves = self._moves.get(alias)
        return moves[-1] if moves else None

    def earlier(self, alias: str) -> list[AliasMove]:
        """Return the moves below the holder's that were not rolled back, the latest first."""
        return self._moves.get(alias, [])[-2::-1]

    def numbered(self, number: int) -> Version:
        """Return a version by its number, with its newest verdict; NotFoundError where none."""
        if 1 <= number <= len(self._known):
            return self._known[number - 1].version
        raise NotFoundError(
            f"{self.model} has no version {number}.",
            fix=f"It has versions 1 to {len(self._known)}: steelyard show {self.model}@1",
        )

    def made_of(self, bundle: str, provenance: str) -> Version | None:
        """Return the version with this bundle and this provenance."""
        number = self._by_content.get((bundle, provenance))
        return self.numbered(number) if number else None

    def documents(self, number: int) -> Mapping[str, str]:
        """Return name -> sha256 of what is kept beside a version."""
        self.numbered(number)
        return self._known[number - 1].documents

    def resolve(self, ref: Reference) -> Version:
        """Return the version that a reference names.

        By alias it carries the verdict that the alias moved under; otherwise the newest one. A
        bundle that several versions share stands for the newest of them.
        """
        if not self._known:
            raise NotFoundError(
                f"{self.model} has no version yet.", fix="Run its definition: steelyard run FILE"
            )
        if ref.version is not None:
            return self.numbered(ref.version)
        if ref.bundle is not None:
            return self._by_hash(ref.bundle)
        alias = ref.alias or CHAMPION
        move = self.holder(alias)
        if move is None:
            raise NotFoundError(
                f"{self.model} has no {alias}.",
                fix=f"{nearest(alias, self.aliases)} Or name a version: "
                f"{self.model}@{len(self._known)}",
            )
        return replace(self.numbered(move.to), verdict=move.verdict, passed=True)

    def _by_hash(self, start: str) -> Version:
        found = [v for v in self.versions if v.bundle.startswith(start)]
        if not found:
            raise NotFoundError(
                f"no version of {self.model} has a bundle that starts with {start}.",
                fix="Copy the hash from `steelyard models` or `steelyard show`.",
            )
        bundles = sorted({v.bundle for v in found})
        if len(bundles) > 1:
            shown = ", ".join(bundle[: len(start) + 8] for bundle in bundles[:5])
            raise UsageError(
                f"{len(bundles)} bundles of {self.model} start with {start}: {shown}.",
                fix="Give more of the hash.",
            )
        return found[-1]

    def apply(self, data: bytes) -> Event:
        """Add the next event's file; what it breaks is raised before anything is changed."""
        event = open_event(data, self.model, self.seq + 1, self.head)
        kinds: Mapping[str, Callable[[Event, Mapping[str, Any]], None]] = {
            "version": self._apply_version,
            "verdict": self._apply_verdict,
            "alias": self._apply_alias,
        }
        if event.kind not in kinds:
            raise StoreError(
                f"{event.key} is of kind {event.kind!r}, which this Steelyard does not know.",
                fix="Upgrade Steelyard here: a newer one writes to this store.",
            )
        try:
            kinds[event.kind](event, event.members)
        except (KeyError, TypeError, ValueError) as error:
            raise event.broken(f"a member is missing or wrong: {error}") from error
        self.events.append(event)
        return event

    def _apply_version(self, event: Event, members: Mapping[str, Any]) -> None:
        version = Version(
            self.model,
            members["number"],
            members["bundle"],
            members["provenance"],
            members["verdict"],
            bool(members["passed"]),
            members["at"],
            members["by"],
        )
        content = (version.bundle, version.provenance)
        known = _Known(version, dict(members["documents"]))
        if version.number != len(self._known) + 1:
            raise event.broken(f"version {version.number} cannot follow {len(self._known)}")
        if content in self._by_content:
            raise event.broken(f"it repeats version {self._by_content[content]}")
        self._by_content[content] = version.number
        self._known.append(known)

    def _apply_verdict(self, event: Event, members: Mapping[str, Any]) -> None:
        number = members["number"]
        if not 1 <= number <= len(self._known):
            raise event.broken(f"it judges version {number}, which is not there")
        old = self._known[number - 1]
        version = replace(old.version, verdict=members["verdict"], passed=bool(members["passed"]))
        documents = {**old.documents, **members["documents"]}
        self._known[number - 1] = _Known(version, documents)

    def _apply_alias(self, event: Event, members: Mapping[str, Any]) -> None:
        alias, move = members["alias"], move_of(event)
        moves = self._moves.get(alias, [])
        if move.before != (moves[-1].to if moves else None):
            raise event.broken(f"{alias} was not at version {move.before}")
        if not 1 <= move.to <= len(self._known):
            raise event.broken(f"it moves {alias} to version {move.to}, which is not there")
        version = self._known[move.to - 1].version
        if version.verdict != move.verdict or not version.passed:
            raise event.broken(f"it moves {alias} to version {move.to} without a passing verdict")
        if members["move"] == "rollback":
            depth = next((i for i, m in enumerate(moves[-2::-1], 2) if m.to == move.to), None)
            if depth is None:
                raise event.broken(f"{alias} was not at version {move.to} before")
            # What was rolled back is no place to roll back to.
            del moves[-depth:]
        self._moves.setdefault(alias, moves).append(move)


def move_of(event: Event) -> AliasMove:
    """Read an alias event."""
    members = event.members
    return AliasMove(
        members["model"],
        members["alias"],
        members["from"],
        members["to"],
        members["verdict"],
        members["reason"],
        members["by"],
        members["at"],
        note=members["note"],
    )
