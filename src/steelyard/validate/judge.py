"""All gates over one candidate, in their order, with waivers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from steelyard.core.gates import GATE_NAMES
from steelyard.core.person import current_user
from steelyard.core.records import Check
from steelyard.validate.baseline import check_baseline
from steelyard.validate.candidate import Address, Candidate
from steelyard.validate.champion import check_champion
from steelyard.validate.evidence import found, plain_check
from steelyard.validate.latency import check_latency
from steelyard.validate.leakage import check_leakage
from steelyard.validate.parity import check_parity
from steelyard.validate.quality import check_quality
from steelyard.validate.schema import check_schema
from steelyard.validate.settings import Settings, check_settings
from steelyard.validate.slices import check_slices
from steelyard.validate.split import check_split

__all__ = ["judge"]

_GATES: Final[Mapping[str, Callable[[Candidate], Iterator[Check]]]] = {
    "schema": check_schema,
    "split": check_split,
    "leakage": check_leakage,
    "baseline": check_baseline,
    "quality": check_quality,
    "slices": check_slices,
    "champion": check_champion,
    "parity": check_parity,
    "latency": check_latency,
}


def judge(candidate: Candidate, progress: Callable[[str], None] | None = None) -> tuple[Check, ...]:
    """Run every gate and return its checks, with plain values as evidence.

    `progress` is called with a gate's name as it starts. A waived gate runs too: its checks show
    what was found and `waived` says why, by whom and when. A gate that breaks down is a failed
    check with the reason. One server is started and shared by the gates that ask it. Raises
    DefinitionError where a setting names a metric or a column that does not exist.
    """
    check_settings(candidate.definition, candidate.task, candidate.model_features)
    settings = Settings.of(candidate.definition)
    checks: list[Check] = []
    with ExitStack() as stack:
        shared = _sharing_server(candidate, stack)
        for gate in GATE_NAMES:
            if progress is not None:
                progress(gate)
            judged = [plain_check(check) for check in _run(gate, shared)]
            waiver = settings.waiver(gate)
            if waiver is not None:
                at = datetime.now(UTC).isoformat(timespec="seconds")
                waived = {"reason": waiver.reason, "by": current_user(), "at": at}
                judged = [replace(check, waived=waived) for check in judged]
            checks += judged
    return tuple(checks)


def _run(gate: str, candidate: Candidate) -> list[Check]:
    checks: list[Check] = []
    try:
        for check in _GATES[gate](candidate):
            checks.append(check)
    except Exception as error:  # noqa: BLE001  # process edge: a broken gate refuses, with its reason
        told = f"The gate {gate} broke down: {type(error).__name__}: {str(error)[:300]}"
        checks.append(found(gate, "runs", False, told, error=type(error).__name__))
    return checks


def _sharing_server(candidate: Candidate, stack: ExitStack) -> Candidate:
    """Return the candidate with a server that starts when first asked for and ends with `stack`."""
    start = candidate.server
    if start is None:
        return candidate
    started: list[Address] = []

    def server() -> AbstractContextManager[Address]:
        if not started:
            started.append(stack.enter_context(start()))
        return nullcontext(started[0])

    return replace(candidate, server=server)
