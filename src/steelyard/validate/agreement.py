"""Two ways of answering the same rows, compared row by row within the parity bound.

`|d| <= 1e-5 * max(1, |reference|)`, and no other label where the reference is sure of its own by
more than 1e-6.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.features.parts import Scores

__all__ = ["BOUND", "Agreement", "agree", "bits_differ", "margins"]

BOUND: Final = 1e-5
_SURE: Final = 1e-6

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How N answers agree with their reference.

    `largest` is the largest |d| / max(1, |reference|); NaN answers count as infinitely far. `over`
    marks rows beyond the bound, `flipped` other labels where the reference is sure. `unsure_flips`
    and `ties` count other labels within the margin, and references that are exact ties.
    """

    largest: float
    over: Mask
    flipped: Mask
    unsure_flips: int
    ties: int

    @property
    def good(self) -> bool:
        """Whether every row is within the bound and no label flipped."""
        return not (self.over.any() or self.flipped.any())

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "rows": len(self.over),
            "largest_difference": self.largest,
            "rows_over_bound": int(self.over.sum()),
            "flips": int(self.flipped.sum()),
            "flips_within_margin": self.unsure_flips,
            "exact_ties": self.ties,
        }


def _numbers(scores: Scores) -> npt.NDArray[np.float64]:
    if scores.probabilities is None:
        return scores.prediction.astype(np.float64).reshape(-1, 1)
    return scores.probabilities


def margins(scores: Scores, threshold: float) -> npt.NDArray[np.float64]:
    """Return how sure each answer is of its label [N]: infinite for regression.

    >>> margins(Scores(np.array([1]), np.array([[0.2, 0.8]]), (0, 1)), 0.5)
    array([0.3])
    """
    if scores.probabilities is None or scores.classes is None:
        return np.full(len(scores), np.inf)
    if len(scores.classes) == 2:
        return np.abs(scores.probabilities[:, 1] - threshold)
    best = np.partition(scores.probabilities, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def agree(answers: Scores, reference: Scores, threshold: float) -> Agreement:
    """Compare answers with their reference, which are for the same N rows.

    >>> one = Scores(np.array([2.0]), None, None)
    >>> agree(one, Scores(np.array([2.1]), None, None), 0.5).good
    False
    """
    got, wanted = _numbers(answers), _numbers(reference)
    with np.errstate(invalid="ignore"):
        distance = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    distance = np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))
    far = distance.max(axis=1, initial=0.0)
    flipped = np.zeros(len(answers), dtype=bool)
    unsure = ties = 0
    if reference.classes is not None:
        margin = margins(reference, threshold)
        other = np.asarray(answers.prediction != reference.prediction, dtype=bool)
        flipped = other & (margin > _SURE)
        unsure = int((other & (margin <= _SURE)).sum())
        ties = int((margin == 0).sum())
    return Agreement(float(far.max(initial=0.0)), far > BOUND, flipped, unsure, ties)


def bits_differ(first: Scores, second: Scores) -> Mask:
    """Return which of N rows have answers of different bits."""
    one, two = (np.ascontiguousarray(_numbers(s)).view(np.int64) for s in (first, second))
    differ = (one != two).any(axis=1)
    return np.asarray(differ | np.asarray(first.prediction != second.prediction, dtype=bool))
