"""scikit-learn's transformers as plain float64 operators: those that are built exactly.

Each function takes a fitted transformer and the frame that it is given, and returns the frame that
it makes. `refusal` says of any transformer, fitted or not, why it is not among them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import spox
import spox.opset.ai.onnx.ml.v4 as ml
import spox.opset.ai.onnx.v21 as op

from steelyard.bundle.sklearn_frame import Frame, number_frame
from steelyard.errors import CompileError

__all__ = ["TRANSFORMERS", "refusal"]

Refusal = tuple[str, str]
"""The reason, and what to use instead."""


def _row(values: Any) -> spox.Var:
    return op.const(np.asarray(values, dtype=np.float64).reshape(1, -1))


def _standard_scaler(scaler: Any, frame: Frame, path: str) -> Frame:
    x = frame.matrix(path)
    if scaler.with_mean:
        x = op.sub(x, _row(scaler.mean_))
    if scaler.with_std:
        x = op.div(x, _row(scaler.scale_))
    return number_frame(x, len(frame.where))


def _robust_scaler(scaler: Any, frame: Frame, path: str) -> Frame:
    x = frame.matrix(path)
    if scaler.with_centering:
        x = op.sub(x, _row(scaler.center_))
    if scaler.with_scaling:
        x = op.div(x, _row(scaler.scale_))
    return number_frame(x, len(frame.where))


def _clipped(x: spox.Var, low: float, high: float) -> spox.Var:
    # Clip and Min may lose a NaN; a comparison with NaN is false and keeps it.
    x = op.where(op.less(x, op.const(float(low))), op.const(float(low)), x)
    return op.where(op.greater(x, op.const(float(high))), op.const(float(high)), x)


def _min_max_scaler(scaler: Any, frame: Frame, path: str) -> Frame:
    x = op.add(op.mul(frame.matrix(path), _row(scaler.scale_)), _row(scaler.min_))
    if scaler.clip:
        x = _clipped(x, *scaler.feature_range)
    return number_frame(x, len(frame.where))


def _max_abs_scaler(scaler: Any, frame: Frame, path: str) -> Frame:
    x = op.div(frame.matrix(path), _row(scaler.scale_))
    if getattr(scaler, "clip", False):
        x = _clipped(x, -1.0, 1.0)
    return number_frame(x, len(frame.where))


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _simple_imputer(imputer: Any, frame: Frame, path: str) -> Frame:
    kept = [
        i
        for i, value in enumerate(imputer.statistics_)
        if imputer.keep_empty_features or not _is_nan(value)
    ]
    frame = frame.select(kept)
    fill = imputer.statistics_[kept]
    if all(frame.kinds):
        return _impute_strings(imputer, frame, fill, path)
    x = frame.matrix(path)
    missing = (
        op.isnan(x)
        if _is_nan(imputer.missing_values)
        else op.equal(x, op.const(float(imputer.missing_values)))
    )
    return number_frame(op.where(missing, _row(fill), x), len(kept))


def _impute_strings(imputer: Any, frame: Frame, fill: Any, path: str) -> Frame:
    strings = frame.part(strings=True)
    if not isinstance(imputer.missing_values, str):
        raise CompileError(
            f"pipeline part `{path}` looks for {imputer.missing_values!r} in strings and never "
            "finds it: a null string is the string '\\ufdd0'",
            fix="Give it missing_values='\\ufdd0', or leave it out: null is then a category.",
        )
    if strings is None:
        return frame
    missing = op.equal(strings, op.const(np.array(imputer.missing_values)))
    chosen = op.const(np.array([[str(value) for value in fill]]))
    filled = op.where(missing, chosen, strings)
    return Frame(None, filled, tuple((True, i) for i in range(len(frame.where))))


def _categories(encoder: Any, frame: Frame, path: str) -> list[npt.NDArray[Any]]:
    """Return each column's categories: strings [K] or float64 [K]."""
    found = []
    for i, (is_string, values) in enumerate(zip(frame.kinds, encoder.categories_, strict=True)):
        if {isinstance(value, str) for value in values} - {is_string}:
            raise CompileError(
                f"pipeline part `{path}` has categories of another kind than column {i}, which "
                f"holds {'strings' if is_string else 'numbers'}",
                fix="Give categories of the column's own kind.",
            )
        found.append(np.array(list(values), dtype=np.str_ if is_string else np.float64))
    return found


def _in_order(parts: Sequence[tuple[spox.Var, Sequence[int]]]) -> spox.Var:
    """Return one matrix whose column `places[i]` is the i-th column of the parts."""
    matrices = [matrix for matrix, _ in parts]
    places = [place for _, own in parts for place in own]
    joined = op.concat(matrices, axis=1) if len(matrices) > 1 else matrices[0]
    if places == sorted(places):
        return joined
    return op.gather(joined, op.const(np.argsort(places)), axis=1)


