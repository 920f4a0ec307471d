"""The reference profile saved at training: what each feature and output looked like.

Every entry is mergeable: counts over fixed edges or over categories, and sums.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.answers import class_keys
from steelyard.core.fields import NULL_STRING
from steelyard.features.parts import Columns, Scores

__all__ = ["baseline", "numeric_profile"]

_BINS: Final = 20
_CATEGORIES: Final = 255


def numeric_profile(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the profile of numbers [N]: nulls, sums, range, and counts between quantile edges.

    >>> profile = numeric_profile(np.array([1.0, 2.0, np.nan]))
    >>> profile["count"], profile["nulls"], profile["max"]
    (3, 1, 2.0)
    """
    numbers = values.astype(np.float64)
    known = numbers[~np.isnan(numbers)]
    profile: dict[str, Any] = {"kind": "numeric", "count": len(values)}
    profile["nulls"] = len(values) - len(known)
    if len(known):
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1), method="nearest"))
        # The last bin is closed, so one distinct value still has a bin of its own.
        edges = edges if len(edges) > 1 else np.array([edges[0], edges[0]])
        with np.errstate(over="ignore"):
            total, square = float(known.sum()), float(np.sum(known**2))
        profile |= {
            "min": float(known.min()),
            "max": float(known.max()),
            # JSON has no infinity; sums of extremes that overflow are left out.
            "sum": total if np.isfinite(total) else None,
            "sum_of_squares": square if np.isfinite(square) else None,
            "edges": edges.tolist(),
            "counts": np.histogram(known, edges)[0].tolist()
            if edges[0] < edges[-1]
            else [len(known)],
        }
    return profile


def _category_profile(values: npt.NDArray[Any]) -> dict[str, Any]:
    counts = Counter(values.tolist())
    nulls = counts.pop(NULL_STRING, 0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return {
        "kind": "categorical",
        "count": len(values),
        "nulls": nulls,
        "distinct": len(ranked),
        "counts": {str(value): count for value, count in ranked[:_CATEGORIES]},
        "others": sum(count for _, count in ranked[_CATEGORIES:]),
    }


def _answers(scores: Scores) -> dict[str, Any]:
    """Return how many answers there are, how many are the commonest one, and how many by label."""
    table = scores.prediction.reshape(-1, 1)
    if scores.probabilities is not None:
        table = scores.probabilities
    whole = np.ascontiguousarray(table, dtype=np.float64)
    bits = whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1])))
    found: dict[str, Any] = {
        "count": len(whole),
        "commonest": int(np.unique(bits, return_counts=True)[1].max()),
    }
    if scores.classes is not None:
        counts = Counter(scores.prediction.tolist())
        keys = zip(class_keys(scores.classes), scores.classes, strict=True)
        found["labels"] = {key: counts[label] for key, label in keys}
    return found


def baseline(
    features: Columns, names: Sequence[str], scores: Scores, held_out: Scores
) -> dict[str, Any]:
    """Return the profiles of the model's features on training rows and of its outputs.

    How often it gives which answer is counted on held-out rows: a model that knows the training
    rows by heart gives rare labels more often to them than to any others.
    """
    outputs: dict[str, Any] = {}
    if scores.probabilities is None or scores.classes is None:
        outputs["prediction"] = numeric_profile(scores.prediction)
    else:
        outputs["prediction"] = _category_profile(scores.prediction)
        for i, label in enumerate(scores.classes):
            outputs[f"probability {label}"] = numeric_profile(scores.probabilities[:, i])
    return {
        "answers": _answers(held_out),
        "features": {
            name: _category_profile(features[name])
            if features[name].dtype == object
            else numeric_profile(features[name])
            for name in names
        },
        "outputs": outputs,
    }
