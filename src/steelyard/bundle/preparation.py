"""How raw columns and row features become the matrix that an estimator sees.

Statistics are learned from the training rows; the arithmetic happens only in the graph, in
float64 with plain operators, and is cast once. Nodes are wide: one matrix, not a node a column.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import spox
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op

from steelyard.core.fields import NULL_STRING
from steelyard.features.parts import Columns

__all__ = ["Encoding", "Preparation", "Style", "encode_strings", "fit_preparation", "prepare"]

Floats = npt.NDArray[np.float64]
Style = Literal["native", "ordinal", "one_hot"]
"""What the estimator wants: categories and nulls as they are (native), codes (ordinal), or 0/1."""

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
# Far beyond any scaled training value; keeps a linear score of finite weights finite.
_SCALED_MAX: Final = 1e12


@dataclass(frozen=True, slots=True)
class Encoding:
    """The codes of one column's categories.

    `kept` have the codes 0 to k-1, most frequent first; `rare` share the code k. Null is a category
    like any other where the training rows had it. Anything else is unseen: code k+1 (k where
    nothing is rare), or NaN for estimators with native categories.
    """

    kept: tuple[str, ...]
    rare: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of codes, without the one for unseen."""
        return len(self.kept) + bool(self.rare)

    def codes(self) -> dict[str, float]:
        """Return category -> code; null under `NULL_STRING`."""
        found = {category: float(code) for code, category in enumerate(self.kept)}
        found.update(dict.fromkeys(self.rare, float(len(self.kept))))
        return found


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was learned: the order of columns, fills, scales and codes.

    The matrix before preparation is `numeric` then `encodings`, D columns in the order of
    `columns`. `fill` [D], `mean` and `scale` [F numeric] are empty where the style needs none.
    `indicators` are numeric columns whose nulls get a 0/1 column of their own.
    """

    style: Style
    columns: tuple[str, ...]
    encodings: Mapping[str, Encoding]
    fill: tuple[float, ...] = ()
    indicators: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """The columns that are numbers."""
        return tuple(name for name in self.columns if name not in self.encodings)

    @property
    def categorical_positions(self) -> list[int]:
        """Where the columns of codes stand in the matrix."""
        return [i for i, name in enumerate(self.columns) if name in self.encodings]

    def unseen(self, name: str) -> float:
        """Return the code of a category that the training rows did not have."""
        return float("nan") if self.style == "native" else float(self.encodings[name].size)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the prepared matrix's columns."""
        flags = [f"{name} is null" for name in self.indicators]
        if self.style != "one_hot":
            return (*self.columns, *flags)
        shown = [
            f"{name} = {_shown(category)}"
            for name, encoding in self.encodings.items()
            for category in [*encoding.kept, *(["(rare)"] if encoding.rare else [])]
        ]
        return (*self.numeric, *flags, *shown)


def _shown(category: str) -> str:
    return "null" if category == NULL_STRING else category


def _encoding(values: npt.NDArray[Any], cap: int) -> Encoding:
    counts = Counter(values.tolist())
    order = sorted((-count, category) for category, count in counts.items())
    ranked = [category for _, category in order]
    if len(ranked) <= cap:
        return Encoding(tuple(ranked))
    kept = ranked[: cap - 1]
    if NULL_STRING in ranked and NULL_STRING not in kept:
        kept[-1] = NULL_STRING
    chosen = set(kept)
    return Encoding(tuple(kept), tuple(sorted(c for c in ranked if c not in chosen)))


