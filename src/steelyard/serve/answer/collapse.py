"""The collapse alarm: a model that answers the same to everything, told by a sequential test.

Before each answer the test bets that it repeats the one before. While a model answers as it did on
held-out rows, no such bet can be won for long; docs/collapse.md derives what it promises.
"""

import math
from collections.abc import Mapping, Sequence
from operator import eq
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from steelyard.core.answers import class_keys

__all__ = ["ARL", "Chart", "Collapse", "Evidence", "State", "evidence", "limit"]

ARL: Final = 1e9
"""False alarms are, in the mean, at least so many answers apart."""
_DRIFT: Final = 4.0
"""How often more than on held-out rows, as odds, an answer may come before that is odd."""
_LEAST: Final = 0.5
"""What came more rarely counts as this: bursts of like rows are no collapse."""
_NEARLY: Final = 10.0
"""A collapsed model gives other answers this many times more rarely than the oddest healthy one."""
_LATELY: Final = 16
"""So many rows, up to twice as many, are known to have been asked lately."""
_NOTHING: Final[Mapping[str, Any]] = {"count": 0, "commonest": 0}

Answer = tuple[Any, Sequence[float] | None]


class Evidence(NamedTuple):
    """What one answer says for a collapse, as a log-likelihood ratio: repeated, or not."""

    repeated: float
    other: float

    @property
    def fewest(self) -> float:
        """How many repeats in a row raise an alarm at `ARL`; infinite where none do."""
        return math.ceil(limit(ARL) / self.repeated) if self.repeated else math.inf


def evidence(share: float) -> Evidence:
    """Return the evidence for an answer that had a share of the answers to held-out rows.

    >>> evidence(0.5).fewest, evidence(0.99).fewest, evidence(1.0).fewest
    (106, 9434, inf)
    """
    share = max(share, _LEAST)
    # How often the oddest model that is still healthy gives another answer.
    others = (1 - share) / (1 - share + _DRIFT * share)
    repeated = math.log1p(-others / _NEARLY) - math.log1p(-others)
    return Evidence(repeated, -math.log(_NEARLY))


class State(NamedTuple):
    """Whether a model has collapsed.

    `what` repeats, its label or its whole answer to the last bit; `prediction` is what it answered
    when that was found. `alarms` counts how often it began, also where it was over before anybody
    looked.
    """

    collapsed: bool
    what: Literal["", "label", "answer"] = ""
    prediction: Any = None
    alarms: int = 0


class Chart:
    """A CUSUM chart of the evidence for a collapse, and then of the evidence that it is over.

    It alarms, and clears again, where the sum reaches the limit; the sum never falls below zero.
    """

    def __init__(self, limit: float) -> None:
        self.alarmed = False
        self._limit = limit
        self._sum = 0.0

    def advance(self, found: npt.NDArray[np.float64]) -> list[int]:
        """Take the evidence [N] of further answers; return the places where it alarmed."""
        places: list[int] = []
        start = 0
        while start < len(found):
            part = found[start:]
            total = self._sum + np.cumsum(-part if self.alarmed else part)
            # Never below zero: what the running total lacked so far is given back.
            sums = total - np.minimum(np.minimum.accumulate(total), 0.0)
            reached = int(np.argmax(sums >= self._limit))
            if sums[reached] < self._limit:
                self._sum = float(sums[-1])
                break
            self.alarmed, self._sum = not self.alarmed, 0.0
            if self.alarmed:
                places.append(start + reached)
            start += reached + 1
        return places


