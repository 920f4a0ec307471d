"""Copies of training rows among the held-out ones, told from rows that merely repeat.

Tables of few columns repeat by nature, and so will the rows of tomorrow: no harm. Copies (a join
that multiplied rows, oversampling before the split) make held-out rows look easier than tomorrow's.
A held-out row has a twin where some training row has equal features and an equal label. Twins are
taken for copies only where all of this holds:

1. More than 1 % of the held-out rows, and at least ten, have one.
2. Rows with equal features agree on the label more often than independent rows would: more than by
   chance, and more than the model is right on rows without a twin. Where it is as right without, the
   twins cannot flatter it.
3. Coincidence does not explain them. Two different rows are equal in a half of the columns with some
   probability; they are equal in all columns at most as often.
4. Rows do not repeat by the dozen, as those of a small catalogue do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.features.parts import Part, Scores
from steelyard.validate.rows import column_hashes, combined

__all__ = ["Twins", "find_twins"]

_SHARE: Final = 0.01
_ROWS: Final = 10
_AGREEMENT: Final = 0.98
_ENOUGH: Final = 30
_REPEATS: Final = 20.0

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Twins:
    """Held-out rows with a twin among the training rows, and what explains them.

    `twin` [N] marks them, `share` of the held-out rows; `share_within` is the same within the training rows.
    `agreement` is how often rows with equal features have equal labels, `expected` how often they
    would by themselves. `chance` bounds the share that coincidence explains.
    """

    twin: npt.NDArray[np.bool_]
    share: float
    share_within: float
    agreement: float
    expected: float
    chance: float
    repeats: float

    @property
    def rows(self) -> int:
        """The number of held-out rows with a twin."""
        return int(self.twin.sum())

    @property
    def many(self) -> bool:
        """Whether there are enough to matter."""
        return self.share > _SHARE and self.rows >= _ROWS

    @property
    def agreeing(self) -> bool:
        """Whether equal rows agree on their label more than independent ones do."""
        return self.agreement > max(_AGREEMENT, self.expected)

    @property
    def explained(self) -> bool:
        """Whether coincidence, or a small catalogue, explains them."""
        return self.chance >= self.share or self.repeats >= _REPEATS

    @property
    def copies(self) -> bool:
        """Whether they are to be taken for copies."""
        return self.many and self.agreeing and not self.explained


def find_twins(train: Part, test: Part, names: Sequence[str], scores: Scores) -> Twins:
    """Return what is known of held-out rows that stand among the training rows too."""
    known, asked = ({n: column_hashes(part.features[n]) for n in names} for part in (train, test))
    x_train, x_test = combined(known), combined(asked)
    y_train, y_test = (
        combined({"features": x, "label": column_hashes(part.label)})
        for x, part in ((x_train, train), (x_test, test))
    )
    same_x, same_y = _count(x_train, x_test), _count(y_train, y_test)
    twin = same_y > 0
    share = float(twin.mean()) if len(twin) else 0.0
    within = float(np.mean(_count(y_train, y_train) > 1)) if len(y_train) else 0.0
    if share <= _SHARE:  # the rest costs time and changes nothing
        return Twins(twin, share, within, 1.0, 0.0, 0.0, 1.0)
    equal = same_x > 0
    first = np.unique(x_train, return_index=True)[1]
    pairs = int(equal.sum())
    return Twins(
        twin,
        share,
        within,
        float(np.mean(same_y[equal] / same_x[equal])),
        _expected(train.label, test, scores, alone=~equal, pairs=pairs),
        min(1.0, len(x_train) * _coincidence(known, first)),
        len(x_train) / len(first),
    )


def _count(known: Hashes, asked: Hashes) -> npt.NDArray[np.int64]:
    """Return how often each asked hash is among the known ones."""
    distinct, counts = np.unique(known, return_counts=True)
    place = np.minimum(np.searchsorted(distinct, asked), len(distinct) - 1)
    return np.where(distinct[place] == asked, counts[place], 0)


def _expected(
    label: npt.NDArray[Any],
    test: Part,
    scores: Scores,
    *,
    alone: npt.NDArray[np.bool_],
    pairs: int,
) -> float:
    """Return how often labels of independent rows with equal features may agree, noise included."""
    counts = np.unique(column_hashes(label), return_counts=True)[1]
    agreement = float(np.sum((counts / counts.sum()) ** 2))
    if int(alone.sum()) >= _ENOUGH:
        truth, guess = test.label[alone], scores.prediction[alone]
        if scores.classes is not None:
            agreement = max(agreement, float(np.mean(truth == guess)))
        elif (spread := float(np.var(truth))) > 0:
            explained = 1.0 - float(np.mean((truth - guess) ** 2)) / spread
            agreement = 1.0 if explained >= _AGREEMENT else agreement
    return min(1.0, agreement + 2.0 * float(np.sqrt(agreement * (1.0 - agreement) / pairs)))


def _coincidence(known: Mapping[str, Hashes], first: npt.NDArray[np.int64]) -> float:
    """Return how probably two different rows are equal in the more telling half of the columns.

    Columns are dealt to two halves in turn, the most diverse first.
    """
    hashes = {name: values[first] for name, values in known.items()}
    ranked = sorted(hashes, key=lambda name: (_collision(hashes[name]), name))
    halves = [ranked[start::2] for start in (0, 1) if ranked[start::2]]
    return min(_collision(combined({name: hashes[name] for name in half})) for half in halves)


def _collision(values: Hashes) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    total = len(values)
    return float(np.sum(counts * (counts - 1)) / (total * (total - 1))) if total > 1 else 0.0
