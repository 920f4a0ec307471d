"""Rows that the schema allows and nobody expects, answered in memory and by both graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import FieldSpec
from steelyard.core.records import Check
from steelyard.core.validation import RowDecoder
from steelyard.features.columns import columns_of
from steelyard.features.parts import Columns, Scores
from steelyard.validate.agreement import BOUND, agree
from steelyard.validate.candidate import Candidate, Predict
from steelyard.validate.evidence import found, public_rows
from steelyard.validate.nasty import nasty_rows
from steelyard.validate.rows import take_scores

__all__ = ["NastyAnswers", "check_nasty"]

_EXAMPLES: Final = 200


@dataclass(frozen=True, eq=False)
class NastyAnswers:
    """Nasty rows, what the packed graph answers, and why it refused those that it could not."""

    rows: list[dict[str, Any]]
    columns: Columns
    packed: Scores | None
    refused: list[tuple[dict[str, Any], str]]

    @classmethod
    def of(cls, candidate: Candidate) -> "NastyAnswers":
        """Make the rows up and ask the packed graph."""
        fields, definition = candidate.definition.fields, candidate.definition
        examples = {n: c[:_EXAMPLES] for n, c in candidate.test.columns.items()}
        rows = nasty_rows(fields, examples, seed=definition.seed)
        refused = _refusals(candidate.packed, fields, rows)
        kept = [row for i, row in enumerate(rows) if i not in refused]
        columns = _columns(fields, kept)
        packed = candidate.packed(columns) if kept else None
        return cls(kept, columns, packed, [(rows[i], why) for i, why in refused.items()])


def _columns(fields: Sequence[FieldSpec], rows: Sequence[dict[str, Any]]) -> Columns:
    """Return the columns of rows of JSON values, checked as a server checks them."""
    decoder = RowDecoder(fields, allow_unknown=False)
    return columns_of(fields, [decoder.check_one(row) for row in rows])


def _refusals(
    predict: Predict, fields: Sequence[FieldSpec], rows: Sequence[dict[str, Any]]
) -> dict[int, str]:
    """Return which rows a predictor raises for; they are asked alone only where together fails."""

    def raised(asked: Sequence[dict[str, Any]]) -> str | None:
        try:
            predict(_columns(fields, asked))
        except Exception as error:  # noqa: BLE001  # any runtime's own error is the finding
            return f"{type(error).__name__}: {str(error)[:200]}"
        return None

    if raised(rows) is None:
        return {}
    alone = {i: raised([row]) for i, row in enumerate(rows)}
    return {i: why for i, why in alone.items() if why is not None}


def check_nasty(candidate: Candidate, nasty: NastyAnswers) -> Check:
    """Judge that nasty rows are answered, with numbers, and alike everywhere."""
    if nasty.packed is None or nasty.refused:
        return _refused(candidate, nasty)
    fields, threshold = candidate.definition.fields, candidate.definition.threshold
    total = len(nasty.rows)
    unfit = _refusals(candidate.reference, fields, nasty.rows)
    kept = np.array([i for i in range(total) if i not in unfit], dtype=np.int64)
    canonical = agree(nasty.packed, candidate.canonical(nasty.columns), threshold)
    columns = {name: column[kept] for name, column in nasty.columns.items()}
    in_memory = candidate.reference(columns) if len(kept) else take_scores(nasty.packed, kept)
    reference = agree(take_scores(nasty.packed, kept), in_memory, threshold)
    broken = _no_numbers(nasty.packed)
    bad = canonical.over | canonical.flipped | broken
    bad[kept] |= reference.over | reference.flipped
    told = f"{total} rows that the schema allows and nobody expects are answered alike."
    if bad.any():
        told = (
            f"{int(bad.sum())} of {total} rows that the schema allows are answered differently by "
            "the pipeline in memory and the graphs, or with no number. Limit the field that stands "
            "out in the examples, or report this estimator."
        )
    elif unfit:
        told += f" The pipeline in memory refuses {len(unfit)} of them, which the graphs answer."
    return found(
        "parity",
        "nasty rows",
        not bad.any(),
        told,
        value=max(reference.largest, canonical.largest),
        threshold=BOUND,
        flagged=bool(unfit),
        rows=total,
        reference=reference.document(),
        canonical=canonical.document(),
        no_number=int(broken.sum()),
        refused_in_memory=len(unfit),
        why_refused=next(iter(unfit.values()), None),
        examples=public_rows(fields, [nasty.rows[i] for i in np.flatnonzero(bad)]),
    )


def _refused(candidate: Candidate, nasty: NastyAnswers) -> Check:
    total = len(nasty.rows) + len(nasty.refused)
    why = nasty.refused[0][1] if nasty.refused else "there are no rows"
    told = (
        f"The bundle cannot answer {len(nasty.refused)} of {total} rows that the schema allows: {why}. "
        "Limit the field, or guard the row feature."
    )
    rows = [row for row, _ in nasty.refused]
    return found(
        "parity",
        "nasty rows",
        False,
        told,
        value=len(nasty.refused),
        threshold=0,
        rows=total,
        examples=public_rows(candidate.definition.fields, rows),
    )


def _no_numbers(scores: Scores) -> npt.NDArray[np.bool_]:
    """Return which answers JSON cannot say, or are no probabilities [N]."""
    if scores.probabilities is None:
        return ~np.isfinite(scores.prediction.astype(np.float64))
    table = scores.probabilities
    good = np.isfinite(table).all(axis=1) & (table >= 0).all(axis=1) & (table <= 1).all(axis=1)
    return np.asarray(~good | (np.abs(table.sum(axis=1) - 1) > BOUND))
