"""The one form of an answered prediction, offline and served."""

from collections.abc import Sequence
from typing import Any

import msgspec

from steelyard.core.records import Version

__all__ = ["Flag", "answer_document", "class_keys"]


class Flag(msgspec.Struct, frozen=True):
    """What a guard had to say of a row or its answer; `rule` and `field` are made to be counted.

    The same rule of the same field has the same message, which never holds a row's value.
    """

    field: str
    rule: str
    message: str


def answer_document(
    answer: tuple[Any, Sequence[float] | None],
    classes: Sequence[str | int | bool] | None,
    prediction_id: str,
    version: Version,
    flags: Sequence[Flag] = (),
    reason: str = "",
) -> dict[str, Any]:
    """Return a prediction as a document; keys of `probabilities` are the labels' strings.

    `reason` says why the fallback answered, and is there where it did; so are `flags`.
    """
    prediction, scores = answer
    document: dict[str, Any] = {"prediction": prediction}
    if scores is not None and classes is not None:
        document["probabilities"] = dict(zip(class_keys(classes), scores, strict=True))
    document |= {
        "prediction_id": prediction_id,
        "model": version.model,
        "version": version.number,
        "source": "fallback" if reason else "model",
    }
    if reason:
        document["reason"] = reason
    if flags:
        document["flags"] = [msgspec.structs.asdict(flag) for flag in flags]
    return document


def class_keys(classes: Sequence[str | int | bool]) -> list[str]:
    """Return the keys of probabilities: the labels' strings.

    >>> class_keys([False, True]), class_keys([1, 2])
    (['False', 'True'], ['1', '2'])
    """
    return [str(label) for label in classes]