class Collapse:
    """Watches the answers of one model in one worker, away from the requests; not thread-safe.

    Each worker judges the answers that it gives itself: an alarm takes as many of them in each.
    `shares` are those of the labels among the answers to held-out rows, empty for a regression;
    `commonest` is the share of the one answer, to the last bit, that came most often.
    """

    def __init__(self, shares: Mapping[Any, float], commonest: float, *, arl: float = ARL) -> None:
        self._places = {label: i for i, label in enumerate(shares)}
        self._labels = np.array([evidence(share) for share in shares.values()])
        self._answers = evidence(commonest)
        self._label_chart, self._answer_chart = Chart(limit(arl)), Chart(limit(arl))
        self._alarms = 0
        self._before: Answer | None = None
        # Rows that were judged lately, by their answers.
        self._lately: dict[Any, list[Any]] = {}
        self._earlier: dict[Any, list[Any]] = {}
        self._count = 0
        self._state = State(False)

    @classmethod
    def of(
        cls,
        classes: Sequence[str | int | bool] | None,
        baseline: Mapping[str, Any],
        share: float | None = None,
    ) -> "Collapse":
        """Return a watch by a bundle's labels and baseline.

        `share` is, where the definition gives it, what one label, or a regression's value, may have.

        >>> held_out = {"answers": {"count": 98, "commonest": 9, "labels": {"no": 90, "yes": 8}}}
        >>> watch = Collapse.of(("no", "yes"), held_out)
        >>> watch.observe([("no", [0.9, 0.1])] * 106)
        >>> watch.state().collapsed
        False
        >>> watch.observe([("no", [0.9, 0.1])])
        >>> watch.state()
        State(collapsed=True, what='answer', prediction='no', alarms=1)
        """
        answers = baseline.get("answers", _NOTHING)
        count = answers["count"]
        # One more than was counted: a model that gave one answer to all held-out rows is told too.
        commonest = (answers["commonest"] + 1) / (count + 2)
        if classes is None:
            return cls({}, share or commonest)
        # Bundles that were made before labels were counted are judged by their whole answers.
        labels = answers.get("labels") or dict.fromkeys(class_keys(classes), count)
        shares = {
            label: share or _label_share(labels.get(key, 0), count)
            for label, key in zip(classes, class_keys(classes), strict=True)
        }
        return cls(shares, commonest)

    def observe(self, answers: Sequence[Answer], rows: Sequence[Any] | None = None) -> None:
        """Take further answers of the model, in their order.

        Where their `rows` are given, the answer to a row that was asked lately is left out: it says
        nothing of the model that it is the same.
        """
        if rows is not None:
            answers = self._of_other_rows(answers, rows)
        if self._before is not None:
            answers = [self._before, *answers]
        if answers:
            self._before = answers[-1]
        if len(answers) > 1:
            self._judge(answers)

    def state(self) -> State:
        """Return whether the model has collapsed, by the answers that were observed."""
        return self._state

    def _judge(self, answers: Sequence[Answer]) -> None:
        """Take answers, of which the first is the one before."""
        label_at: list[int] = []
        if self._places:
            places = self._places
            at = np.array([places[label] for label, _ in answers])
            bets = self._labels[at[:-1]]
            found = np.where(at[1:] == at[:-1], bets[:, 0], bets[:, 1])
            label_at = self._label_chart.advance(found)
            whole: list[Any] = [scores for _, scores in answers]
        else:
            whole = [prediction for prediction, _ in answers]
        same = list(map(eq, whole, whole[1:]))
        answer_at = self._answer_chart.advance(np.where(same, *self._answers))
        if (label_at or answer_at) and not self._state.collapsed:
            self._alarms += 1  # also where it cleared again before anybody looked
        # That a whole answer repeats says more than that its label does.
        if self._answer_chart.alarmed:
            self._alarm("answer", answer_at, answers)
        elif self._label_chart.alarmed:
            self._alarm("label", label_at, answers)
        else:
            self._state = State(False, alarms=self._alarms)

    def _alarm(
        self, what: Literal["label", "answer"], at: Sequence[int], answers: Sequence[Answer]
    ) -> None:
        prediction = answers[at[-1] + 1][0] if at else self._state.prediction
        self._state = State(True, what, prediction, self._alarms)

    def _of_other_rows(self, answers: Sequence[Answer], rows: Sequence[Any]) -> list[Answer]:
        kept = []
        lately, earlier, count = self._lately, self._earlier, self._count
        for answer, row in zip(answers, rows, strict=True):
            prediction, scores = answer
            # The same row has the same answer: only where that came before are rows compared.
            key = prediction if scores is None else tuple(scores)
            if row in lately.get(key, ()) or row in earlier.get(key, ()):
                continue
            kept.append(answer)
            lately.setdefault(key, []).append(row)
            count += 1
            if count == _LATELY:
                lately, earlier, count = {}, lately, 0
        self._lately, self._earlier, self._count = lately, earlier, count
        return kept


def _label_share(count: int, answers: int) -> float:
    """Return the share of a label that `count` of the answers to held-out rows gave.

    The others are as few as two standard errors of their number leave: of one or none it is not
    known how rare they are, and nothing can be told by the label.

    >>> round(_label_share(90, 100), 3), _label_share(99, 100), _label_share(0, 0)
    (0.953, 1.0, 1.0)
    """
    others = max(math.sqrt(answers - count) - 1, 0.0) ** 2
    return 1 - others / answers if answers else 1.0


def limit(arl: float) -> float:
    """Return the limit of two charts that alarm falsely once in `arl` answers at the most."""
    return math.log(2 * arl)
