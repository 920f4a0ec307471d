"""The fallback of a loaded bundle: what answers a row where the model does not."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self

from steelyard.bundle.outputs import Answer, Guarded, Outputs
from steelyard.bundle.session import open_session
from steelyard.core.fields import FieldSpec
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError, RefusedError
from steelyard.features.columns import column
from steelyard.features.parts import Task

__all__ = ["Fallback", "Kind", "Previous"]

Kind = Literal["none", "constant", "rule", "previous_champion"]
Row = Sequence[Any]
_INPUT = "in_"


class Previous(Protocol):
    """What a fallback asks of the champion before: a predictor."""

    model: str
    bundle: str
    task: Task
    classes: tuple[str | int | bool, ...] | None
    fields: tuple[FieldSpec, ...]
    decoder: RowDecoder

    def answer_many(self, rows: Sequence[Row]) -> list[Guarded | InputError]:
        """Answer N rows of validated values in the order of its fields, guarded."""


class Fallback:
    """Answers rows of validated values in field order, in the form of the model's answers.

    `kind` is what the definition asked for, `bundle` the hash of the previous champion's bundle
    where that is what answers first. Threads may share one.
    """

    def __init__(
        self, files: Mapping[str, bytes], fields: Sequence[FieldSpec], outputs: Outputs
    ) -> None:
        document = json.loads(files["fallback.json"])
        self.kind: Kind = document["kind"]
        self.bundle: str | None = None
        self._fields = tuple(fields)
        self._outputs = outputs
        self._previous: Previous | None = None
        last = document["otherwise"] if self.kind == "previous_champion" else document
        self._scores: list[float] | None = last.get("scores")
        self._graph: Any = None
        self._read: list[tuple[int, FieldSpec]] = []
        if last["kind"] == "rule":
            self._graph = open_session(files["fallback.onnx"])
            names = {found.name.removeprefix(_INPUT) for found in self._graph.get_inputs()}
            self._read = [(i, field) for i, field in enumerate(fields) if field.name in names]

    @property
    def by_rule(self) -> bool:
        """Whether a rule answers, or would where the previous champion does not."""
        return self._graph is not None

    def after(self, previous: Previous) -> Self:
        """Return this fallback with the previous champion, loaded, before all else.

        Raises RefusedError where it gives other answers than this bundle's: another task, or other
        labels.
        """
        outputs = self._outputs
        if previous.task != outputs.task or set(previous.classes or ()) != set(
            outputs.classes or ()
        ):
            raise RefusedError(
                f"the previous champion answers {_what(previous.task, previous.classes)}, this "
                f"version {_what(outputs.task, outputs.classes)}; it cannot stand in.",
                fix="Give sy.PreviousChampion(otherwise=...) for such a change.",
            )
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._previous, made.bundle = previous, previous.bundle
        return made

    def answer_one(self, row: Row) -> Answer | None:
        """Return the answer for a row, or None where there is none."""
        return self.answer_many([row])[0]

    def answer_many(self, rows: Sequence[Row]) -> list[Answer | None]:
        """Return the answers for N rows; None for a row for which there is none.

        An answer depends on its own row only, and is finite.
        """
        found = self._by_previous(rows)
        left = [i for i, answer in enumerate(found) if answer is None]
        if left:
            for i, answer in zip(left, self._by_last([rows[i] for i in left]), strict=True):
                found[i] = answer
        return found

    def _by_previous(self, rows: Sequence[Row]) -> list[Answer | None]:
        previous = self._previous
        found: list[Answer | None] = [None] * len(rows)
        if previous is None:
            return found
        known = {field.name for field in previous.fields}
        read = [(i, field.name) for i, field in enumerate(self._fields) if field.name in known]
        for i, row in enumerate(rows):
            try:
                # By name and checked anew: the row of that version may be another one.
                values = previous.decoder.check_one({name: row[j] for j, name in read})
                answered = previous.answer_many([values])[0]
            except InputError:
                continue
            except Exception:  # noqa: BLE001  # it stands in for a failed model: it may fail as well
                return found
            if isinstance(answered, Guarded) and not answered.reason:
                found[i] = self._translated(previous, answered.answer)
        return found

    def _translated(self, previous: Previous, answer: Answer) -> Answer:
        """Return a previous champion's answer with its probabilities in this bundle's order."""
        prediction, scores = answer
        if scores is None or previous.classes is None or self._outputs.classes is None:
            return answer
        by_label = dict(zip(previous.classes, scores, strict=True))
        return prediction, [by_label[label] for label in self._outputs.classes]

    def _by_last(self, rows: Sequence[Row]) -> list[Answer | None]:
        if self._scores is not None:
            return [self._outputs.one(list(self._scores)) for _ in rows]
        if self._graph is None:
            return [None] * len(rows)
        feeds = {
            f"{_INPUT}{field.name}": column(field, [row[i] for row in rows])
            for i, field in self._read
        }
        lines: list[list[float]] = self._graph.run(["scores"], feeds)[0].tolist()
        return [
            self._outputs.one(line) if all(map(math.isfinite, line)) else None for line in lines
        ]


def _what(task: Task, classes: Sequence[str | int | bool] | None) -> str:
    return task if classes is None else f"{task} {list(classes)!r:.200}"