def _string_ids(
    strings: spox.Var, categories: Sequence[npt.NDArray[Any]]
) -> tuple[list[str], spox.Var]:
    """Return all words, and for strings [N, S] each one's place among them (unknown: the end)."""
    words = sorted({str(word) for column in categories for word in column})
    ids = ml.label_encoder(
        strings,
        keys_strings=words,
        values_int64s=list(range(len(words))),
        default_int64=len(words),
    )
    return words, ids


def _take(matrix: spox.Var, columns: Sequence[int]) -> spox.Var:
    return op.gather(matrix, op.const(np.array(columns, dtype=np.int64)), axis=1)


def _equals(numbers: spox.Var, columns: Sequence[int], values: npt.NDArray[Any]) -> spox.Var:
    """Return [N, W]: whether the numbers of `columns` [W] equal `values` [W]; NaN equals NaN."""
    repeated = _take(numbers, columns)
    equal = op.equal(repeated, _row(values))
    null = np.isnan(values)[None]
    if not null.any():
        return equal
    return op.or_(equal, op.and_(op.isnan(repeated), op.const(null)))


def _one_hot(encoder: Any, frame: Frame, path: str) -> Frame:
    categories = _categories(encoder, frame, path)
    dropped = encoder.drop_idx_
    wanted = [
        (column, k)
        for column, values in enumerate(categories)
        for k in range(len(values))
        if dropped is None or dropped[column] != k
    ]
    parts = []
    for is_string in (False, True):
        own = [i for i, kind in enumerate(frame.kinds) if kind == is_string]
        places = [i for i, (column, _) in enumerate(wanted) if column in own]
        matrix = frame.part(is_string)
        if matrix is None or not places:
            continue
        columns = [own.index(wanted[i][0]) for i in places]
        values = [categories[wanted[i][0]][wanted[i][1]] for i in places]
        if is_string:
            words, ids = _string_ids(matrix, [categories[i] for i in own])
            number = {word: i for i, word in enumerate(words)}
            codes = np.array([[number[str(value)] for value in values]], dtype=np.int64)
            hits = op.equal(_take(ids, columns), op.const(codes))
        else:
            hits = _equals(matrix, columns, np.array(values))
        parts.append((hits, places))
    if not parts:
        raise CompileError(f"pipeline part `{path}` makes no column", fix="Leave it out.")
    return number_frame(op.cast(_in_order(parts), to=np.float64), len(wanted))


