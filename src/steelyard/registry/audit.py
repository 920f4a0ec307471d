"""An examination of a whole store: every event, every file that a version rests on, every rest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from steelyard.bundle.format import check_files
from steelyard.core.ports import Store
from steelyard.core.records import Version
from steelyard.core.reference import Reference
from steelyard.errors import SteelyardError
from steelyard.registry.events import ledger_key, sequence_of
from steelyard.registry.ledger import Ledger
from steelyard.registry.proof import (
    Proofs,
    bundle_key,
    document_key,
    provenance_key,
    verdict_key,
)
from steelyard.registry.store import FolderStore

__all__ = ["Finding", "audit"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person should know of the key `where`: an `error` is damage, a `note` is not."""

    state: Literal["error", "note"]
    where: str
    message: str


def audit(ledger: Ledger) -> list[Finding]:
    """Read a whole store afresh and return what is wrong with it; empty where nothing is.

    Rests of killed writers in a folder store are removed, and reported. An object store's bundles
    are judged by the local copies that its cache holds: give it an empty one to examine the store.
    """
    found = _Audit(ledger.store)
    found.rests()
    for key in ledger.store.list("ledger"):
        found.model(key.rpartition("/")[2])
    found.unnamed()
    return found.findings


class _Audit:
    def __init__(self, store: Store) -> None:
        self.findings: list[Finding] = []
        self._store = store
        self._ledger = Ledger(store)
        self._proofs = Proofs(store)
        self._seen: set[str] = set()
        self._readable = True

    def rests(self) -> None:
        if isinstance(self._store, FolderStore):
            for place in self._store.sweep():
                self._note(place, "removed what a killed writer left aside.")

    def model(self, model: str) -> None:
        prefix = ledger_key(model)
        for key in self._store.list(prefix):
            if sequence_of(key) is None:
                self._note(key, "is no ledger event; nothing reads it.")
        try:
            events = self._ledger.history(model) if self._ledger.tail(model) else []
        except SteelyardError as error:
            self._readable = False
            self._error(prefix, error)
            return
        if not events:
            return
        for version in self._ledger.versions(model):
            self._version(version, events)
        for alias, number in self._ledger.aliases(model).items():
            newest = self._ledger.resolve(Reference(model, version=number))
            if not newest.passed:
                text = f"is version {number}, which passed when it was moved and failed since."
                self._note(f"{model}@{alias}", text)

    def _version(self, version: Version, events: Iterable[Any]) -> None:
        self._once(bundle_key(version.bundle), partial(self._bundle, version))
        self._seen.add(f"signatures/{version.bundle}")
        record = provenance_key(version.provenance)
        self._once(record, partial(self._proofs.provenance, version))
        for event in events:
            if event["kind"] == "alias" or event["number"] != version.number:
                continue
            judged = replace(version, verdict=event["verdict"])
            self._once(verdict_key(judged.verdict), partial(self._proofs.verdict, judged))
            for digest in event["documents"].values():
                self._once(document_key(digest), partial(self._proofs.document, digest))

    def _bundle(self, version: Version) -> None:
        for check in check_files(self._proofs.bundle_folder(version), version.bundle):
            if not check.ok:
                where = f"{bundle_key(version.bundle)}/{check.path}"
                self._found("error", where, f"{check.reason} ({version.reference})")

    def unnamed(self) -> None:
        # What a damaged ledger names is not known, so that nothing could be called a rest.
        kinds = (
            ("bundles", "provenance", "verdicts", "documents", "signatures")
            if self._readable
            else ()
        )
        for kind in kinds:
            for key in self._store.list(kind):
                if key not in self._seen:
                    self._note(key, "belongs to no version: a run ended before it was registered.")

    def _once(self, key: str, check: Callable[[], object]) -> None:
        if key in self._seen:
            return
        self._seen.add(key)
        try:
            check()
        except SteelyardError as error:
            self._error(key, error)

    def _error(self, where: str, error: SteelyardError) -> None:
        self._found("error", where, error.message)

    def _note(self, where: str, text: str) -> None:
        self._found("note", where, text)

    def _found(self, state: Literal["error", "note"], where: str, text: str) -> None:
        message = text if where in text else f"{where}: {text}"
        self.findings.append(Finding(state, where, message))
