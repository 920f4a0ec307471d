"""What is known of versions, and moving aliases between them."""

import json
from collections.abc import Mapping
from typing import Any

from steelyard.bundle.format import check_files
from steelyard.bundle.predictor import Predictor
from steelyard.bundle.signature import signer_of
from steelyard.core.config import Config
from steelyard.core.person import current_user
from steelyard.core.records import Version
from steelyard.core.reference import Reference, check_name
from steelyard.errors import SignatureError, SteelyardError
from steelyard.flow.auditing import audited
from steelyard.flow.stores import open_ledger, resolved, signatures_of
from steelyard.flow.tracking import mirror_alias
from steelyard.registry.ledger import AliasMove, Ledger

__all__ = [
    "diff_versions",
    "list_models",
    "promote_version",
    "rollback_model",
    "show_version",
    "verify_version",
]


def list_models(config: Config) -> list[dict[str, Any]]:
    """Return a line a model: versions, aliases, when the last version came."""
    ledger = open_ledger(config)
    found = []
    for name in ledger.models():
        versions = ledger.versions(name)
        found.append(
            {
                "model": name,
                "versions": len(versions),
                "latest": versions[-1].number,
                "at": versions[-1].at,
                "aliases": dict(ledger.aliases(name)),
            }
        )
    return found


def show_version(ref: str, config: Config) -> dict[str, Any]:
    """Return all that is recorded of a version."""
    ledger, version, folder = resolved(ref, config)
    return {
        "model": version.model,
        "version": version.number,
        "bundle": version.bundle,
        "at": version.at,
        "by": version.by,
        "aliases": sorted(
            a for a, number in ledger.aliases(version.model).items() if number == version.number
        ),
        "row": json.loads((folder / "schema.json").read_bytes()),
        "verdict": ledger.verdict(version).document(),
        "provenance": ledger.provenance(version),
        "ledger": [{**event, "what": _told(event)} for event in ledger.history(version.model)],
        "folder": str(folder),
    }


def _told(event: Mapping[str, Any]) -> str:
    """Return a ledger event as a sentence."""
    if event["kind"] == "alias":
        before = "" if event["from"] is None else f" from {event['from']}"
        reason = f": {event['reason']}" if event["reason"] else ""
        return f"{event['alias']} moved{before} to {event['to']}{reason}"
    verdict = "passed" if event["passed"] else "refused"
    return f"version {event['number']} registered, {verdict}"


def verify_version(ref: str, config: Config) -> dict[str, Any]:
    """Check a version's files, golden rows and verdict; say which is not as it was sealed."""
    ledger, version, folder = resolved(ref, config)
    files = check_files(folder, version.bundle)
    golden = _result(lambda: Predictor.load(folder, expected=version.bundle))
    verdict = _result(lambda: ledger.verdict(version))
    signature = _signature(version, config)
    return {
        "ok": all(f.ok for f in files) and golden["ok"] and verdict["ok"] and signature["ok"],
        "model": version.model,
        "version": version.number,
        "files": [{"path": f.path, "ok": f.ok, "reason": f.reason} for f in files],
        "golden": golden,
        "verdict": verdict,
        "signature": signature,
    }


def _signature(version: Version, config: Config) -> dict[str, Any]:
    """Say who signed a version, and whether that counts where a key is configured."""
    signatures = signatures_of(config)
    if signatures.trust is not None:
        try:
            key = signatures.check(version.bundle, version.reference)
        except SignatureError as error:
            return {"ok": False, "result": error.message, "keys": []}
        return {"ok": True, "result": f"signed by the trusted key {key[:16]}", "keys": [key]}
    keys = sorted(filter(None, map(signer_of, signatures.of(version.bundle))))
    by = f"signed by {', '.join(key[:16] for key in keys)}, not checked" if keys else "not signed"
    return {"ok": True, "result": f"{by}: no key is configured", "keys": keys}


def _result(check: Any) -> dict[str, Any]:
    try:
        check()
    except SteelyardError as error:
        return {"ok": False, "result": error.message}
    return {"ok": True, "result": "ok"}


def promote_version(ref: str, alias: str, reason: str, config: Config) -> dict[str, Any]:
    """Move an alias to a version, in the ledger and then in its mirror."""
    check_name(alias, what="alias")
    ledger = open_ledger(config)
    wanted = Reference.parse(ref)
    move = audited(
        config,
        f"promote {wanted} to {alias}",
        lambda: ledger.promote(wanted, alias=alias, reason=reason, by=current_user()),
    )
    return _moved(ledger, move, config)


def rollback_model(name: str, alias: str, reason: str, config: Config) -> dict[str, Any]:
    """Move an alias back to the version that held it before."""
    ledger = open_ledger(config)
    check_name(name)
    move = audited(
        config,
        f"roll back {name}@{alias}",
        lambda: ledger.rollback(name, alias=alias, reason=reason, by=current_user()),
    )
    return _moved(ledger, move, config)


def _moved(ledger: Ledger, move: AliasMove, config: Config) -> dict[str, Any]:
    version = ledger.resolve(Reference(move.model, version=move.to))
    # Also where nothing moved: the mirror may have missed the move that brought it there.
    mirror_alias(version, move.alias, config)
    return {
        "model": move.model,
        "alias": move.alias,
        "from": move.before,
        "to": move.to,
        "moved": move.moved,
        "bundle": version.bundle,
    }


def diff_versions(first: str, second: str, config: Config) -> dict[str, Any]:
    """Return what differs between two versions: records, files and measured values."""
    sides = [_facts(*resolved(ref, config)[:2]) for ref in (first, second)]
    return {"equal": sides[0] == sides[1], "differences": differences(sides[0], sides[1])}


def _facts(ledger: Ledger, version: Version) -> dict[str, Any]:
    folder = ledger.bundle_folder(version)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    checks = {
        f"{check.gate} · {check.name}": check.value for check in ledger.verdict(version).checks
    }
    return {
        "bundle": version.bundle,
        "files": manifest["files"],
        "provenance": ledger.provenance(version),
        "found": checks,
    }


def differences(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Return the leaves in which two documents differ, as `{what, from, to}`.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    [{'what': 'a.b', 'from': 1, 'to': 2}]
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else str(key)
            found += differences(before.get(key), after.get(key), inner)
        return found
    return [] if before == after else [{"what": path, "from": before, "to": after}]