def _codes(encoder: Any, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the code of each category of one column."""
    codes = np.arange(len(values), dtype=np.float64)
    if values.dtype.kind == "f":
        codes[np.isnan(values)] = encoder.encoded_missing_value
    return codes


def _looked_up(places: spox.Var, tables: npt.NDArray[np.float64]) -> spox.Var:
    """Return `tables[place, column]` [N, D] for places [N, D]; tables are [K, D]."""
    width = tables.shape[1]
    flat = op.add(op.mul(places, op.const(np.int64(width))), op.const(np.arange(width)[None]))
    return op.gather(op.const(tables.ravel()), flat)


def _ordinal_strings(
    encoder: Any, strings: spox.Var, categories: Sequence[npt.NDArray[Any]]
) -> spox.Var:
    words, ids = _string_ids(strings, categories)
    number = {word: i for i, word in enumerate(words)}
    tables = np.full((len(words) + 1, len(categories)), float(encoder.unknown_value))
    for column, values in enumerate(categories):
        tables[[number[str(value)] for value in values], column] = _codes(encoder, values)
    return _looked_up(ids, tables)


def _ordinal_numbers(
    encoder: Any, numbers: spox.Var, categories: Sequence[npt.NDArray[Any]]
) -> spox.Var:
    sizes = [len(values) for values in categories]
    columns = np.repeat(np.arange(len(sizes)), sizes)
    hits = op.cast(_equals(numbers, columns.tolist(), np.concatenate(categories)), to=np.float64)
    # At most one hit a column: its place, from 1, is a sum of whole numbers and exact. 0 is unknown.
    place = np.zeros((len(columns), len(sizes)))
    place[np.arange(len(columns)), columns] = np.concatenate([np.arange(n) + 1 for n in sizes])
    places = op.cast(op.matmul(hits, op.const(place)), to=np.int64)
    tables = np.full((max(sizes) + 1, len(sizes)), float(encoder.unknown_value))
    for column, values in enumerate(categories):
        tables[1 : len(values) + 1, column] = _codes(encoder, values)
    return _looked_up(places, tables)


def _ordinal(encoder: Any, frame: Frame, path: str) -> Frame:
    categories = _categories(encoder, frame, path)
    parts = []
    for is_string, encode in ((False, _ordinal_numbers), (True, _ordinal_strings)):
        own = [i for i, kind in enumerate(frame.kinds) if kind == is_string]
        matrix = frame.part(is_string)
        if matrix is not None:
            parts.append((encode(encoder, matrix, [categories[i] for i in own]), own))
    return number_frame(_in_order(parts), len(frame.where))


def _polynomial(features: Any, frame: Frame, path: str) -> Frame:
    x = frame.matrix(path)
    width = len(frame.where)
    factors = [np.repeat(np.arange(width), row)[::-1].tolist() for row in features.powers_]
    longest = max(len(row) for row in factors)
    # Products grow from the last factor to the first, as scikit-learn's do. Short ones begin with
    # the column of ones, which stands after those of x.
    padded = np.array([[width] * (longest - len(row)) + row for row in factors]).reshape(
        len(factors), longest
    )
    zero = op.mul(op.cast(op.isnan(_take(x, [0])), to=np.float64), op.const(0.0))
    base = op.concat([x, op.add(zero, op.const(1.0))], axis=1)
    product = _take(base, [width] * len(factors))
    for column in padded.T:
        product = op.mul(product, _take(base, column.tolist()))
    return number_frame(product, len(factors))


def _same(transformer: Any, frame: Frame, path: str) -> Frame:
    return frame


TRANSFORMERS: Final[dict[str, Callable[[Any, Frame, str], Frame]]] = {
    "FunctionTransformer": _same,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "PolynomialFeatures": _polynomial,
    "RobustScaler": _robust_scaler,
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
}
"""By class name: how a fitted transformer turns its frame into the next."""

_TEXT: Final = ("free text is not a feature", "Leave the column out.")
_REFUSED: Final[dict[str, Refusal]] = {
    "CountVectorizer": _TEXT,
    "HashingVectorizer": _TEXT,
    "TfidfVectorizer": _TEXT,
    "Binarizer": ("it is not built", "Use a row feature: a comparison."),
    "IterativeImputer": ("it predicts with estimators of its own", "Use SimpleImputer."),
    "KNNImputer": ("it searches the training rows at every prediction", "Use SimpleImputer."),
    "KBinsDiscretizer": ("its edges are not built", "Use a row feature, or trees without bins."),
    "MissingIndicator": ("it is not built", "Use a row feature: xp.isnan of the column."),
    "PCA": ("a projection of whole batches is not built", "Leave it out."),
    "PowerTransformer": ("its powers are not built", "Use StandardScaler, or a row feature."),
    "QuantileTransformer": ("it interpolates in tables", "Use RobustScaler."),
    "SplineTransformer": ("its splines are not built", "Use PolynomialFeatures, or trees."),
    "TargetEncoder": ("it encodes by the label", "Use OneHotEncoder or OrdinalEncoder."),
}


def _encoder_refusal(encoder: Any, known: tuple[str, ...], fix: str) -> Refusal | None:
    if encoder.min_frequency is not None or encoder.max_categories is not None:
        return (
            "its infrequent categories (min_frequency, max_categories) are not built",
            "Leave min_frequency and max_categories out.",
        )
    if encoder.handle_unknown not in known:
        return f"handle_unknown={encoder.handle_unknown!r} fails at an unseen category", fix
    if np.dtype(encoder.dtype).kind not in "iuf" or np.dtype(encoder.dtype) == np.float32:
        return f"dtype={np.dtype(encoder.dtype)} is not built", "Leave dtype out: float64."
    return None


def _function_options(transformer: Any) -> Refusal | None:
    if transformer.func is None:
        return None
    return "a Python function cannot be compiled", "Write it as a row feature."


def _imputer_options(imputer: Any) -> Refusal | None:
    if imputer.add_indicator:
        return "add_indicator=True is not built", "Leave add_indicator out."
    if callable(imputer.strategy):
        return "a strategy of one's own is not built", "Use mean, median, most_frequent, constant."
    return None


def _one_hot_options(encoder: Any) -> Refusal | None:
    known = ("ignore", "infrequent_if_exist")
    return _encoder_refusal(encoder, known, "Use handle_unknown='ignore'.")


def _ordinal_options(encoder: Any) -> Refusal | None:
    fix = "Use handle_unknown='use_encoded_value' and unknown_value=-1."
    return _encoder_refusal(encoder, ("use_encoded_value",), fix)


_OPTIONS: Final[dict[str, Callable[[Any], Refusal | None]]] = {
    "FunctionTransformer": _function_options,
    "OneHotEncoder": _one_hot_options,
    "OrdinalEncoder": _ordinal_options,
    "SimpleImputer": _imputer_options,
}


def refusal(transformer: Any) -> Refusal | None:
    """Return why a transformer, fitted or not, has no faithful form; None where it has one."""
    name = type(transformer).__name__
    own = type(transformer).__module__.partition(".")[0] == "sklearn"
    if own and name in TRANSFORMERS:
        return _OPTIONS[name](transformer) if name in _OPTIONS else None
    if own and name in _REFUSED:
        return _REFUSED[name]
    known = ", ".join(sorted(TRANSFORMERS))
    return "it is not among those that are built", f"Use one of {known}, or a row feature."
