"""From a built bundle to a verdict: what the gates are given, and the server that they ask."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from steelyard.bundle.outputs import Guarded
from steelyard.bundle.predictor import Canonical, Predictor
from steelyard.core.definition import Model
from steelyard.core.hashing import hash_json
from steelyard.core.records import Verdict, Version
from steelyard.core.reference import CHAMPION, Reference
from steelyard.errors import NotFoundError, SteelyardError
from steelyard.features.columns import dtype_of
from steelyard.features.parts import Columns, Part, Scores
from steelyard.flow.building import Built, Table
from steelyard.flow.serving import started
from steelyard.registry.ledger import Ledger
from steelyard.validate.candidate import Address, Candidate, ChampionEvidence, Rows
from steelyard.validate.judge import judge
from steelyard.validate.metrics import standard_metrics
from steelyard.validate.rows import row_hashes

__all__ = ["TRAIN_ROWS", "judge_bundle", "measured", "train_rows"]

TRAIN_ROWS: Final = "train_rows.u64"
"""The document that holds which rows a version learned from, as sorted hashes."""


def train_rows(train: Part) -> bytes:
    """Return the hashes of the training rows, so that a later candidate is judged on others."""
    return np.sort(row_hashes(train.columns, train.label, train.key)).astype("<u8").tobytes()


def judge_bundle(
    definition: Model,
    table: Table,
    built: Built,
    provenance: Mapping[str, Any],
    ledger: Ledger,
    on_stage: Callable[[str], None],
) -> tuple[Verdict, Candidate]:
    """Ask every gate about a built bundle; return the verdict bound to it, and what was judged."""
    graph, dataset = table.graph, table.dataset

    def reference(columns: Columns) -> Scores:
        made = graph.run(columns) if graph else {}
        return built.fitted.reference({**columns, **made})

    @contextmanager
    def server() -> Iterator[Address]:
        with started(built.folder) as url:
            yield Address(url, definition.name)

    def takes(rows: Rows) -> list[bool]:
        checked = [built.predictor.decoder.check_one(row) for row in rows]
        answers = built.predictor.answer_many(checked)
        return [isinstance(answer, Guarded) and not answer.reason for answer in answers]

    candidate = Candidate(
        definition=definition,
        task=dataset.task,
        counts={
            **dataset.accounting.document(),
            "bad_file": str(dataset.bad_rows) if dataset.bad_rows else None,
        },
        train=table.train,
        test=table.test,
        scores=built.scores,
        model_features=built.predictor.features,
        bundle=built.bundle,
        provenance=hash_json(provenance),
        canonical=Canonical(built.folder).predict_columns,
        packed=built.predictor.predict_columns,
        reference=reference,
        server=server,
        champion=_champion(definition, built, ledger),
        train_scores=built.train_scores,
        uses=graph.uses if graph else {},
        takes=takes,
    )
    checks = judge(candidate, progress=lambda gate: on_stage(f"Judge: {gate}"))
    return Verdict(candidate.bundle, candidate.provenance, checks), candidate


def measured(candidate: Candidate) -> dict[str, float]:
    """Return the standard metrics of the bundle's answers on the held-out rows."""
    return standard_metrics(candidate.test.label, candidate.scores, weight=candidate.test.weight)


def _champion(definition: Model, built: Built, ledger: Ledger) -> ChampionEvidence | None:
    """Return what the champion can say about the candidate's held-out rows."""
    try:
        version = ledger.resolve(Reference(definition.name, alias=CHAMPION))
    except NotFoundError:
        return None
    try:
        predictor = Predictor.load(ledger.bundle_folder(version), expected=version.bundle)
        seen = np.frombuffer(ledger.document(version, TRAIN_ROWS), dtype="<u8")
    except SteelyardError as error:
        return ChampionEvidence(version.reference, reason=error.message)
    return _evidence(version, predictor, built.predictor, seen)


def _evidence(
    version: Version, champion: Predictor, candidate: Predictor, seen: Any
) -> ChampionEvidence:
    there = {field.name: dtype_of(field) for field in candidate.fields}
    for field in champion.fields:
        if there.get(field.name) != dtype_of(field):
            reason = f"it reads the column {field.name}, which the new row does not have so"
            return ChampionEvidence(version.reference, reason=reason)
    mine = (champion.label, champion.task, champion.classes)
    theirs = (candidate.label, candidate.task, candidate.classes)
    if mine != theirs:
        reason = f"it answers {mine}, the new version {theirs}"
        return ChampionEvidence(version.reference, incompatible=reason, seen_hashes=seen)
    return ChampionEvidence(version.reference, predict=champion.predict_columns, seen_hashes=seen)
