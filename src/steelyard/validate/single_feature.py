"""What one feature alone says about the label, learned on training rows and told on held-out ones.

A feature becomes bins (its categories, or quantiles of its numbers, null apart) whose label rates
are learned on training rows. Scored on other rows it cannot overfit: a key of a thousand values
that mean nothing scores as chance does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from steelyard.features.parts import Part, Scores, Task
from steelyard.validate.metrics import class_auc, class_codes
from steelyard.validate.rows import codes

__all__ = ["FeatureScore", "Sample", "sample_of", "score_features", "task_score"]

_ROWS: Final = 50_000
_MOST_BINS: Final = 256
_FEWEST_BINS: Final = 8
_ROWS_A_BIN: Final = 50
_PRIOR_ROWS: Final = 2.0
_FEWEST_OF_CLASS: Final = 5
_SEED: Final = 20_130_101

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureScore:
    """A feature alone: its AUC (the mean over classes) or R2 on held-out rows.

    `best_class` is the largest AUC of one class against the rest. `determines` says that the
    feature's value tells every held-out label.
    """

    feature: str
    score: float
    best_class: float
    determines: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Training and held-out rows to score features on; labels are class numbers or float64."""

    train: Part
    test: Part
    learned: npt.NDArray[Any]
    told: npt.NDArray[Any]
    classes: int
    test_rows: Ints

    @property
    def judged(self) -> tuple[int, ...]:
        """The classes with enough held-out rows in and out of them; (0,) for regression."""
        if not self.classes:
            return (0,)
        counts = np.bincount(self.told, minlength=self.classes)
        rest = len(self.told) - counts
        enough = (counts >= _FEWEST_OF_CLASS) & (rest >= _FEWEST_OF_CLASS)
        if self.classes == 2:  # both classes say the same
            return (1,) if enough.all() else ()
        return tuple(np.flatnonzero(enough).tolist())


def sample_of(train: Part, test: Part, scores: Scores) -> Sample:
    """Return at most 50,000 rows of each part, chosen by a fixed seed."""
    generator = np.random.default_rng(_SEED)

    def rows(part: Part) -> Ints:
        if len(part) <= _ROWS:
            return np.arange(len(part))
        return np.sort(generator.choice(len(part), _ROWS, replace=False))

    first, second = rows(train), rows(test)
    train, test = train.take(first), test.take(second)
    if scores.classes is None:
        learned, told = train.label.astype(np.float64), test.label.astype(np.float64)
        return Sample(train, test, learned, told, 0, second)
    numbers = [class_codes(part.label, scores.classes) for part in (train, test)]
    return Sample(train, test, numbers[0], numbers[1], len(scores.classes), second)


def score_features(sample: Sample, names: Sequence[str]) -> list[FeatureScore]:
    """Return what each named feature says alone, the most telling first."""
    score = _score_classes if sample.classes else _score_number
    found = [score(sample, name) for name in names]
    return sorted(found, key=lambda one: (-one.score, one.feature))


def task_score(sample: Sample, scores: Scores, task: Task) -> float:
    """Return the model's own score on the sample's held-out rows, to set beside single features."""
    if task == "regression" or scores.probabilities is None:
        return _r2(sample.told, scores.prediction[sample.test_rows].astype(np.float64))
    table = scores.probabilities[sample.test_rows]
    found = [class_auc(table[:, one], sample.told, [one])[0] for one in sample.judged]
    return float(np.mean(found)) if found else float("nan")


