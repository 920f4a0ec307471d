"""The ledger: who was registered and who may answer, decided by one append-only order of events.

A writer replays what is there, checks its wish against it, and creates the next event's file
exclusively. Where another was first it reads on, checks again and tries the next place; so moves
of any processes end in one order and none is lost. There is no lock that a killed writer could
leave behind.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steelyard.bundle.format import read_verified
from steelyard.bundle.signature import Trust
from steelyard.core.ports import Store
from steelyard.core.records import Verdict, Version
from steelyard.core.reference import CHAMPION, Reference, check_name
from steelyard.core.seals import seal
from steelyard.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UsageError,
    nearest,
)
from steelyard.registry.events import (
    FORMAT,
    Event,
    broken,
    event_key,
    ledger_key,
    sequence_of,
)
from steelyard.registry.proof import Proofs, is_passing, judgement, waivers
from steelyard.registry.state import AliasMove, State, move_of

__all__ = ["AliasMove", "Ledger"]

_Plan = Callable[[State], dict[str, Any] | None]
_TRIES = 500
_READERS = 16
_LONGEST = 1000


class Ledger:
    """Versions and aliases of every model in a store. Threads may share one.

    With `trust` a version is proven only where a key that counts has signed its bundle.
    """

    def __init__(self, store: Store, trust: Trust | None = None) -> None:
        self.store = store
        self._proofs = Proofs(store, trust)
        self._states: dict[str, State] = {}
        self._lock = threading.RLock()

    def register(
        self,
        model: str,
        *,
        bundle: Path,
        bundle_hash: str,
        provenance: Mapping[str, Any],
        verdict: Verdict,
        documents: Mapping[str, bytes],
        by: str,
        run: str | None = None,
    ) -> Version:
        """Keep a sealed bundle with its provenance, verdict and documents as the next version.

        The same bundle and provenance stand for the same version whenever they come. Its first
        verdict is kept while later ones judge alike: the same checks fail or are waived, whatever
        was measured. One that judges otherwise is added and counts from then on, for promotions,
        but does not take an alias away. A version that failed is kept too; `promote` refuses it.
        `run` is the tracker's id of the run.

        Raises IntegrityError for a bundle that is not as sealed, RefusedError for a verdict over
        another bundle or provenance, UsageError for a waiver without reason, name or time.
        """
        check_name(model)
        by, waived = _text(by, "by", needed=True), waivers(verdict)
        named = {
            _text(name, "a document's name", needed=True): documents[name] for name in documents
        }
        read_verified(bundle, bundle_hash)
        record = self._proofs.keep(bundle, bundle_hash, provenance, verdict)

        def plan(state: State) -> dict[str, Any] | None:
            known = state.made_of(bundle_hash, record)
            if known and self._judged_alike(known, verdict):
                return None
            content = {
                "kind": "verdict" if known else "version",
                "number": known.number if known else len(state.versions) + 1,
                "verdict": self._proofs.keep_verdict(verdict),
                "passed": is_passing(verdict),
                "waivers": waived,
                "documents": {n: self._proofs.keep_document(data) for n, data in named.items()},
                "run": run,
                "by": by,
            }
            return content if known else {**content, "bundle": bundle_hash, "provenance": record}

        with self._lock:
            self._append(model, plan)
            found = self._states[model].made_of(bundle_hash, record)
        if found is None:
            raise IntegrityError(f"the store did not keep the event of {model} that it took.")
        return found

    def promote(self, ref: Reference, *, alias: str = CHAMPION, reason: str, by: str) -> AliasMove:
        """Move an alias to a version whose newest verdict passed, counting waivers.

        Where the alias is there already nothing is written, and the answer says so (`moved`).
        Raises RefusedError, with the failed checks named, unless the verdict is there, is the one
        that the ledger names, is bound to this bundle and provenance, and passed, and unless
        bundle and provenance are whole.
        """
        _check_alias(alias)
        reason, by = _text(reason, "the reason"), _text(by, "by", needed=True)
        proven: set[tuple[int, str]] = set()

        def plan(state: State) -> dict[str, Any] | None:
            version = state.numbered(state.resolve(ref).number)
            holder = state.holder(alias)
            if holder and holder.to == version.number:
                return None
            if (version.number, version.verdict) not in proven:
                self._proofs.whole(version)
                proven.add((version.number, version.verdict))
            return _content("promote", version, alias, holder, reason=reason, by=by)

        return self._moved(ref.model, alias, plan)

    def rollback(self, model: str, *, alias: str = CHAMPION, reason: str, by: str) -> AliasMove:
        """Move an alias back to the version that held it before, and is still proven and whole.

        What was itself rolled back is passed over, so that a second rollback goes further back
        instead of forth. Raises RefusedError where there is no version to go back to.
        """
        _check_alias(alias)
        reason, by = _text(reason, "the reason"), _text(by, "by", needed=True)

        def plan(state: State) -> dict[str, Any]:
            holder = state.holder(alias)
            if holder is None:
                raise NotFoundError(
                    f"{model} has no {alias} to roll back.", fix=nearest(alias, state.aliases)
                )
            unfit: list[str] = []
            for move in state.earlier(alias):
                if move.to == holder.to:
                    continue
                version = state.numbered(move.to)
                try:
                    self._proofs.whole(version)
                except RefusedError as error:
                    unfit.append(error.message)
                    continue
                note = _passed_over(unfit)
                return _content("rollback", version, alias, holder, reason=reason, by=by, note=note)
            raise RefusedError(
                f"no earlier version that held {model}@{alias} can take it from version "
                f"{holder.to}. {_passed_over(unfit)}".rstrip(),
                fix=f"Promote one that passed: steelyard promote {model}@N --to {alias}",
            )

        return self._moved(model, alias, plan)

    def resolve(self, ref: Reference) -> Version:
        """Return the version that a reference names.

        By alias it carries the verdict that the alias moved under, by number or hash the newest.
        Raises NotFoundError with the nearest names, UsageError where a hash is too short.
        """
        return self._known(ref.model).resolve(ref)

    def models(self) -> Sequence[str]:
        """Return the names of all models with a version, sorted."""
        names = (key.rpartition("/")[2] for key in self.store.list("ledger"))
        return [name for name in names if self.tail(name)]

    def versions(self, model: str) -> Sequence[Version]:
        """Return a model's versions in order, each with its newest verdict."""
        return self._known(model).versions

    def aliases(self, model: str) -> Mapping[str, int]:
        """Return alias -> version number."""
        return self._known(model).aliases

    def history(self, model: str) -> Sequence[Mapping[str, Any]]:
        """Return a model's events in their order, as plain JSON values."""
        return [event.document() for event in self._known(model).events]

    def verdict(self, version: Version) -> Verdict:
        """Return the verdict that a version carries.

        Raises IntegrityError where it is missing, changed, or bound to another bundle.
        """
        return self._proofs.verdict(version)

    def prove(self, version: Version) -> Verdict:
        """Return a version's verdict where it is as recorded and passed; else RefusedError.

        What a server asks before it answers with a version. The bundle's files are checked by
        whoever loads them.
        """
        return self._proofs.passed(version)

    def provenance(self, version: Version) -> dict[str, Any]:
        """Return what a version was made from; IntegrityError where the record was changed."""
        return self._proofs.provenance(version)

    def bundle_folder(self, version: Version) -> Path:
        """Return a local folder with a version's bundle. Its loader checks the hashes.

        Raises IntegrityError where the bundle is missing.
        """
        return self._proofs.bundle_folder(version)

    def documents(self, version: Version) -> Mapping[str, str]:
        """Return name -> sha256 of what is kept beside a version."""
        return self._known(version.model).documents(version.number)

    def document(self, version: Version, name: str) -> bytes:
        """Return a document kept beside a version, checked against its hash."""
        kept = self.documents(version)
        if name not in kept:
            raise NotFoundError(
                f"{version.reference} has no document {name}.", fix=nearest(name, kept)
            )
        return self._proofs.document(kept[name])

    def tail(self, model: str) -> int:
        """Return how many events a model has: what a server polls to see that something changed.

        Costs one read of an absent key while nothing changes. 0 for an unknown model.
        """
        return self._current(model).seq

    def _known(self, model: str) -> State:
        state = self._current(model)
        if not state.versions:
            raise NotFoundError(f"there is no model {model}.", fix=nearest(model, self.models()))
        return state

    def _current(self, model: str) -> State:
        """Return a model's state with the events that came since it was last asked for."""
        check_name(model)
        with self._lock:
            state = self._states.get(model)
            if state is None:
                return self._listed(model)
            while True:
                try:
                    data = self.store.read(event_key(model, state.seq + 1))
                except NotFoundError:
                    return state
                state.apply(data)

    def _listed(self, model: str) -> State:
        """Return a model's state as the whole list of its events gives it: gaps are seen."""
        with self._lock:
            state = self._states.get(model) or State(check_name(model))
            found = {sequence_of(key) for key in self.store.list(ledger_key(model))} - {None}
            last = max((seq for seq in found if seq is not None), default=0)
            # A listing that runs beside writers may lack a name that is there: only a read tells.
            gone = [seq for seq in range(1, state.seq + 1) if seq not in found]
            self._read(model, gone)
            for data in self._read(model, range(state.seq + 1, last + 1)):
                state.apply(data)
            self._states[model] = state
            return state

    def _read(self, model: str, places: Sequence[int]) -> list[bytes]:
        """Read events by their places, in parallel: an object store answers in milliseconds."""

        def some(part: Sequence[int]) -> list[bytes]:
            return [self._event_at(model, seq) for seq in part]

        if len(places) < _READERS:
            return some(places)
        size = -(-len(places) // _READERS)
        parts = [places[i : i + size] for i in range(0, len(places), size)]
        with ThreadPoolExecutor(_READERS) as readers:
            return [data for part in readers.map(some, parts) for data in part]

    def _event_at(self, model: str, seq: int) -> bytes:
        key = event_key(model, seq)
        try:
            return self.store.read(key)
        except NotFoundError:
            raise broken(key, "the event is missing, and others follow it or were read") from None

    def _append(self, model: str, plan: _Plan) -> Event | None:
        """Add the event that `plan` makes of the current state; None where it makes none.

        `plan` is asked again whenever somebody else wrote first, and may raise.
        """
        for tried in range(_TRIES):
            state = self._listed(model)
            content = plan(state)
            if content is None:
                return None
            key = event_key(model, state.seq + 1)
            data = seal(
                {
                    **content,
                    "format": FORMAT,
                    "model": model,
                    "seq": state.seq + 1,
                    "previous": state.head,
                    "at": datetime.now(UTC).isoformat(timespec="microseconds"),
                    "id": secrets.token_hex(8),
                }
            )
            # A request that was repeated after a lost answer finds its own event there.
            if self.store.create(key, data) or self.store.read(key) == data:
                return state.apply(data)
            time.sleep(random.uniform(0, 0.002 * min(tried, 20)))
        raise ConflictError(
            f"{_TRIES} times somebody else wrote to the ledger of {model} first.",
            fix="Try again when fewer commands run at once.",
        )

    def _moved(self, model: str, alias: str, plan: _Plan) -> AliasMove:
        with self._lock:
            state = self._known(model)
            event = self._append(model, plan)
            holder = state.holder(alias)
        if event is not None:
            return move_of(event)
        if holder is None:
            raise IntegrityError(f"the ledger of {model} lost {alias} while it was read.")
        note = f"{model}@{alias} is version {holder.to} already, since {holder.at}; nothing moved."
        return replace(holder, moved=False, note=note)

    def _judged_alike(self, known: Version, verdict: Verdict) -> bool:
        try:
            return judgement(self._proofs.verdict(known)) == judgement(verdict)
        except IntegrityError:
            return False  # the recorded one is damaged or lost; this one takes its place


def _content(
    kind: str,
    version: Version,
    alias: str,
    holder: AliasMove | None,
    *,
    reason: str,
    by: str,
    note: str = "",
) -> dict[str, Any]:
    return {
        "kind": "alias",
        "move": kind,
        "alias": alias,
        "from": holder.to if holder else None,
        "to": version.number,
        "verdict": version.verdict,
        "reason": reason,
        "by": by,
        "note": note,
    }


def _passed_over(unfit: Sequence[str]) -> str:
    return f"Passed over: {' '.join(dict.fromkeys(unfit))}"[:_LONGEST] if unfit else ""


def _check_alias(alias: str) -> None:
    check_name(alias, what="alias")
    if alias.isdecimal():
        raise UsageError(
            f"an alias may not be a number, which names a version; got {alias!r}.",
            fix="Use, for example: champion, challenger, shadow.",
        )


def _text(text: str, what: str, *, needed: bool = False) -> str:
    """Return text that the ledger can hold: bounded, and made of characters that exist."""
    text = text.strip()
    if len(text) > _LONGEST or any("\ud800" <= c <= "\udfff" for c in text):
        raise UsageError(
            f"{what} must be text of at most {_LONGEST} characters; got {text[:100]!r}.",
            fix="Shorten it, and write it in UTF-8.",
        )
    if needed and not text:
        raise UsageError(f"{what} must say something; got nothing.", fix="Fill it in.")
    return text
