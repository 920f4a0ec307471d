"""Examine a working folder: store, ledger, prediction log, mirror."""

from typing import Any

from steelyard.core.config import Config
from steelyard.core.files import sweep_aside
from steelyard.core.reference import Reference
from steelyard.errors import SignatureError, SteelyardError
from steelyard.flow.stores import open_ledger, signatures_of
from steelyard.flow.tracking import open_tracker
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger
from steelyard.serve.secure.audit import AuditLog

__all__ = ["examine"]


def _finding(state: str, message: str) -> dict[str, str]:
    return {"state": state, "message": message}


def examine(config: Config) -> dict[str, Any]:
    """Return `ok` and the findings, each `ok`, `note` or `error` with a message."""
    ledger = open_ledger(config)
    findings = [_finding(found.state, found.message) for found in audit(ledger)]
    if all(found["state"] != "error" for found in findings):
        for name in ledger.models():
            findings += _versions(ledger, name)
            findings += _signatures(ledger, name, config)
            findings += _mirror(ledger, name, config)
    findings += _audit_log(config)
    swept = sum(sweep_aside(folder) for folder in (config.snapshots, config.state / "candidates"))
    if swept:
        findings.append(_finding("note", f"removed {swept} rests of interrupted commands"))
    if not findings:
        findings.append(_finding("ok", "nothing to examine yet: no model was run here"))
    return {
        "ok": all(found["state"] != "error" for found in findings),
        "findings": findings,
    }


def _audit_log(config: Config) -> list[dict[str, str]]:
    count, problems = AuditLog(config.audit).problems()
    if problems:
        return [_finding("error", f"the audit log was touched: {problem}") for problem in problems]
    return [_finding("ok", f"audit log: {count} events, as they were written")] if count else []


def _versions(ledger: Ledger, name: str) -> list[dict[str, str]]:
    """Say what was audited, and which versions had a gate waived."""
    versions = ledger.versions(name)
    message = f"{name}: {len(versions)} versions, every record and file as it was sealed"
    findings = [_finding("ok", message)]
    for version in versions:
        waived = sorted({c.gate for c in ledger.verdict(version).checks if c.waived})
        if waived:
            message = f"{version.reference}: waived {', '.join(waived)}"
            findings.append(_finding("note", message))
    return findings


def _signatures(ledger: Ledger, name: str, config: Config) -> list[dict[str, str]]:
    """Say which version with an alias is not signed, where signatures are asked for."""
    signatures = signatures_of(config)
    findings = []
    for alias, number in ledger.aliases(name).items() if signatures.trust else ():
        version = ledger.resolve(Reference(name, version=number))
        try:
            signatures.check(version.bundle, version.reference)
        except SignatureError as error:
            findings.append(_finding("error", f"{name}@{alias}: {error.message}"))
    return findings


def _mirror(ledger: Ledger, name: str, config: Config) -> list[dict[str, str]]:
    ours = dict(ledger.aliases(name))
    try:
        theirs = dict(open_tracker(config).aliases(name))
    except SteelyardError as error:
        return [_finding("note", f"{name}: MLflow cannot be asked: {error.message}")]
    if ours == theirs:
        return [_finding("ok", f"{name}: MLflow's aliases agree with the ledger")]
    findings = []
    for alias in sorted({*ours, *theirs}):
        if ours.get(alias) != theirs.get(alias):
            message = (
                f"{name}@{alias} is {ours.get(alias, 'unset')} in the ledger and "
                f"{theirs.get(alias, 'unset')} in MLflow; the ledger counts. To mirror it again: "
                f"steelyard promote {name}@{ours.get(alias, 'N')} --to {alias}"
            )
            findings.append(_finding("note", message))
    return findings
