"""The texts of many answers, and of their records, made in one call each."""

import re
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final

import msgspec

from steelyard.bundle.predictor import Answer, Predictor
from steelyard.core.answers import class_keys

__all__ = ["Texts"]

_OUTPUT: Final = "prediction"
# Names of a type's members are written as they are; a dictionary's keys are escaped.
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')


class Texts:
    """Writes many answers of one version, or their records, in one call.

    The documents are those of `LoadedVersion.answer` and `record`, member by member.
    """

    def __init__(self, predictor: Predictor, version: int) -> None:
        self._places = [i for i, field in enumerate(predictor.fields) if not field.private]
        self._row = _struct("Row", [predictor.fields[i].name for i in self._places])
        tail, scores = ["model", "version", "source"], []
        self._scores: Callable[..., Any] | None = None
        if predictor.classes is not None:
            scores = ["probabilities"]
            self._scores = _scores(class_keys(predictor.classes))
        self._output = _struct("Output", ["name", "value"])
        self._outputs = {label: [self._output(_OUTPUT, label)] for label in predictor.classes or ()}
        self._answer = _struct("Answer", [_OUTPUT, *scores, "prediction_id", *tail])
        members = ["bundle", "outputs", _OUTPUT, *scores, "latency_us", "row"]
        self._record = _struct("Record", ["prediction_id", "time", *tail, *members])
        self._constants = (predictor.model, version, "model")
        self._bundle = predictor.bundle
        self._encoder = msgspec.json.Encoder()

    def answers(self, answers: Sequence[Answer], ids: Sequence[str]) -> bytes:
        """Return the JSON list of answers that the model gave and nobody has a word to say of."""
        predictions, scores = self._columns(answers)
        constants = map(repeat, self._constants)
        return self._encoder.encode(list(map(self._answer, predictions, *scores, ids, *constants)))

    def records(
        self,
        answers: Sequence[Answer],
        ids: Sequence[str],
        at: str,
        microseconds: int,
        rows: Sequence[tuple[Any, ...]],
    ) -> list[bytes]:
        """Return the log's records of such answers."""
        predictions, scores = self._columns(answers)
        columns = list(zip(*rows, strict=True))
        found = map(
            self._record,
            ids,
            repeat(at),
            *map(repeat, self._constants),
            repeat(self._bundle),
            map(self._outputs_of, predictions),
            predictions,
            *scores,
            repeat(microseconds),
            map(self._row, *[columns[i] for i in self._places]),
        )
        return self._encoder.encode_lines(list(found)).split(b"\n")[:-1]

    def _outputs_of(self, prediction: Any) -> list[msgspec.Struct]:
        known = self._outputs.get(prediction)
        return [self._output(_OUTPUT, prediction)] if known is None else known

    def _columns(self, answers: Sequence[Answer]) -> tuple[Sequence[Any], list[Any]]:
        predictions, scores = zip(*answers, strict=True)
        return predictions, [] if self._scores is None else [
            map(self._scores, *zip(*scores, strict=True))
        ]


def _scores(keys: Sequence[str]) -> Callable[..., Any]:
    """Return what makes probabilities of one number a class."""
    if any(not _PLAIN.fullmatch(key) for key in keys):
        return lambda *numbers: dict(zip(keys, numbers, strict=True))
    return _struct("Probabilities", keys)


def _struct(name: str, members: Sequence[str]) -> type[msgspec.Struct]:
    """Return a type with such members in JSON; its own are numbered, so that any name is safe."""
    names = {f"f{i}": member for i, member in enumerate(members)}
    return msgspec.defstruct(name, list(names), rename=names, gc=False)
