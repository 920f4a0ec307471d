"""Is one set of answers worse than another on the same rows, and how surely: paired bootstrap.

Both sets are resampled together, so what makes a row hard for both cancels out. Where rows come in
groups, groups are resampled, because rows of one group are no independent evidence.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.features.parts import Part, Scores
from steelyard.validate.metrics import Undefined, class_auc, class_codes, evaluate, find_metric
from steelyard.validate.rows import codes, take_scores

__all__ = ["Difference", "clipped_losses", "compare_losses", "compare_metric", "compare_scores"]

_RESAMPLES: Final = 2000
_BLOCKS: Final = 10_000
_METRIC_ROWS: Final = 20_000
_METRIC_RESAMPLES: Final = 300
_CONFIDENCE: Final = (2.5, 97.5)
_FEWEST_GROUPS: Final = 20
_SEED: Final = 20_130_101
_CHUNK: Final = 2_000_000

_DEFAULT_LOSSES: Final = frozenset(
    ["log_loss", "neg_log_loss", "rmse", "root_mean_squared_error", "neg_root_mean_squared_error"]
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much worse the first answers are than the second, in the metric's units.

    Negative is better. `low` and `high` bound it with 95 % confidence. `first` and `second` are the
    two values of the metric.
    """

    metric: str
    first: float
    second: float
    worse_by: float
    low: float
    high: float
    rows: int
    resamples: int

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "metric": self.metric,
            "worse_by": self.worse_by,
            "interval": [self.low, self.high],
            "confidence": 0.95,
            "rows": self.rows,
            "resamples": self.resamples,
        }


def compare_scores(
    part: Part,
    first: Scores,
    second: Scores,
    *,
    metric: str | None,
    train_rows: int,
    grouped: bool = False,
) -> Difference:
    """Compare two answers to the same N rows: by log-loss or RMSE unless another metric is named.

    Classes must be in the same order. `train_rows` bounds probabilities, as in `clipped_losses`;
    `grouped` resamples the part's groups. Raises Undefined where the metric has no value.
    """
    group = part.group if grouped else None
    if metric is not None and metric not in _DEFAULT_LOSSES:
        return compare_metric(metric, part, first, second, group=group)
    return compare_losses(
        clipped_losses(part, first, train_rows),
        clipped_losses(part, second, train_rows),
        metric="rmse" if first.classes is None else "log_loss",
        weight=part.weight,
        group=group,
    )


def clipped_losses(part: Part, scores: Scores, train_rows: int) -> Floats:
    """Return each row's log-loss [N], or its squared error for regression.

    Probabilities are kept within 1/(n+2) and 1 - 1/(n+2), n being the training rows: by the rule of
    succession no n rows can show that something is rarer, and a forest that says 0 where it means
    "less than one tree in a hundred" is judged by its answers rather than by one infinity.
    """
    if scores.probabilities is None or scores.classes is None:
        return np.asarray((part.label.astype(np.float64) - scores.prediction) ** 2)
    least = 1.0 / (train_rows + 2)
    place = class_codes(part.label, scores.classes)
    given = scores.probabilities[np.arange(len(place)), place]
    return np.asarray(-np.log(np.clip(given, least, 1.0 - least)))


def _groups(group: npt.NDArray[Any] | None) -> npt.NDArray[np.int64] | None:
    if group is None:
        return None
    place, distinct = codes(group.tolist())
    return place if len(distinct) >= _FEWEST_GROUPS else None


