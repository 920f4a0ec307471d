"""What a bundle answers, and how scores become labels: the same in every path."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from steelyard.core.answers import Flag
from steelyard.features.parts import Scores, Task

__all__ = ["Answer", "Guarded", "Label", "Outputs"]

Label = str | int | bool | float
Answer = tuple[Label, list[float] | None]
"""A prediction, and for classes the probabilities in their order."""


class Guarded(NamedTuple):
    """An answer with its flags; `reason` says why it is the fallback's, where it is."""

    answer: Answer
    flags: tuple[Flag, ...] = ()
    reason: str = ""


class Outputs:
    """The task, the labels and the threshold of a bundle, and what they make of scores."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.task: Task = document["task"]
        classes = document["classes"]
        self.classes: tuple[str | int | bool, ...] | None = (
            None if classes is None else tuple(classes)
        )
        self.threshold: float = document["threshold"]
        kinds = {str: object, bool: np.bool_, int: np.int64}
        self._labels: npt.NDArray[Any] | None = None
        if self.classes is not None:
            self._labels = np.array(self.classes, dtype=kinds[type(self.classes[0])])

    def one(self, scores: list[float]) -> Answer:
        """Return the answer of one row's scores."""
        if self.classes is None:
            return scores[0], None
        if self.task == "binary":
            return self.classes[scores[1] >= self.threshold], scores
        return self.classes[scores.index(max(scores))], scores

    def many(self, scores: npt.NDArray[np.float64]) -> Scores:
        """Return the answers of N rows' scores [N, K]."""
        if self._labels is None:
            return Scores(scores[:, 0], None, None)
        if self.task == "binary":
            index = (scores[:, 1] >= self.threshold).astype(np.int64)
        else:
            index = scores.argmax(axis=1)
        return Scores(self._labels[index], scores, self.classes)
