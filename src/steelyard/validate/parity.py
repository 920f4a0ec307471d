"""Gate parity: the pipeline in memory, both graphs and a started server give the same answers.

Tried on all held-out rows, on rows that the schema allows and nobody expects, in batches of
different sizes, and over HTTP.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from steelyard.core.records import Check
from steelyard.features.columns import json_rows
from steelyard.features.parts import Columns, Scores
from steelyard.validate.agreement import BOUND, Agreement, agree, bits_differ
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found, public_rows
from steelyard.validate.nasty_parity import NastyAnswers, check_nasty
from steelyard.validate.rows import take_scores
from steelyard.validate.server_parity import check_server

__all__ = ["check_parity"]

_SAMPLE: Final = 200
_ASKED_AGAIN: Final = 2_000
_BATCHED: Final = 61  # no multiple of 2, 3 or 8, so that every size leaves a rest
_SIZES: Final = (1, 2, 3, 8)
_SHOWN: Final = 5
_CLOSE: Final = 1e-6


def check_parity(candidate: Candidate) -> Iterator[Check]:
    """Judge that every way of answering gives the same answers."""
    test = candidate.test
    yield _held_out(candidate)
    nasty = NastyAnswers.of(candidate)
    yield check_nasty(candidate, nasty)
    places = np.unique(np.linspace(0, len(test) - 1, _SAMPLE).astype(np.int64))
    sample = test.take(places).columns
    yield _batches(candidate, _first(sample, _BATCHED), nasty)
    rows = json_rows(candidate.definition.fields, sample)
    asked = [(rows, candidate.packed(sample))]
    if nasty.packed is not None:
        asked.append((nasty.rows, nasty.packed))
    yield check_server(candidate, asked)


def _held_out(candidate: Candidate) -> Check:
    """Compare on all held-out rows; on some of them also that the bundle still answers so."""
    test, packed, threshold = candidate.test, candidate.scores, candidate.definition.threshold
    reference = agree(packed, candidate.reference(test.columns), threshold)
    canonical = agree(packed, candidate.canonical(test.columns), threshold)
    places = np.unique(np.linspace(0, len(test) - 1, _ASKED_AGAIN).astype(np.int64))
    again = candidate.packed(test.take(places).columns)
    other = int(bits_differ(again, take_scores(packed, places)).sum())
    good = reference.good and canonical.good and not other
    told = f"All {len(packed)} held-out rows are answered as the pipeline in memory answers them."
    if other:
        told = (
            f"{other} of {len(places)} held-out rows were judged by other answers than the bundle "
            "gives now; run the training again."
        )
    elif not good:
        name, worst = ("in-memory pipeline", reference)
        if reference.good:
            name, worst = "canonical graph", canonical
        told = (
            f"{int((worst.over | worst.flipped).sum())} held-out rows differ from the {name}, by up "
            f"to {worst.largest:.3g}: the compiled form is not faithful. Take another estimator or "
            "part, and report this one."
        )
    return found(
        "parity",
        "held-out rows",
        good,
        told,
        value=max(reference.largest, canonical.largest),
        threshold=BOUND,
        reference=reference.document(),
        canonical=canonical.document(),
        judged_by_other_answers=other,
        examples=_examples(candidate, reference if not reference.good else canonical),
    )


def _examples(candidate: Candidate, agreement: Agreement) -> list[dict[str, Any]]:
    fields = candidate.definition.fields
    bad = np.flatnonzero(agreement.over | agreement.flipped)[:_SHOWN]
    return public_rows(fields, json_rows(fields, candidate.test.take(bad).columns))


def _first(columns: Columns, rows: int) -> Columns:
    return {name: column[:rows] for name, column in columns.items()}


def _batches(candidate: Candidate, held_out: Columns, nasty: NastyAnswers) -> Check:
    """Compare answers to the same rows in batches of several sizes, and in another order."""
    mixed = {
        name: np.concatenate([column, nasty.columns[name][:_BATCHED]])
        for name, column in held_out.items()
    }
    rows = len(next(iter(mixed.values())))
    whole = candidate.packed(mixed)
    threshold = candidate.definition.threshold
    sizes: dict[str, Any] = {}
    largest, flips = 0.0, 0
    for size in _SIZES:
        starts = range(0, rows, size)
        parts = [
            candidate.packed({name: column[i : i + size] for name, column in mixed.items()})
            for i in starts
        ]
        joined = _joined(parts)
        agreement = agree(joined, whole, threshold)
        sizes[str(size)] = int(bits_differ(joined, whole).sum())
        largest, flips = max(largest, agreement.largest), flips + int(agreement.flipped.sum())
    turned = candidate.packed({name: column[::-1].copy() for name, column in mixed.items()})
    back = take_scores(turned, np.arange(rows)[::-1])
    sizes["reversed"] = int(bits_differ(back, whole).sum())
    largest = max(largest, agree(back, whole, threshold).largest)
    differing = sum(sizes.values())
    told = f"An answer has the same bits alone and in batches of 2, 3, 8 and {rows}, in any order."
    if differing:
        told = (
            f"Answers differ with the batch by up to {largest:.3g} (relative); {_CLOSE:g} is allowed "
            "and stated on the model card."
        )
    return found(
        "parity",
        "batch independence",
        largest <= _CLOSE and not flips,
        told,
        value=largest,
        threshold=_CLOSE,
        flagged=bool(differing),
        rows=rows,
        rows_with_other_bits=sizes,
        flips=flips,
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    first = parts[0].probabilities
    probabilities = None
    if first is not None:
        probabilities = np.concatenate(
            [p.probabilities for p in parts if p.probabilities is not None]
        )
    prediction = np.concatenate([part.prediction for part in parts])
    return Scores(prediction, probabilities, parts[0].classes)
