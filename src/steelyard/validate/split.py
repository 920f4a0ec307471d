"""Gate split: the held-out rows exist, and nothing that was learned from stands among them."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.records import Check
from steelyard.core.splits import GroupSplit, TimeSplit
from steelyard.features.parts import Part
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found, percent

__all__ = ["check_split"]

_ENOUGH: Final = 50
_SHOWN: Final = 3


def check_split(candidate: Candidate) -> Iterator[Check]:
    """Judge sizes, shared rows, keys and groups, the order of time, and classes."""
    train, test, split = candidate.train, candidate.test, candidate.definition.split
    yield _sizes(train, test)
    yield _rows(train, test)
    if train.key is not None and test.key is not None:
        yield _shared(candidate, "key", candidate.definition.key or "key", train.key, test.key)
    if isinstance(split, GroupSplit) and train.group is not None and test.group is not None:
        yield _shared(candidate, "group", split.group, train.group, test.group)
    if isinstance(split, TimeSplit):
        yield _order(split.time, train, test)
    if candidate.task != "regression":
        yield _classes(train, test)


def _sizes(train: Part, test: Part) -> Check:
    few = len(test) < _ENOUGH
    told = f"{len(train)} rows to learn from, {len(test)} held out."
    if not len(test) or not len(train):
        told += " Both parts need rows: hold out another share."
    elif few:
        told += f" Fewer than {_ENOUGH} held-out rows show little: hold out more, or gather more."
    return found(
        "split",
        "held-out rows",
        bool(len(train) and len(test)),
        told,
        value=len(test),
        threshold=_ENOUGH,
        flagged=few,
        train=len(train),
        test=len(test),
    )


def _rows(train: Part, test: Part) -> Check:
    shared = np.intersect1d(train.rows, test.rows, assume_unique=True)
    told = "No row of the table stands in both parts."
    if len(shared):
        told = (
            f"{len(shared)} rows stand in both parts, so the held-out rows prove nothing; report "
            "this as a defect of Steelyard."
        )
    return found(
        "split", "shared rows", not len(shared), told,
        value=len(shared), threshold=0, rows=shared[:_SHOWN].tolist(),
    )  # fmt: skip


def _shared(
    candidate: Candidate,
    what: str,
    column: str,
    train: npt.NDArray[Any],
    test: npt.NDArray[Any],
) -> Check:
    known = set(train.tolist())
    held_out = test.tolist()
    shared = [value for value in dict.fromkeys(held_out) if value in known and value is not None]
    inside = set(shared)
    rows = sum(value in inside for value in held_out)
    told = f"No {what} in {column!r} stands in both parts."
    if shared:
        told = (
            f"{len(shared)} values of the {what} {column!r} stand in both parts, in {rows} held-out "
            f"rows ({percent(rows / len(held_out))}): the model may have learned them by heart. "
            f'Split with GroupSplit(group="{column}").'
        )
    private = any(field.name == column and field.private for field in candidate.definition.fields)
    return found(
        "split", f"shared {what}s", not shared, told,
        value=len(shared), threshold=0, column=column, rows=rows,
        examples=[] if private else shared[:_SHOWN],
    )  # fmt: skip


def _order(column: str, train: Part, test: Part) -> Check:
    if train.time is None or test.time is None or not len(train) or not len(test):
        told = f"The times in {column!r} are not there, so their order is not proven."
        return found("split", "time order", False, told)
    last, first = (np.datetime64(int(t), "us") for t in (train.time.max(), test.time.min()))
    early = int(np.sum(test.time <= train.time.max()))
    told = f"Every held-out row is later than every row learned from: {last} < {first}."
    if early:
        told = (
            f"{early} held-out rows are not later than the last row learned from, {last}: the model "
            f"is judged on its own past. Split by time at one moment, ties together."
        )
    return found(
        "split", "time order", not early, told,
        value=early, threshold=0, column=column, last_train=last, first_test=first,
    )  # fmt: skip


def _classes(train: Part, test: Part) -> Check:
    known = set(train.label.tolist())
    labels = test.label.tolist()
    unknown = sorted({str(label) for label in labels if label not in known})
    rows = sum(label not in known for label in labels)
    told = "Every held-out class was learned."
    if unknown:
        told = (
            f"{rows} held-out rows have a class that no row to learn from has: "
            f"{', '.join(unknown[:_SHOWN])}. The model cannot answer it."
        )
    return found(
        "split", "classes", True, told,
        value=len(unknown), threshold=0, flagged=bool(unknown), unknown=unknown[:20], rows=rows,
    )  # fmt: skip