def _bins(sample: Sample, name: str) -> tuple[Ints, Ints, int]:
    """Return the bins of training and held-out rows, and their number; the last is for unseen."""
    first, second = sample.train.features[name], sample.test.features[name]
    if first.dtype == object:
        place, distinct = codes([*first.tolist(), *second.tolist()])
        return place[: len(first)], place[len(first) :], len(distinct)
    known, asked = first.astype(np.float64), second.astype(np.float64)
    wanted = int(np.clip(len(known) // _ROWS_A_BIN, _FEWEST_BINS, _MOST_BINS))
    values = np.unique(known[~np.isnan(known)])
    if len(values) > wanted:
        ranks = np.linspace(0, len(values) - 1, wanted).astype(np.int64)
        by_value = values[ranks]
        shares = np.quantile(known[~np.isnan(known)], np.linspace(0, 1, wanted), method="nearest")
        # Quantiles follow the rows, values the range: a leak may hide in either's tail.
        values = np.union1d(by_value, shares)
    null = len(values) + 1

    def place_of(numbers: Floats) -> Ints:
        found = np.searchsorted(values, numbers, side="right")
        return np.where(np.isnan(numbers), null, found).astype(np.int64)

    return place_of(known), place_of(asked), null + 1


def _score_classes(sample: Sample, name: str) -> FeatureScore:
    learned, asked, size = _bins(sample, name)
    flat = np.bincount(learned * sample.classes + sample.learned, minlength=size * sample.classes)
    counts = flat.reshape(size, sample.classes).astype(np.float64)
    prior = counts.sum(axis=0) / counts.sum()
    rates = (counts + _PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + _PRIOR_ROWS)
    flat = np.bincount(asked * sample.classes + sample.told, minlength=size * sample.classes)
    held_out = flat.reshape(size, sample.classes)
    right = int(held_out[np.arange(size), rates.argmax(axis=1)].sum())
    aucs = np.array([_binned_auc(rates[:, one], held_out, one) for one in sample.judged])
    if sample.test.features[name].dtype != object and len(aucs):
        aucs = np.maximum(aucs, _monotone_auc(sample, name))
    return FeatureScore(
        name,
        float(aucs.mean()) if len(aucs) else 0.5,
        float(aucs.max()) if len(aucs) else 0.5,
        bool(len(aucs)) and right == len(sample.told),
    )


def _monotone_auc(sample: Sample, name: str) -> Floats:
    """Return the AUC of a number as it stands, in its better direction, for each judged class."""
    values = sample.test.features[name].astype(np.float64)
    null = np.isnan(values)
    if null.all():
        return np.full(len(sample.judged), 0.5)
    values = np.where(null, np.median(values[~null]), values)
    found = class_auc(values, sample.told, sample.judged)
    return np.maximum(found, 1 - found)


def _binned_auc(rate: Floats, held_out: Ints, one: int) -> float:
    """Return the AUC of bins ordered by rate, from the held-out rows' counts in each."""
    order, tied = np.unique(rate, return_inverse=True)
    inside = np.bincount(tied, held_out[:, one], len(order))
    rest = np.bincount(tied, held_out.sum(axis=1) - held_out[:, one], len(order))
    below = np.cumsum(rest) - rest
    return float((inside * (below + rest / 2)).sum() / (inside.sum() * rest.sum()))


def _score_number(sample: Sample, name: str) -> FeatureScore:
    learned, asked, size = _bins(sample, name)
    mean = float(sample.learned.mean())
    counts = np.bincount(learned, minlength=size)
    sums = np.bincount(learned, sample.learned, size)
    guesses = [np.where(counts > 0, sums / np.maximum(counts, 1), mean)[asked]]
    if sample.test.features[name].dtype != object:
        guesses += _smooth_guesses(sample, name)
    score = max(_r2(sample.told, guess) for guess in guesses)
    exact = any(np.allclose(sample.told, guess, rtol=1e-9, atol=1e-9) for guess in guesses)
    return FeatureScore(name, score, score, exact)


def _smooth_guesses(sample: Sample, name: str) -> list[Floats]:
    """Return a linear and a monotone guess at the held-out labels from one number."""
    known = sample.train.features[name].astype(np.float64)
    asked = sample.test.features[name].astype(np.float64)
    usable = np.isfinite(known)
    if not usable.any() or known[usable].min() == known[usable].max():
        return []
    fill = float(np.median(known[usable]))
    # Scaled first, so that squares of extremes do not overflow.
    reach = float(np.abs(known[usable]).max()) or 1.0
    x, y = known[usable] / reach, sample.learned[usable]
    limits = (x.min(), x.max())
    at = np.clip(np.where(np.isfinite(asked), asked, fill) / reach, -1e3, 1e3)
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread else 0.0
    rising = slope >= 0
    monotone = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(x, y)
    line = y.mean() + slope * (at - x.mean())
    return [line, np.asarray(monotone.predict(np.clip(at, *limits)))]


def _r2(truth: Floats, guess: Floats) -> float:
    spread = float(np.sum((truth - truth.mean()) ** 2))
    if not spread:
        return 0.0
    return 1.0 - float(np.sum((truth - guess) ** 2)) / spread
