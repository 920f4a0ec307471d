"""The story of a training run: data, train, compile, judge, register, promote."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.core.config import Config
from steelyard.core.definition import Model
from steelyard.core.files import scratch_folder
from steelyard.core.person import current_user
from steelyard.core.ports import RunRecord
from steelyard.core.records import Verdict, Version
from steelyard.core.reference import CHAMPION, Reference
from steelyard.errors import SignatureError
from steelyard.flow.auditing import audited, record_waivers
from steelyard.flow.building import build, read_table
from steelyard.flow.judging import TRAIN_ROWS, judge_bundle, measured, train_rows
from steelyard.flow.records import documents_of, provenance_of
from steelyard.flow.signing import sign_version
from steelyard.flow.stores import open_ledger
from steelyard.flow.tracking import mirror_alias, mirror_version, record_run, warm_up
from steelyard.registry.ledger import Ledger
from steelyard.validate.candidate import Candidate
from steelyard.validate.plots import plots
from steelyard.validate.settings import check_settings

__all__ = ["TrainingRun", "train_model"]


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """How a run ended; `note` says why a version that passed was not promoted."""

    version: Version
    verdict: Verdict
    snapshot: str
    promoted: bool
    seconds: float
    run: str | None
    note: str = ""

    def document(self) -> dict[str, Any]:
        """Return the run as `steelyard run --json` prints it."""
        return {
            "model": self.version.model,
            "version": self.version.number,
            "bundle": self.version.bundle,
            "snapshot": self.snapshot,
            "verdict": self.verdict.document(),
            "promoted": self.promoted,
            "run": self.run,
            "note": self.note,
            "seconds": round(self.seconds, 1),
        }


def train_model(
    definition: Model,
    config: Config,
    *,
    promote: bool = True,
    on_stage: Callable[[str], None] = lambda name: None,
) -> TrainingRun:
    """Take a definition from data to a judged, registered and, where it passed, promoted version.

    A refused version is kept without an alias. Raises UsageError where the definition or its data
    cannot be used at all.
    """
    started = time.perf_counter()
    warm_up(config)
    ledger = open_ledger(config)
    with scratch_folder(config.state / "candidates") as scratch:
        on_stage("Read and check the data, compute row features")
        table = read_table(definition, config)
        # A gate that cannot be asked is told before minutes of training.
        check_settings(definition, table.dataset.task, list(table.train.features))

        on_stage("Train, compile and seal the bundle")
        built = build(definition, table, scratch)

        on_stage("Gather the evidence")
        provenance = provenance_of(definition, table)
        verdict, candidate = judge_bundle(definition, table, built, provenance, ledger, on_stage)

        on_stage("Register")
        documents = documents_of(definition, provenance, verdict, measured(candidate))
        version = ledger.register(
            definition.name,
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance=provenance,
            verdict=verdict,
            documents={**documents, TRAIN_ROWS: train_rows(table.train)},
            by=current_user(),
        )
        record_waivers(config, version, verdict)
        sign_version(version, config)

    on_stage("Record the run in MLflow")
    folder = ledger.bundle_folder(version)
    run = record_run(_run_record(candidate, verdict, provenance, documents, folder), config)
    mirror_version(run, version, config)

    promoted, note = False, ""
    if verdict.passed and promote:
        on_stage("Promote")
        note = _promote(ledger, version, config)
        promoted = not note
    seconds = time.perf_counter() - started
    return TrainingRun(version, verdict, table.dataset.snapshot.id, promoted, seconds, run, note)


def _promote(ledger: Ledger, version: Version, config: Config) -> str:
    """Make a version champion; return what to do where it has to be signed first, else nothing."""
    wanted = Reference(version.model, version=version.number)
    try:
        audited(
            config,
            f"promote {wanted} to {CHAMPION}",
            lambda: ledger.promote(wanted, reason="all gates passed", by=current_user()),
        )
    except SignatureError as error:
        return str(error)
    mirror_alias(version, CHAMPION, config)
    return ""


def _run_record(
    candidate: Candidate,
    verdict: Verdict,
    provenance: Mapping[str, Any],
    documents: Mapping[str, bytes],
    folder: Path,
) -> RunRecord:
    """Return what experiment tracking is told of a run."""
    definition = candidate.definition
    estimator = definition.estimator
    return RunRecord(
        model=definition.name,
        params={
            "estimator": type(estimator).__name__,
            **estimator.get_params(deep=False),
            **definition.params,
        },
        metrics=measured(candidate),
        tags={
            "snapshot": provenance["snapshot"],
            "code": provenance["definition"]["sha256"],
            "lock": provenance["lock"],
        },
        verdict=verdict,
        bundle=folder,
        plots=plots(candidate),
        documents=documents,
    )
