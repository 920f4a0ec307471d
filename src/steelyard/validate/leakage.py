"""Gate leakage: the model knows neither its answer nor what comes only afterwards."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.gates import Leakage
from steelyard.core.records import Check
from steelyard.validate.candidate import Candidate
from steelyard.validate.copies import Twins, find_twins
from steelyard.validate.evidence import found, percent
from steelyard.validate.metrics import Undefined, evaluate
from steelyard.validate.rows import take_scores
from steelyard.validate.settings import Settings
from steelyard.validate.single_feature import (
    FeatureScore,
    Sample,
    sample_of,
    score_features,
    task_score,
)

__all__ = ["check_leakage"]

_SHOWN: Final = 10


def check_leakage(candidate: Candidate) -> Iterator[Check]:
    """Judge by name what comes too late, by value what says too much, and copies across the split."""
    yield _by_name(candidate)
    sample = sample_of(candidate.train, candidate.test, candidate.scores)
    ranked = score_features(sample, candidate.model_features)
    yield _by_value(candidate, sample, ranked)
    yield _against_model(candidate, sample, ranked)
    yield _copies(candidate)


def _by_name(candidate: Candidate) -> Check:
    definition = candidate.definition
    late = {f.name: f.available_after for f in definition.fields if f.available_after}
    late |= definition.available_after
    late[definition.label] = "what is to be predicted has happened"
    seen: dict[str, list[str]] = {}
    for feature in candidate.model_features:
        for column in (feature, *sorted(candidate.uses.get(feature, ()))):
            if column in late:
                seen.setdefault(column, []).append(feature)
    for field in definition.fields:
        if field.name in late:
            seen.setdefault(field.name, [])
    told = "No feature is marked as known only after the moment of prediction."
    if seen:
        first, users = next(iter(seen.items()))
        by = [name for name in users if name != first]
        through = f" (used by the feature {', '.join(by[:3])})" if by else ""
        more = f", and so {len(seen) - 1} more" if len(seen) > 1 else ""
        told = (
            f"{first!r}{through} is known only after {late[first]}{more}: at the moment of "
            f"prediction nobody has it. Remove it from {definition.row.__name__} and the features."
        )
    return found(
        "leakage", "known only afterwards", not seen, told,
        value=", ".join(seen) or None,
        columns=[
            {"column": name, "available_after": late[name], "used_by": users[:_SHOWN]}
            for name, users in seen.items()
        ],
        marked=len(late) - 1,
    )  # fmt: skip


def _by_value(candidate: Candidate, sample: Sample, ranked: list[FeatureScore]) -> Check:
    limits = Settings.of(candidate.definition).leakage
    measure, limit, usual = ("AUC", limits.auc, Leakage().auc)
    if candidate.task == "regression":
        measure, limit, usual = "R2", limits.r2, Leakage().r2
    guilty = [one for one in ranked if one.score >= limit or one.determines]
    isolating = [one for one in ranked if one.best_class >= limit and one not in guilty]
    flagged = bool(isolating) or limit > usual or not sample.judged
    best = ranked[0] if ranked else None
    told = "No single feature gives the label away."
    if not sample.judged:
        told = "Too few held-out rows of each class to score single features: hold out more."
    elif guilty:
        first = guilty[0]
        does = "determines the label" if first.determines else f"scores {measure} {first.score:.4f}"
        more = f" So do {len(guilty) - 1} more." if len(guilty) > 1 else ""
        told = (
            f"The feature {first.feature!r} alone {does} on held-out rows: it is probably made from "
            f"the label or known only afterwards.{more} Remove it, or explain it and waive the gate."
        )
    elif isolating:
        told = f"The feature {isolating[0].feature!r} alone tells one class from all the others."
    return found(
        "leakage", "single feature", not guilty, told,
        value=best.score if best else None,
        threshold=limit,
        flagged=flagged,
        measure=f"{measure} of the feature alone, learned on training rows, on held-out rows",
        guilty=[one.feature for one in guilty[:_SHOWN]],
        features=[_line(one) for one in ranked[:_SHOWN]],
        default_limit=usual,
        rows={"train": len(sample.train), "test": len(sample.test)},
        sampled=len(sample.test) < len(candidate.test) or len(sample.train) < len(candidate.train),
    )  # fmt: skip


def _line(one: FeatureScore) -> dict[str, Any]:
    return {
        "feature": one.feature,
        "score": one.score,
        "best_class": one.best_class,
        "determines": one.determines,
    }


def _against_model(candidate: Candidate, sample: Sample, ranked: list[FeatureScore]) -> Check:
    own = task_score(sample, candidate.scores, candidate.task)
    better = [one for one in ranked if one.score > own]
    told = "No feature alone does better than the model."
    if better:
        told = (
            f"The feature {better[0].feature!r} alone scores {better[0].score:.4f} on held-out rows, "
            f"the model {own:.4f}: the other features hurt, or the model is badly set."
        )
    return found(
        "leakage", "feature against model", True, told,
        value=ranked[0].score if ranked else None,
        threshold=own,
        flagged=bool(better),
        model=own,
        better=[_line(one) for one in better[:_SHOWN]],
    )  # fmt: skip


def _copies(candidate: Candidate) -> Check:
    twins = find_twins(candidate.train, candidate.test, candidate.model_features, candidate.scores)
    evidence: dict[str, Any] = {
        "rows": twins.rows,
        "share_within_training_rows": twins.share_within,
    }
    if twins.many:
        evidence |= {
            "agreement": twins.agreement,
            "agreement_expected": twins.expected,
            "share_by_chance_at_most": twins.chance,
            "repeats": twins.repeats,
            "metric": _with_and_without(candidate, ~twins.twin),
        }
    return found(
        "leakage", "copies across the split", not twins.copies, _copies_message(twins),
        value=twins.share,
        threshold=max(0.01, twins.chance),
        flagged=twins.many and twins.agreeing,
        **evidence,
    )  # fmt: skip


def _copies_message(twins: Twins) -> str:
    if not twins.rows:
        return "No held-out row has a copy among the training rows."
    told = f"{percent(twins.share)} of the held-out rows equal a training row, label included"
    if twins.copies:
        return (
            f"{told}; coincidence explains at most {percent(twins.chance)}. Remove the copies "
            "upstream, or split by what they share so that copies stay together."
        )
    if not twins.many:
        return f"{told}: too few to matter."
    if not twins.agreeing:
        return (
            f"{told}, but equal rows agree on the label only as often as independent rows may: "
            "they repeat by nature."
        )
    return f"{told}; a table of so few different rows may repeat by nature. Look at it once."


def _with_and_without(candidate: Candidate, alone: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the model's metric on all held-out rows and on those that equal no training row."""
    name = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2"}[candidate.task]
    part, scores = candidate.test.take(alone), candidate.scores
    kept = take_scores(scores, alone)
    values: dict[str, Any] = {"name": name}
    for where, rows, answers in (
        ("all", candidate.test, scores),
        ("without_twins", part, kept),
    ):
        try:
            values[where] = evaluate(name, rows.label, answers, rows.weight)
        except Undefined:
            values[where] = None
    return values
