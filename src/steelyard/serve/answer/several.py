"""The rows of one request, and their answers."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.bundle.predictor import Answer
from steelyard.serve.answer.answered import PLAIN, Answered, Mark
from steelyard.serve.answer.version import Entry, LoadedVersion

__all__ = ["CheckedRows", "Pace", "Several"]

Feeds = Mapping[str, npt.NDArray[Any]]
_TURN_NS: Final = 300_000
_MIXED: Final = np.random.default_rng(0)


@dataclass(slots=True)
class CheckedRows:
    """Rows of checked values, and, where they came as columns, packed for the graph already."""

    values: Sequence[tuple[Any, ...]]
    feeds: Feeds | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int) -> "CheckedRows":
        """Return the rows from `start` up to `end`."""
        feeds = self.feeds
        if feeds is not None:
            feeds = {name: array[start:end] for name, array in feeds.items()}
        return CheckedRows(self.values[start:end], feeds)


class Pace:
    """Says when those who wait should get their turn: after a third of a millisecond of work."""

    def __init__(self) -> None:
        self._since = time.perf_counter_ns()

    @property
    def due(self) -> bool:
        """Whether it is time; the next turn is then counted from now."""
        now = time.perf_counter_ns()
        if now - self._since < _TURN_NS:
            return False
        self._since = now
        return True


@dataclass(slots=True)
class Several:
    """Answers [N] to the rows of a request, in order; `marks` is there where one is not plain."""

    loaded: LoadedVersion
    answers: list[Answer] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    marks: list[Mark] | None = None

    def add_plain(self, answers: Sequence[Any]) -> bool:
        """Add what the model says of some rows where that is all there is to say, and is finite."""
        if not all(type(one) is tuple for one in answers):
            return False
        if answers and answers[0][1] is None:
            total = sum(prediction for prediction, _ in answers)
        else:
            total = sum(chain.from_iterable(scores for _, scores in answers))
        if not math.isfinite(total):
            return False
        self.answers += answers
        if self.marks is not None:
            self.marks += [PLAIN] * len(answers)
        return True

    def add(self, answer: Answer, mark: Mark) -> None:
        """Add the answer to one row."""
        if self.marks is None and mark is not PLAIN:
            self.marks = [PLAIN] * len(self.answers)
        self.answers.append(answer)
        if self.marks is not None:
            self.marks.append(mark)

    def records(
        self, start: int, at: str, microseconds: int, rows: Sequence[tuple[Any, ...]]
    ) -> list[bytes]:
        """Return the log's records of the answers from `start` on, one for each of `rows`."""
        end = start + len(rows)
        answers, ids = self.answers[start:end], self.ids[start:end]
        marks = self.marks[start:end] if self.marks is not None else []
        if all(mark is PLAIN for mark in marks):
            return self.loaded.many.records(answers, ids, at, microseconds, rows)
        loaded = self.loaded
        return [
            loaded.record(
                loaded.texts(answer), Entry(i, at, microseconds, mark), loaded.logged_row(row, None)
            )
            for answer, i, mark, row in zip(answers, ids, marks, rows, strict=True)
        ]

    def json(self) -> bytes:
        """Return the answers as the native route's JSON."""
        loaded, marks = self.loaded, self.marks
        if marks is None:
            if not self.answers:
                return b'{"predictions":[]}'
            return b'{"predictions":%b}' % loaded.many.answers(self.answers, self.ids)
        found = zip(self.answers, self.ids, marks, strict=True)
        texts = [loaded.answer(loaded.texts(answer), i, mark) for answer, i, mark in found]
        return b'{"predictions":[' + b",".join(texts) + b"]}"

    def answered(self) -> list[Answered]:
        """Return the answers as other contracts need them."""
        marks = self.marks or repeat(PLAIN)
        return [Answered.of(*one) for one in zip(self.answers, self.ids, marks, strict=False)]

    def by_model(self) -> list[Answer]:
        """Return the answers that the model gave, not a fallback."""
        if self.marks is None:
            return self.answers
        pairs = zip(self.answers, self.marks, strict=True)
        return [answer for answer, mark in pairs if mark.source == "model"]

    def mixed(
        self, rows: Sequence[tuple[Any, ...]]
    ) -> tuple[Sequence[Answer], Sequence[tuple[Any, ...]]]:
        """Return the answers that the model gave, and their rows, in an order of no meaning.

        A table is often sorted: as it comes, like answers follow each other.
        """
        order = _MIXED.permutation(len(self.answers)).tolist()
        if self.marks is not None:
            order = [i for i in order if self.marks[i].source == "model"]
        return [self.answers[i] for i in order], [rows[i] for i in order]
