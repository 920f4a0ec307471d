"""The one form of an answered prediction, offline and served."""

from collections.abc import Sequence
from typing import Any

from steelyard.core.records import Version

__all__ = ["answer_document", "class_keys"]


def answer_document(
    answer: tuple[Any, Sequence[float] | None],
    classes: Sequence[str | int | bool] | None,
    prediction_id: str,
    version: Version,
) -> dict[str, Any]:
    """Return a prediction as a document; keys of `probabilities` are the labels' strings."""
    prediction, scores = answer
    document: dict[str, Any] = {"prediction": prediction}
    if scores is not None and classes is not None:
        document["probabilities"] = dict(zip(class_keys(classes), scores, strict=True))
    document |= {
        "prediction_id": prediction_id,
        "model": version.model,
        "version": version.number,
        "source": "model",
    }
    return document


def class_keys(classes: Sequence[str | int | bool]) -> list[str]:
    """Return the keys of probabilities: the labels' strings.

    >>> class_keys([False, True]), class_keys([1, 2])
    (['False', 'True'], ['1', '2'])
    """
    return [str(label) for label in classes]
