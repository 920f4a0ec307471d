"""What is to be known later of what a person did, in the audit log of the working folder."""

import logging
from collections.abc import Callable
from typing import Any

from steelyard.core.config import Config
from steelyard.core.person import current_user
from steelyard.core.records import Verdict, Version
from steelyard.errors import RefusedError, StoreError
from steelyard.registry.state import AliasMove
from steelyard.serve.secure.audit import AuditLog

__all__ = ["audited", "note", "record", "record_waivers"]

_log = logging.getLogger(__name__)


def record(config: Config, event: str, **details: Any) -> None:
    """Write an event of the current user. Raises StoreError where it cannot be written."""
    AuditLog(config.audit).record(event, by=current_user(), **details)


def note(config: Config, event: str, **details: Any) -> None:
    """As `record`, where the event counts for more than its record: a failure is told and no more."""
    try:
        record(config, event, **details)
    except StoreError as error:
        _log.error("Not in the audit log: %s %s. %s", event, details, error)


def audited(config: Config, wanted: str, move: Callable[[], AliasMove]) -> AliasMove:
    """Move an alias and record it; a refusal is recorded with what was wanted, and raised."""
    try:
        made = move()
    except RefusedError as error:
        record(config, "move_refused", wanted=wanted, reason=error.message)
        raise
    if made.moved:
        details = {"from": made.before, "to": made.to, "verdict": made.verdict}
        record(
            config, "alias_moved", model=made.model, alias=made.alias, reason=made.reason, **details
        )
    return made


def record_waivers(config: Config, version: Version, verdict: Verdict) -> None:
    """Record every gate that was waived for a version, with whose reason."""
    for check in verdict.checks:
        if check.waived:
            record(
                config,
                "gate_waived",
                version=version.reference,
                gate=check.gate,
                check=check.name,
                **{f"waiver_{name}": text for name, text in check.waived.items()},
            )
