"""What a server serves: a reference that is followed as its alias moves, or a folder as it is."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steelyard.bundle.format import MANIFEST, read_verified
from steelyard.bundle.signature import Trust
from steelyard.core.config import Config
from steelyard.core.records import Verdict, Version
from steelyard.core.reference import Reference
from steelyard.errors import RefusedError, SignatureError, UsageError
from steelyard.flow.auditing import note
from steelyard.flow.champions import stands_in
from steelyard.flow.stores import open_ledger, trust_of
from steelyard.registry.events import event_key
from steelyard.registry.ledger import Ledger
from steelyard.registry.proof import is_passing
from steelyard.registry.store import FolderStore
from steelyard.serve.answer.version import Follow, Served

__all__ = ["Subject", "subject"]

_VERDICT: Final = "verdict.json"
_SIGNATURE: Final = "model.sig"
_SURE_SECONDS: Final = 2.0
"""How long a store may be gone before it is noticed; a bucket's reads cost money."""
_FIX: Final = (
    "Give a folder with one bundle, or set STEELYARD_STORE to a store and STEELYARD_REF to a model."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model's name, and what says which version of it is to be served now."""

    model: str
    follow: Follow


def subject(ref: str, config: Config) -> Subject:
    """Return what `ref` names: a reference in the store, or a folder, which has a slash in it.

    A folder is a store, whose only model's champion is followed, or one bundle, which is version 0.
    A bundle's verdict is with the ledger; one that lies beside it is held to, and so is `model.sig`
    where signatures are asked for. Raises UsageError, NotFoundError, and RefusedError where the
    version is not proven.
    """
    if "/" not in ref:
        reference = Reference.parse(ref)
        return Subject(reference.model, _followed(reference, open_ledger(config), config))
    folder = Path(ref.removeprefix("file://"))
    if not folder.is_dir():
        raise UsageError(f"{ref} is no folder of this machine.", fix=_FIX)
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    for place in (folder, *(inner if len(inner) == 1 else ())):
        if (place / MANIFEST).is_file():
            return _bundle(place, config)
    ledger = Ledger(FolderStore(folder), trust_of(config))
    models = ledger.models()
    if len(models) == 1:
        return Subject(models[0], _followed(Reference.parse(models[0]), ledger, config))
    raise UsageError(
        f"{ref} holds {'several models: ' + ', '.join(models) if models else 'no model'}.",
        fix=_FIX,
    )


def _followed(reference: Reference, ledger: Ledger, config: Config) -> Follow:
    seen: tuple[int, Served] | None = None
    sure_at = 0.0
    told = ""

    def prove(version: Version) -> None:
        nonlocal told
        try:
            ledger.prove(version)
        except SignatureError as error:
            # Asked again and again, since it may be signed yet; written down once.
            if error.message != told:
                told = error.message
                note(config, "signature_refused", version=version.reference, reason=told)
            raise

    def follow() -> Served:
        nonlocal seen, sure_at
        tail = ledger.tail(reference.model)
        if seen is None or seen[0] != tail:
            version = ledger.resolve(reference)
            prove(version)
            folder = ledger.bundle_folder(version)
            previous = stands_in(ledger, version, folder)
            seen = (tail, Served(version.number, version.bundle, folder, previous))
        elif time.monotonic() - sure_at >= _SURE_SECONDS:
            # A store that was taken away has no further event either.
            ledger.store.read(event_key(reference.model, tail))
            sure_at = time.monotonic()
        return seen[1]

    return follow


def _bundle(folder: Path, config: Config) -> Subject:
    files, bundle = read_verified(folder)
    served = Served(0, bundle, folder)
    if (folder / _VERDICT).is_file():
        _check_verdict(folder / _VERDICT, bundle)
    trust = trust_of(config)
    if trust is not None:
        _check_signature(folder / _SIGNATURE, bundle, trust, config)
    return Subject(json.loads(files["model.json"])["model"], lambda: served)


def _check_signature(path: Path, bundle: str, trust: Trust, config: Config) -> None:
    signatures = [path.read_bytes()] if path.is_file() else []
    try:
        trust.check(bundle, signatures, str(path.parent))
    except SignatureError as error:
        note(config, "signature_refused", bundle=bundle, reason=error.message)
        raise SignatureError(
            error.message, fix=f"Put the signature there: {path}, as `steelyard sign` keeps it."
        ) from None


def _check_verdict(path: Path, bundle: str) -> None:
    try:
        verdict = Verdict.of(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError):
        raise RefusedError(f"{path} is no verdict.", fix="Remove it, or copy it anew.") from None
    if verdict.bundle != bundle or not is_passing(verdict):
        raise RefusedError(
            f"{path} is no verdict that this bundle, {bundle}, passed.",
            fix="Serve a version that passed its gates.",
        )
