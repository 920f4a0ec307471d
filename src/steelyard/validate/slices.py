"""Gate slices: the model is good enough within each part of the rows, not only on the whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from steelyard.core.gates import SlicesAtLeast, SlicesAtMost
from steelyard.core.records import Check
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found
from steelyard.validate.metrics import Undefined, class_codes, evaluate
from steelyard.validate.resampling import clipped_losses
from steelyard.validate.rows import take_scores
from steelyard.validate.settings import Settings
from steelyard.validate.slicing import column_of, slices_of

__all__ = ["check_slices"]

_SHOWN: Final = 20
_MOST_VALUES: Final = 50
_FEWEST_ROWS: Final = 100
_ALPHA: Final = 0.01

Rows = npt.NDArray[np.int64]


def check_slices(candidate: Candidate) -> Iterator[Check]:
    """Judge each `SlicesAtLeast` and `SlicesAtMost`; without one, look for weak slices."""
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
    """Some rows, how much the model says there beyond their average, and how surely it says less."""

    column: str
    value: str
    rows: int
    loss: float
    constant: float
    z: float

    @property
    def skill(self) -> float:
        return 1.0 - self.loss / self.constant

    def document(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "slice": self.value,
            "rows": self.rows,
            "loss": self.loss,
            "loss_of_average": self.constant,
            "skill": self.skill,
            "z": self.z,
        }


def _scan(candidate: Candidate) -> Check:
    """Look for slices where the model does worse than always answering the slice's own average.

    A metric of ranks, as AUC, is lower within slices of any telling column, and harder rows have
    a larger loss; the slice's own average makes slices comparable.
    """
    losses = clipped_losses(candidate.test, candidate.scores, len(candidate.train))
    looked_at = [
        one
        for name, value, rows in _few_valued(candidate)
        if (one := _compared(candidate, name, value, rows, losses[rows])) is not None
    ]
    # Bonferroni: among many slices some look bad by chance.
    critical = float(norm.isf(_ALPHA / max(1, len(looked_at))))
    looked_at.sort(key=lambda one: (one.skill, one.column, one.value))
    failing = [one for one in looked_at if one.z > critical]
    told = f"No slice of {len(looked_at)} is surely answered worse than by its own average."
    if failing:
        first = failing[0]
        more = f", and so in {len(failing) - 1} more slices" if len(failing) > 1 else ""
        told = (
            f"Where {first.column!r} is {first.value} ({first.rows} rows) the model does worse than "
            f"always answering their average{more}. Look at these rows; set a limit with "
            "SlicesAtLeast where it matters."
        )
    return found(
        "slices",
        "worst slices",
        True,
        told,
        value=looked_at[0].skill if looked_at else None,
        threshold=0.0,
        flagged=bool(failing),
        measure="skill: the share of the slice's own average's loss that the model takes away",
        failing=[one.document() for one in failing[:_SHOWN]],
        worst=[one.document() for one in looked_at[:5]],
        looked_at=len(looked_at),
        critical_z=critical,
    )


def _few_valued(candidate: Candidate) -> Iterator[tuple[str, str, Rows]]:
    """Yield column, value and rows of every slice by a column of few values with enough rows."""
    test = candidate.test
    fields = (field.name for field in candidate.definition.fields if not field.temporal)
    # Nobody asked for these slices, so private values stay out of the evidence.
    private = {field.name for field in candidate.definition.fields if field.private}
    for name in dict.fromkeys([*candidate.model_features, *fields]):
        if name in private:
            continue
        values = column_of(test, name)
        if values.dtype != bool and len(set(values.tolist())) > _MOST_VALUES:
            continue
        for value, rows in slices_of(values):
            if _FEWEST_ROWS <= len(rows) < len(test):
                yield name, value, rows


def _compared(
    candidate: Candidate, name: str, value: str, rows: Rows, losses: npt.NDArray[np.float64]
) -> _Slice | None:
    label, classes = candidate.test.label[rows], candidate.scores.classes
    if classes is None:
        numbers = label.astype(np.float64)
        average = (numbers - numbers.mean()) ** 2
    else:
        place = class_codes(label, classes)
        average = -np.log((np.bincount(place) / len(place))[place])
    constant = float(average.mean())
    gap = losses - average
    error = float(gap.std(ddof=1)) / len(gap) ** 0.5
    if not constant or not error:
        return None
    return _Slice(name, value, len(rows), float(losses.mean()), constant, float(gap.mean()) / error)
