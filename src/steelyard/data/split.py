"""Rows to learn from and rows held out: the same rows on every machine, in table order."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from steelyard.core.splits import ColumnSplit, GroupSplit, Split, Stratified, TimeSplit, duration
from steelyard.errors import DataError, DefinitionError, nearest
from steelyard.features.parts import Part, Task

__all__ = ["moment", "split"]

_BINS = 10
"""Quantile bins that keep a numeric label's distribution."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Mask = npt.NDArray[np.bool_]


def split(part: Part, how: Split, task: Task) -> tuple[Part, Part]:
    """Return the rows to learn from and the rows held out, each in the order of `part`.

    `part.time` is needed by a TimeSplit, `part.group` (the column's values) by a GroupSplit and a
    ColumnSplit. Raises DataError where either part would be empty, or where a class is held out
    that no training row has.
    """
    held_out = _held_out(part, how, task)
    if held_out.all() or not held_out.any():
        empty = "to learn from" if held_out.all() else "held out"
        raise DataError(f"the split leaves no row {empty}, of {len(part)}.", fix=_remedy(how))
    train, test = part.take(~held_out), part.take(held_out)
    if task != "regression":
        _check_classes(train, test)
    return train, test


def _held_out(part: Part, how: Split, task: Task) -> Mask:
    match how:
        case Stratified():
            return _stratified(part.label, how, task)
        case TimeSplit():
            return _later(_given(part.time, how), how)
        case GroupSplit():
            return _groups(_given(part.group, how), how)
        case ColumnSplit():
            return _marked(_given(part.group, how), how)


def _given(values: npt.NDArray[Any] | None, how: Split) -> npt.NDArray[Any]:
    if values is None:
        raise ValueError(f"the part lacks the column that {how} needs")
    return values


def _remedy(how: Split) -> str:
    match how:
        case Stratified():
            return "Give it more rows, or another test=."
        case TimeSplit():
            return "Set test= or start= so that it lies between the first and the last time."
        case GroupSplit():
            return "Give it more groups, or another seed=."
    return "Mark some rows, not all, for the held-out part."


def _check_classes(train: Part, test: Part) -> None:
    known = set(train.label.tolist())
    unknown = sorted(set(test.label.tolist()) - known)
    if len(known) < 2:
        raise DataError(
            f"every row to learn from has the label {next(iter(known))!r}.",
            fix="Split otherwise, so that each class has rows to learn from.",
        )
    if unknown:
        rows = int(np.isin(test.label, np.array(unknown, dtype=test.label.dtype)).sum())
        shown = ", ".join(map(repr, unknown[:5]))
        raise DataError(
            f"{rows} held-out rows have labels that no row to learn from has: {shown}.",
            fix="Split otherwise, or join rare classes upstream.",
        )


def _stratified(label: npt.NDArray[Any], how: Stratified, task: Task) -> Mask:
    """Hold out a fraction of every stratum; rounding goes to those with the largest remainder."""
    strata = _bins(label) if task == "regression" else np.unique(label, return_inverse=True)[1]
    sizes = np.bincount(strata)
    # The last row of a stratum is never held out, so that its class can be learned.
    room = sizes - 1
    exact = sizes * how.test
    wanted = np.minimum(np.floor(exact).astype(np.int64), room)
    short = round(len(label) * how.test) - int(wanted.sum())
    by_remainder = np.argsort(-(exact - wanted), kind="stable")
    more = by_remainder[wanted[by_remainder] < room[by_remainder]][: max(short, 0)]
    wanted[more] += 1
    # RandomState's stream is frozen by NumPy's policy; Generator's may change between versions.
    order = np.lexsort((np.random.RandomState(how.seed).random_sample(len(label)), strata))
    rank = np.arange(len(label)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = np.zeros(len(label), dtype=bool)
    held_out[order[rank < np.repeat(wanted, sizes)]] = True
    return held_out


def _bins(label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    edges = np.unique(np.quantile(label, np.linspace(0, 1, _BINS + 1)[1:-1]))
    _, bins = np.unique(np.searchsorted(edges, label, side="left"), return_inverse=True)
    return bins.astype(np.int64)


def moment(text: str) -> tuple[int, bool]:
    """Return an ISO date or datetime as microseconds since 1970, and whether it has an offset.

    >>> moment("1970-01-02")
    (86400000000, False)
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DefinitionError(
            f"expected an ISO date or datetime, got {text!r}.",
            field="split",
            fix='Write, for example, start="2013-10-01".',
        ) from None
    aware = found.tzinfo is not None
    delta = (found if aware else found.replace(tzinfo=UTC)) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds, aware


def _later(time: npt.NDArray[np.int64], how: TimeSplit) -> Mask:
    if how.start is not None:
        return np.asarray(time >= moment(how.start)[0])
    length = duration(how.test or "")
    micros = (length.days * 86_400 + length.seconds) * 1_000_000
    # Strictly later: the last 30d of a daily table are 30 days, not 31.
    return np.asarray(time > time.max() - micros)


def _groups(group: npt.NDArray[Any], how: GroupSplit) -> Mask:
    chosen = {value: _share(value, how.seed) < how.test for value in set(group.tolist())}
    return np.array([chosen[value] for value in group.tolist()], dtype=bool)


def _share(value: object, seed: int) -> float:
    """Return where a group stands between 0 and 1, the same in every process and version."""
    digest = hashlib.blake2b(f"{seed}:{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _marked(column: npt.NDArray[Any], how: ColumnSplit) -> Mask:
    values = column.tolist()
    held_out = np.array([_equal(value, how.test) for value in values], dtype=bool)
    if not held_out.any():
        present = {str(value) for value in values if value is not None}
        raise DataError(
            f"no row has {how.test!r} in the column {how.column!r}.",
            fix=nearest(str(how.test), present),
        )
    return held_out


def _equal(value: object, test: str | int | bool) -> bool:
    if isinstance(value, str) and isinstance(test, bool):
        return value in (("true", "True", "1") if test else ("false", "False", "0"))
    if isinstance(value, str):  # a CSV writes every kind as text
        return value == str(test)
    return value == test and isinstance(value, bool) == isinstance(test, bool)