def fit_preparation(
    features: Columns, columns: Sequence[str], style: Style, max_categories: int
) -> Preparation:
    """Learn the preparation of `columns` from the training rows' features."""
    encodings = {
        name: _encoding(features[name], max_categories)
        for name in columns
        if features[name].dtype == object
    }
    if style == "native":
        return Preparation(style, tuple(columns), encodings)
    numbers = [name for name in columns if name not in encodings]
    rows = len(features[columns[0]])
    matrix = np.empty((rows, len(numbers)))
    for i, name in enumerate(numbers):
        matrix[:, i] = features[name]
    null = np.isnan(matrix)
    fill = [
        float(np.median(c[~n])) if not n.all() else 0.0
        for c, n in zip(matrix.T, null.T, strict=True)
    ]
    by_name = dict(zip(numbers, fill, strict=True))
    learned = Preparation(
        style,
        tuple(columns),
        encodings,
        fill=tuple(by_name.get(name, 0.0) for name in columns),
        indicators=tuple(name for name, n in zip(numbers, null.T, strict=True) if n.any()),
    )
    if style == "ordinal":
        return learned
    mean, scale = _scale(np.where(null, np.array(fill), matrix))
    return Preparation(
        style,
        learned.columns,
        encodings,
        learned.fill,
        learned.indicators,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
    )


def _scale(filled: Floats) -> tuple[Floats, Floats]:
    """Return the mean and standard deviation [F] of the columns of a matrix [N, F]."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = filled.mean(axis=0), filled.std(axis=0)
    largest = np.abs(filled).max(axis=0, initial=0.0)
    overflow = ~np.isfinite(mean) | ~np.isfinite(deviation)
    scale = np.where(overflow, largest, deviation)
    return np.where(overflow, 0.0, mean), np.where(scale > 0, scale, 1.0)


def encode_strings(strings: spox.Var, encoding: Encoding, unseen: float) -> spox.Var:
    """Return the codes [N] float64 of strings [N]."""
    codes = encoding.codes()
    found = ml.label_encoder(
        strings,
        keys_strings=list(codes),
        values_floats=list(codes.values()),
        default_float=unseen,
    )
    return op.cast(found, to=np.float64)


def _take(matrix: spox.Var, positions: Sequence[int]) -> spox.Var:
    return op.gather(matrix, op.const(np.array(positions, dtype=np.int64)), axis=1)


def _flags(condition: spox.Var) -> spox.Var:
    return op.cast(condition, to=np.float64)


def prepare(matrix: spox.Var, learned: Preparation, dtype: type[np.floating[Any]]) -> spox.Var:
    """Return the prepared matrix [N, P] of `dtype` from raw numbers and codes [N, D] float64."""
    parts = []
    position = {name: i for i, name in enumerate(learned.columns)}
    if learned.style == "one_hot":
        parts = _one_hot_parts(matrix, learned, position)
    elif learned.style == "ordinal":
        fill = op.const(np.array([learned.fill]))
        parts.append(op.where(op.isnan(matrix), fill, matrix))
        if learned.indicators:
            nulls = op.isnan(_take(matrix, [position[n] for n in learned.indicators]))
            parts.append(_flags(nulls))
    else:
        parts.append(matrix)
    prepared = op.concat(parts, axis=1) if len(parts) > 1 else parts[0]
    if dtype is np.float64:
        return prepared
    limit = op.const(_FLOAT32_MAX)
    return op.cast(op.clip(prepared, op.neg(limit), limit), to=dtype)


def _one_hot_parts(
    matrix: spox.Var, learned: Preparation, position: Mapping[str, int]
) -> list[spox.Var]:
    parts = []
    numeric = [position[name] for name in learned.numeric]
    if numeric:
        numbers = _take(matrix, numeric)
        fill = op.const(np.array([[learned.fill[i] for i in numeric]]))
        filled = op.where(op.isnan(numbers), fill, numbers)
        centred = op.sub(filled, op.const(np.array([learned.mean])))
        scaled = op.div(centred, op.const(np.array([learned.scale])))
        limit = op.const(_SCALED_MAX)
        parts.append(op.clip(scaled, op.neg(limit), limit))
    if learned.indicators:
        nulls = op.isnan(_take(matrix, [position[n] for n in learned.indicators]))
        parts.append(_flags(nulls))
    wanted = [
        (position[name], float(code))
        for name, encoding in learned.encodings.items()
        for code in range(encoding.size)
    ]
    if wanted:
        repeated = _take(matrix, [column for column, _ in wanted])
        codes = op.const(np.array([[code for _, code in wanted]]))
        parts.append(_flags(op.equal(repeated, codes)))
    return parts
