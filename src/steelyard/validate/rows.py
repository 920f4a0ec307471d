"""Rows of a table: whether the same one stands in two places, and what was answered for some."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.features.parts import Columns, Scores

__all__ = ["codes", "column_hashes", "combined", "row_hashes", "take_scores"]

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


def codes(values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return the place of each of N values among the distinct ones, and those in first-seen order.

    >>> codes(["b", "a", "b"])
    (array([0, 1, 0]), ['b', 'a'])
    """
    distinct = dict.fromkeys(values)
    place = {value: i for i, value in enumerate(distinct)}
    return np.fromiter(map(place.__getitem__, values), np.int64, len(values)), list(distinct)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread bits over the whole word.

    Source: G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, 2014.
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _text_hash(value: Any) -> int:
    data = f"{type(value).__name__}:{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def column_hashes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a hash of each of N values: equal values, equal hashes, in every process."""
    if values.dtype == object:
        place, distinct = codes(values.tolist())
        table = np.array([_text_hash(value) for value in distinct], dtype=np.uint64)
        return table[place] if len(table) else np.zeros(0, np.uint64)
    numbers = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    if numbers.dtype == np.float64:
        # Every NaN is null, and both zeros are zero.
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)
    return _mix(numbers.view(np.uint64) + _ODD)


def row_hashes(
    columns: Columns, label: npt.NDArray[Any] | None = None, key: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.uint64]:
    """Return one hash a row [N] over columns, and over its label and key where given.

    The order of columns does not matter. Two different rows share a hash by chance about once in
    2**64 pairs.

    >>> hashes = row_hashes({"a": np.array([1, 1, 2])})
    >>> bool(hashes[0] == hashes[1]), bool(hashes[0] == hashes[2])
    (True, False)
    """
    named = dict(columns)
    if label is not None:
        named["\0label"] = label
    if key is not None:
        named["\0key"] = key
    return combined({name: column_hashes(values) for name, values in named.items()})


def combined(hashes: Mapping[str, npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Return one hash a row [N] from the hashes of its columns."""
    total = np.zeros(len(next(iter(hashes.values()))), dtype=np.uint64)
    for name, values in hashes.items():
        total += _mix(values ^ np.uint64(_text_hash(name)))
    return _mix(total)


def take_scores(scores: Scores, rows: npt.NDArray[Any]) -> Scores:
    """Return the answers at `rows` (positions or a mask), in that order."""
    probabilities = None if scores.probabilities is None else scores.probabilities[rows]
    return Scores(scores.prediction[rows], probabilities, scores.classes)
