"""Gate slices: the model is good enough within each part of the rows, not only on the whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import norm

from steelyard.core.gates import SlicesAtLeast, SlicesAtMost
from steelyard.core.records import Check
from steelyard.features.parts import Part, Scores, Task
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found
from steelyard.validate.metrics import Undefined, class_codes, evaluate
from steelyard.validate.rows import take_scores
from steelyard.validate.settings import Settings
from steelyard.validate.single_feature import class_auc
from steelyard.validate.slicing import column_of, slices_of

__all__ = ["check_slices"]

_SHOWN: Final = 20
_MOST_VALUES: Final = 50
_FEWEST_ROWS: Final = 100
_FEWEST_OF_CLASS: Final = 20
_ALPHA: Final = 0.01
_METRICS: Final[Mapping[Task, str]] = {
    "binary": "roc_auc",
    "multiclass": "accuracy",
    "regression": "rmse",
}
# How far below the whole a slice must lie to be pointed at: absolute, for RMSE relative.
_FAR: Final[Mapping[Task, float]] = {"binary": 0.05, "multiclass": 0.10, "regression": 0.5}


def check_slices(candidate: Candidate) -> Iterator[Check]:
    """Judge each `SlicesAtLeast` and `SlicesAtMost`; without one, look for slices far below."""
    limits = Settings.of(candidate.definition).slices
    for limit in limits:
        for name in limit.by:
            yield _judge(candidate, limit, name)
    if not limits:
        yield _scan(candidate)


def _judge(candidate: Candidate, limit: SlicesAtLeast | SlicesAtMost, by: str) -> Check:
    least = isinstance(limit, SlicesAtLeast)
    judged: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    kinds = {field.name: field.kind for field in candidate.definition.fields if field.temporal}
    for value, rows in slices_of(column_of(candidate.test, by), kinds.get(by)):
        line: dict[str, Any] = {"slice": value, "rows": len(rows)}
        if len(rows) < limit.min_rows:
            listed.append({**line, "why": f"fewer than {limit.min_rows} rows"})
            continue
        part, scores = candidate.test.take(rows), take_scores(candidate.scores, rows)
        try:
            line["value"] = evaluate(limit.metric, part.label, scores, part.weight)
        except Undefined as error:
            listed.append({**line, "why": str(error)})
            continue
        judged.append(line)
    judged.sort(key=lambda line: line["value"], reverse=not least)
    below = [line for line in judged if not _kept(line["value"], limit)]
    return found(
        "slices",
        f"{limit.metric} {'>=' if least else '<='} {limit.value:g} by {by}",
        not below,
        _message(limit, by, judged, below),
        value=judged[0]["value"] if judged else None,
        threshold=limit.value,
        flagged=not judged,
        failing=below[:_SHOWN],
        slices=judged[:_SHOWN],
        not_judged=listed[:_SHOWN],
        judged=len(judged),
        listed=len(listed),
    )


def _kept(value: float, limit: SlicesAtLeast | SlicesAtMost) -> bool:
    return value >= limit.value if isinstance(limit, SlicesAtLeast) else value <= limit.value


def _message(
    limit: SlicesAtLeast | SlicesAtMost,
    by: str,
    judged: list[dict[str, Any]],
    below: list[dict[str, Any]],
) -> str:
    if not judged:
        return f"No slice by {by!r} has {limit.min_rows} held-out rows to be judged by."
    worst = judged[0]
    told = f"{limit.metric} is {worst['value']:.5g} where {by!r} is {worst['slice']} ({worst['rows']} rows)"
    if not below:
        return f"{told}, the worst of {len(judged)} slices: good enough."
    more = f", and {len(below) - 1} more slices fail" if len(below) > 1 else ""
    way = "at least" if isinstance(limit, SlicesAtLeast) else "at most"
    return (
        f"{told}, where {way} {limit.value:g} is asked{more}. Gather rows of this slice, add features "
        "that tell its rows apart, or answer it otherwise."
    )


@dataclass(frozen=True, slots=True)
class _Slice:
    column: str
    value: str
    rows: int
    metric: float
    behind: float
    z: float


def _scan(candidate: Candidate) -> Check:
    test, scores, task = candidate.test, candidate.scores, candidate.task
    name = _METRICS[task]
    whole, _ = _measure(test, scores, task)
    looked_at: list[_Slice] = []
    for column, rows, value in _categories(candidate):
        part, answers = test.take(rows), take_scores(scores, rows)
        metric, error = _measure(part, answers, task)
        if metric is None or whole is None or error is None:
            continue
        behind = metric / whole - 1 if task == "regression" and whole else whole - metric
        gap = metric - whole if task == "regression" else whole - metric
        looked_at.append(
            _Slice(column, value, len(rows), metric, behind, gap / error if error else 0.0)
        )
    # Bonferroni: among many slices some lie far below by chance.
    critical = float(norm.isf(_ALPHA / max(1, len(looked_at))))
    far = [one for one in looked_at if one.behind > _FAR[task] and one.z > critical]
    far.sort(key=lambda one: -one.behind)
    worst = sorted(looked_at, key=lambda one: -one.behind)
    told = f"No slice of {len(looked_at)} lies far behind the whole."
    if far:
        told = (
            f"{name} is {far[0].metric:.4g} where {far[0].column!r} is {far[0].value} "
            f"({far[0].rows} rows), {whole:.4g} on the whole. Set a limit with SlicesAtLeast or "
            "SlicesAtMost where it matters."
        )
    return found(
        "slices",
        "worst slices",
        True,
        told,
        value=worst[0].metric if worst else None,
        flagged=bool(far),
        metric=name,
        whole=whole,
        far=[_line(one) for one in far[:_SHOWN]],
        worst=[_line(one) for one in worst[:5]],
        looked_at=len(looked_at),
        critical_z=critical,
    )


def _line(one: _Slice) -> dict[str, Any]:
    return {
        "column": one.column,
        "slice": one.value,
        "rows": one.rows,
        "value": one.metric,
        "z": one.z,
    }


def _categories(candidate: Candidate) -> Iterator[tuple[str, Any, str]]:
    """Yield the slices of every column of few values that has enough rows in them."""
    test = candidate.test
    names = dict.fromkeys(
        [*candidate.model_features, *(f.name for f in candidate.definition.fields)]
    )
    for name in names:
        values = column_of(test, name)
        if values.dtype == object:
            few = len(set(values.tolist())) <= _MOST_VALUES
        else:
            few = values.dtype == bool or len(np.unique(values[:2000])) <= _MOST_VALUES // 5
        if not few:
            continue
        for value, rows in slices_of(values):
            if _FEWEST_ROWS <= len(rows) < len(test):
                yield name, rows, value


def _measure(part: Part, scores: Scores, task: Task) -> tuple[float | None, float | None]:
    """Return the metric of some rows and its standard error; None where there are too few."""
    if scores.classes is None or scores.probabilities is None:
        squares = (part.label.astype(np.float64) - scores.prediction) ** 2
        rmse = float(np.sqrt(squares.mean()))
        error = float(squares.std(ddof=1)) / np.sqrt(len(squares)) / (2 * rmse) if rmse else 0.0
        return rmse, float(error)
    label = class_codes(part.label, scores.classes)
    if task == "multiclass":
        right = float(np.mean(part.label == scores.prediction))
        return right, float(np.sqrt(max(right * (1 - right), 1e-12) / len(label)))
    positive = int(label.sum())
    negative = len(label) - positive
    if min(positive, negative) < _FEWEST_OF_CLASS:
        return None, None
    auc = float(class_auc(scores.probabilities[:, 1], label, [1])[0])
    return auc, _auc_error(auc, positive, negative)


def _auc_error(auc: float, positive: int, negative: int) -> float:
    """Return the standard error of an AUC.

    Source: J. Hanley, B. McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (
        auc * (1 - auc) + (positive - 1) * (first - auc**2) + (negative - 1) * (second - auc**2)
    ) / (positive * negative)
    return float(np.sqrt(max(spread, 0.0)))
