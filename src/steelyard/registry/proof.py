"""What a version rests on: bundle, provenance, verdict, documents, each kept under its hash."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steelyard.bundle.format import read_verified
from steelyard.bundle.signature import Trust
from steelyard.core.hashing import canonical_json, hash_bytes
from steelyard.core.ports import Store
from steelyard.core.records import Check, Verdict, Version
from steelyard.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from steelyard.registry.signatures import Signatures

__all__ = [
    "Proofs",
    "bundle_key",
    "document_key",
    "is_passing",
    "judgement",
    "provenance_key",
    "verdict_key",
    "waivers",
]

_SHOWN = 8


def is_passing(verdict: Verdict) -> bool:
    """Whether a verdict proves something: it has checks, and each passed or was waived."""
    return bool(verdict.checks) and verdict.passed


def judgement(verdict: Verdict) -> tuple[bool, frozenset[tuple[str, str, bool]]]:
    """Return what a verdict says: whether it passes, and which checks failed or were waived.

    What was measured is left out, for it differs in every run.
    """
    told = {(c.gate, c.name, c.passed) for c in verdict.checks if c.waived or not c.passed}
    return is_passing(verdict), frozenset(told)


def waivers(verdict: Verdict) -> list[dict[str, str]]:
    """Return the waived checks with reason, name and time; UsageError where one lacks them."""
    found = []
    for check in verdict.checks:
        if check.waived is None:
            continue
        if not all(str(check.waived.get(word, "")).strip() for word in ("reason", "by", "at")):
            raise UsageError(
                f"the waiver of {check.gate} · {check.name} must say why, by whom and when; got "
                f"{dict(check.waived)!r}.",
                fix='Write steelyard.waive("gate", reason="...") in the definition.',
            )
        found.append({"gate": check.gate, "name": check.name, **check.waived})
    return found


class Proofs:
    """Keeps what versions rest on in a store, and says whether it is still what was kept."""

    def __init__(self, store: Store, trust: Trust | None = None) -> None:
        self._store = store
        self._signatures = Signatures(store, trust)

    def keep(
        self, bundle: Path, digest: str, provenance: Mapping[str, Any], verdict: Verdict
    ) -> str:
        """Keep a sealed bundle and its provenance; return the provenance's hash.

        Raises RefusedError for a verdict over anything else.
        """
        record = _plain(dict(provenance), "the provenance")
        made = hash_bytes(record)
        if (verdict.bundle, verdict.provenance) != (digest, made):
            raise RefusedError(
                f"the verdict judged bundle {verdict.bundle} with provenance "
                f"{verdict.provenance}; the ones to register are {digest} and {made}.",
                fix="Judge this bundle: run the definition again.",
            )
        self._store.put_folder(bundle_key(digest), bundle)
        try:
            read_verified(self._store.folder(bundle_key(digest)), digest)
        except IntegrityError as error:
            raise IntegrityError(
                f"the store holds this bundle already, but damaged: {error.message}",
                fix=f"Remove {bundle_key(digest)} from the store, then run again.",
            ) from error
        self._create(provenance_key(made), record)
        return made

    def keep_verdict(self, verdict: Verdict) -> str:
        """Keep a verdict; return its hash."""
        data = _plain(verdict.document(), "a verdict")
        digest = hash_bytes(data)
        self._create(verdict_key(digest), data)
        return digest

    def keep_document(self, data: bytes) -> str:
        """Keep a document; return its hash."""
        digest = hash_bytes(data)
        self._create(document_key(digest), data)
        return digest

    def verdict(self, version: Version) -> Verdict:
        """Return a version's verdict; IntegrityError where it is not the one recorded for it."""
        key = verdict_key(version.verdict)
        document = _parsed(key, self._checked(key, version.verdict))
        try:
            verdict = Verdict.of(document)
        except (KeyError, TypeError) as error:
            raise IntegrityError(
                f"{key} is no verdict that this Steelyard reads: {error}."
            ) from error
        if (verdict.bundle, verdict.provenance) != (version.bundle, version.provenance):
            raise IntegrityError(
                f"{key} is bound to bundle {verdict.bundle} with provenance {verdict.provenance}, "
                f"not to those of {version.reference}.",
                fix="Run the definition again: it is then judged anew.",
            )
        return verdict

    def passed(self, version: Version) -> Verdict:
        """Return a version's verdict where it passed and, where one is asked for, is signed.

        Raises RefusedError where it cannot be relied on.
        """
        try:
            verdict = self.verdict(version)
        except IntegrityError as error:
            raise _unproven(version, error) from error
        if is_passing(verdict):
            self._signatures.check(version.bundle, version.reference)
            return verdict
        failed = [_told(check) for check in verdict.checks if not (check.passed or check.waived)]
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        why = f"it failed {'; '.join(failed[:_SHOWN])}{more}" if failed else "no gate judged it"
        raise RefusedError(
            f"{version.reference} is not proven: {why}.",
            fix="Mend the model and run again, or waive the gate with a reason: "
            'steelyard.waive("gate", reason="...").',
        )

    def whole(self, version: Version) -> Verdict:
        """As `passed`, and the bundle's files and the provenance are as they were recorded."""
        verdict = self.passed(version)
        try:
            read_verified(self.bundle_folder(version), version.bundle)
            self.provenance(version)
        except IntegrityError as error:
            raise _unproven(version, error) from error
        return verdict

    def provenance(self, version: Version) -> dict[str, Any]:
        """Return what a version was made from; IntegrityError where the record was changed."""
        key = provenance_key(version.provenance)
        return _parsed(key, self._checked(key, version.provenance))

    def bundle_folder(self, version: Version) -> Path:
        """Return a local folder with the bundle, unchecked; IntegrityError where it is missing."""
        try:
            return self._store.folder(bundle_key(version.bundle))
        except NotFoundError as error:
            raise _missing(bundle_key(version.bundle)) from error

    def document(self, digest: str) -> bytes:
        """Return a document by its hash; IntegrityError where it was changed."""
        return self._checked(document_key(digest), digest)

    def _create(self, key: str, data: bytes) -> None:
        if not self._store.create(key, data) and self._store.read(key) != data:
            raise IntegrityError(
                f"{key} is in the store already, but damaged.",
                fix=f"Remove {key} from the store, then run again.",
            )

    def _checked(self, key: str, digest: str) -> bytes:
        try:
            data = self._store.read(key)
        except NotFoundError as error:
            raise _missing(key) from error
        if hash_bytes(data) != digest:
            raise IntegrityError(
                f"{key} was changed: its sha256 is {hash_bytes(data)}.",
                fix="Restore it from a copy of the store.",
            )
        return data


def bundle_key(digest: str) -> str:
    """Return the key of a bundle's folder."""
    return f"bundles/{digest}"


def provenance_key(digest: str) -> str:
    """Return the key of a provenance record."""
    return f"provenance/{digest}.json"


def verdict_key(digest: str) -> str:
    """Return the key of a verdict."""
    return f"verdicts/{digest}.json"


def document_key(digest: str) -> str:
    """Return the key of a document."""
    return f"documents/{digest}"


def _plain(document: Mapping[str, Any], what: str) -> bytes:
    try:
        return canonical_json(document)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} must consist of plain JSON values: {error}.") from error


def _missing(key: str) -> IntegrityError:
    return IntegrityError(
        f"{key} is missing from the store.", fix="Restore it from a copy of the store."
    )


def _parsed(key: str, data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise IntegrityError(f"{key} is no record.")
    return document


def _unproven(version: Version, error: IntegrityError) -> RefusedError:
    return RefusedError(f"{version.reference} is not proven: {error.message}", fix=error.fix)


def _told(check: Check) -> str:
    found = "" if check.value is None else f" (found {check.value}, limit {check.threshold})"
    return f"{check.gate} · {check.name}{found}"
