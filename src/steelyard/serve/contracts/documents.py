"""Answers as several contracts write them; a mark is never lost on the way."""

from collections.abc import Sequence
from typing import Any

import msgspec

from steelyard.core.answers import class_keys
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion

__all__ = ["marks_of", "parameters_of", "prediction_document"]


def prediction_document(loaded: LoadedVersion, answered: Answered) -> dict[str, Any]:
    """Return an answer as the native route gives it."""
    document: dict[str, Any] = {"prediction": answered.prediction}
    classes = loaded.predictor.classes
    if answered.probabilities is not None and classes is not None:
        document["probabilities"] = dict(
            zip(class_keys(classes), answered.probabilities, strict=True)
        )
    return document | {
        "prediction_id": answered.prediction_id,
        "model": loaded.predictor.model,
        "version": loaded.served.version,
        **_mark(answered),
    }


def _mark(answered: Answered) -> dict[str, Any]:
    mark: dict[str, Any] = {"source": answered.source}
    if answered.reason:
        mark["reason"] = answered.reason
    if answered.flags:
        mark["flags"] = list(answered.flags)
    return mark


def marks_of(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """Return `{row, source, reason?, flags?}` of the fallback's answers and of odd rows.

    >>> marks_of([Answered(1.5, None, "a"), Answered(2.5, None, "b", "fallback", "late")])
    [{'row': 1, 'source': 'fallback', 'reason': 'late'}]
    """
    return [
        {"row": row, **_mark(answered)}
        for row, answered in enumerate(answers)
        if answered.flags or answered.source != "model"
    ]


def parameters_of(answers: Sequence[Answered]) -> dict[str, str]:
    """Return the parameters of a v2 response, which are texts: the ids, and marks where any are.

    >>> parameters_of([Answered(1.5, None, "a"), Answered(2.5, None, "b", "fallback")])
    {'prediction_ids': 'a,b', 'marks': '[{"row":1,"source":"fallback"}]'}
    """
    parameters = {"prediction_ids": ",".join(answered.prediction_id for answered in answers)}
    if marks := marks_of(answers):
        parameters["marks"] = msgspec.json.encode(marks).decode()
    return parameters
