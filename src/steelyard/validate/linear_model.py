"""The simple models that a candidate is measured against: a constant and a linear one.

They are comparisons only; nothing of them is kept or served.
"""

import warnings
from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from steelyard.features.parts import Part, Scores
from steelyard.validate.metrics import class_codes

__all__ = ["constant_scores", "linear_scores"]

_ROWS: Final = 50_000
_CELLS: Final = 4_000_000
_CATEGORIES: Final = 50
_ITERATIONS: Final = 200
_FAR: Final = 10.0
_SEED: Final = 20_130_101

Floats = npt.NDArray[np.float64]
Classes = tuple[str | int | bool, ...]


def constant_scores(train: Part, rows: int, classes: Classes | None) -> Scores:
    """Return what always answering the weighted class shares, or mean, of training rows says."""
    weight = np.ones(len(train)) if train.weight is None else train.weight
    if classes is None:
        mean = float(np.average(train.label.astype(np.float64), weights=weight))
        return Scores(np.full(rows, mean), None, None)
    shares = np.bincount(class_codes(train.label, classes), weight, len(classes)) / weight.sum()
    return _answers(np.tile(shares, (rows, 1)), classes)


def linear_scores(
    train: Part, test: Part, names: tuple[str, ...], classes: Classes | None
) -> tuple[Scores, dict[str, Any]]:
    """Fit LogisticRegression or Ridge on training rows; return its answers for `test`, and how.

    Numbers are filled with the median, scaled, and held within ten deviations; categories are
    one-hot, the fifty most frequent each. At most 50,000 training rows are used, fewer with many
    features.
    """
    rows = min(_ROWS, max(2_000, _CELLS // max(1, len(names))))
    sample = train
    if len(train) > rows:
        chosen = np.random.default_rng(_SEED).choice(len(train), rows, replace=False)
        sample = train.take(np.sort(chosen))
    learned, asked = _design(sample, test, names)
    converged = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            scores = _fit(sample, learned, asked, classes, _ITERATIONS)
        except ConvergenceWarning:
            converged = False
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores = _fit(sample, learned, asked, classes, _ITERATIONS)
    return scores, {
        "model": "LogisticRegression" if classes else "Ridge",
        "trained_on": len(sample),
        "columns": int(learned.shape[1]),
        "converged": converged,
    }


def _fit(
    sample: Part, learned: Any, asked: Any, classes: Classes | None, iterations: int
) -> Scores:
    if classes is None:
        ridge = Ridge(alpha=1.0).fit(
            learned, sample.label.astype(np.float64), sample_weight=sample.weight
        )
        return Scores(np.asarray(ridge.predict(asked), dtype=np.float64), None, None)
    target = class_codes(sample.label, classes)
    logistic = LogisticRegression(max_iter=iterations).fit(
        learned, target, sample_weight=sample.weight
    )
    table = np.zeros((asked.shape[0], len(classes)))
    table[:, logistic.classes_] = logistic.predict_proba(asked)
    return _answers(table, classes)


def _answers(table: Floats, classes: Classes) -> Scores:
    labels = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    return Scores(labels[table.argmax(axis=1)], table, classes)


def _design(sample: Part, test: Part, names: tuple[str, ...]) -> tuple[Any, Any]:
    """Return the matrices [N, P] of both parts, sparse; statistics are of the sample."""
    texts = [name for name in names if sample.features[name].dtype == object]
    numbers = [name for name in names if name not in texts]
    parts: list[tuple[Any, Any]] = []
    if numbers:
        known, asked = (
            np.column_stack([part.features[n].astype(np.float64) for n in numbers])
            for part in (sample, test)
        )
        parts.append(_scaled(known, asked))
    parts += [_one_hot(sample.features[name], test.features[name]) for name in texts]
    first, second = zip(*parts, strict=True)
    if not texts:  # numbers alone stay dense: the solvers are quicker
        return first[0], second[0]
    return sparse.csr_matrix(sparse.hstack(first)), sparse.csr_matrix(sparse.hstack(second))


def _one_hot(known: npt.NDArray[Any], asked: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Return 0/1 columns of the most frequent categories; any other category is all 0."""
    kept = [value for value, _ in Counter(known.tolist()).most_common(_CATEGORIES)]
    place = {value: i for i, value in enumerate(kept)}

    def table(values: npt.NDArray[Any]) -> Any:
        column = np.array([place.get(value, -1) for value in values.tolist()], dtype=np.int64)
        rows = np.flatnonzero(column >= 0)
        ones = np.ones(len(rows))
        return sparse.csr_matrix((ones, (rows, column[rows])), (len(column), len(kept)))

    return table(known), table(asked)


def _scaled(known: Floats, asked: Floats) -> tuple[Floats, Floats]:
    known, asked = (np.where(np.isfinite(x), x, np.nan) for x in (known, asked))
    null = np.isnan(known)
    # An all-null column has no median, and says nothing.
    known = np.where(null.all(axis=0), 0.0, known)
    fill = np.nanmedian(known, axis=0)
    known, asked = (np.where(np.isnan(x), fill, x) for x in (known, asked))
    reach = np.maximum(np.abs(known).max(axis=0), 1e-300)
    known, asked = known / reach, np.clip(asked / reach, -1e6, 1e6)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return tuple(np.clip((x - mean) / deviation, -_FAR, _FAR) for x in (known, asked))