def _blocks(rows: int, group: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    """Return the block of each row: its group, or one of at most 10,000 random blocks.

    The mean of random blocks varies as the mean of rows does, and resampling them is quicker.
    """
    if group is not None:
        return group
    if rows <= _BLOCKS:
        return np.arange(rows)
    return np.random.default_rng(_SEED).permutation(rows) % _BLOCKS


def compare_losses(
    first: Floats,
    second: Floats,
    *,
    metric: str,
    weight: Floats | None = None,
    group: npt.NDArray[Any] | None = None,
) -> Difference:
    """Compare two losses [N] of the same rows by their weighted means.

    The metric "rmse" takes squared errors and compares the roots of their means.
    """
    root = metric == "rmse"
    weights = np.ones(len(first)) if weight is None else weight
    block = _blocks(len(first), _groups(group))
    size = int(block.max()) + 1
    sums = np.stack(
        [
            np.bincount(block, values, size)
            for values in (first * weights, second * weights, weights)
        ]
    )

    def means(total: Floats) -> Floats:
        found = total[:2] / total[2]
        return np.asarray(np.sqrt(found) if root else found)

    one, two = means(sums.sum(axis=1))
    generator = np.random.default_rng(_SEED)
    drawn = []
    step = max(1, _CHUNK // size)
    for start in range(0, _RESAMPLES, step):
        count = min(step, _RESAMPLES - start)
        chosen = generator.integers(0, size, (count, size), dtype=np.int32)
        a, b = means(np.stack([line[chosen].sum(axis=1) for line in sums]))
        drawn.append(a - b)
    low, high = np.percentile(np.concatenate(drawn), _CONFIDENCE)
    return Difference(
        metric,
        float(one),
        float(two),
        float(one - two),
        float(low),
        float(high),
        len(first),
        _RESAMPLES,
    )


def compare_metric(
    name: str,
    part: Part,
    first: Scores,
    second: Scores,
    *,
    group: npt.NDArray[Any] | None = None,
) -> Difference:
    """Compare two answers to the same N rows by any metric.

    The two values are over all rows; their interval comes from at most 20,000 of them and from
    fewer resamples, 200 to 300. Raises Undefined where the metric has no value on the rows.
    """
    sign = -1.0 if find_metric(name).higher_is_better else 1.0
    one = evaluate(name, part.label, first, part.weight)
    two = evaluate(name, part.label, second, part.weight)
    generator = np.random.default_rng(_SEED)
    kept = np.arange(len(part))
    if len(part) > _METRIC_ROWS:
        kept = np.sort(generator.choice(len(part), _METRIC_ROWS, replace=False))
    label, (a, b) = _numbered(part, (first, second), kept)
    weight = None if part.weight is None else part.weight[kept]
    groups = _groups(None if group is None else group[kept])
    members = _members(groups)
    resamples = min(_METRIC_RESAMPLES, max(200, 2_000_000 // len(kept)))
    drawn = []
    for _ in range(resamples):
        if members is None:
            rows = generator.integers(0, len(kept), len(kept))
        else:
            rows = np.concatenate(
                [members[i] for i in generator.integers(0, len(members), len(members))]
            )
        shares = None if weight is None else weight[rows]
        try:
            values = [_value(name, label[rows], take_scores(s, rows), shares) for s in (a, b)]
        except Undefined:
            continue
        drawn.append(sign * (values[0] - values[1]))
    if not drawn:
        raise Undefined(f"{name} has no value on resampled rows")
    low, high = np.percentile(drawn, _CONFIDENCE)
    return Difference(
        name, one, two, sign * (one - two), float(low), float(high), len(part), len(drawn)
    )


def _value(name: str, label: npt.NDArray[Any], scores: Scores, weight: Floats | None) -> float:
    """Return a metric as `evaluate` does; the usual one of ranks more quickly."""
    ranks = scores.probabilities is not None and scores.probabilities.shape[1] == 2
    if scores.probabilities is None or not ranks or weight is not None or name != "roc_auc":
        return evaluate(name, label, scores, weight)
    if label.min() == label.max():
        raise Undefined("one class only")
    return float(class_auc(scores.probabilities[:, 1], label, [1])[0])


def _members(group: npt.NDArray[np.int64] | None) -> list[npt.NDArray[np.int64]] | None:
    if group is None:
        return None
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group))[:-1])


def _numbered(
    part: Part, given: tuple[Scores, Scores], kept: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], tuple[Scores, Scores]]:
    """Return labels and answers with classes as numbers, which are quicker to compare."""
    label = part.label[kept]
    if given[0].classes is None:
        return label, (take_scores(given[0], kept), take_scores(given[1], kept))

    def numbered(scores: Scores) -> Scores:
        classes = scores.classes or ()
        found = take_scores(scores, kept)
        return Scores(
            class_codes(found.prediction, classes), found.probabilities, tuple(range(len(classes)))
        )

    return class_codes(label, given[0].classes), (numbered(given[0]), numbered(given[1]))
