"""Checks with their evidence as plain values: what a person reads and JSON can hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from steelyard.core.fields import FieldSpec
from steelyard.core.records import Check

__all__ = ["found", "percent", "plain", "plain_check", "public_rows"]

_LONGEST: Final = 500
_ROWS: Final = 5


def found(
    gate: str,
    name: str,
    passed: bool,
    message: str,
    *,
    value: float | str | None = None,
    threshold: float | str | None = None,
    flagged: bool = False,
    **evidence: Any,
) -> Check:
    """Return a check whose evidence opens with one sentence for people."""
    return Check(
        gate,
        name,
        bool(passed),
        value,
        threshold,
        {"message": message, **evidence},
        flagged=bool(flagged),
    )


def percent(share: float) -> str:
    """Return a share as people write it.

    >>> percent(0.25), percent(0.00012), percent(0.0)
    ('25 %', '0.012 %', '0 %')
    """
    return f"{100 * share:.3g} %"


def plain(value: Any) -> Any:
    """Return a value of JSON: NumPy's become Python's, NaN None, infinities words, texts bounded.

    >>> plain({"a": np.float64(0.5), "b": (np.int64(1), float("nan"))})
    {'a': 0.5, 'b': [1, None]}
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        value = None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    # A lone surrogate has no bytes, and a verdict is hashed by its bytes.
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def plain_check(check: Check) -> Check:
    """Return a check that JSON can hold."""
    return replace(
        check,
        value=plain(check.value),
        threshold=plain(check.threshold),
        evidence=plain(check.evidence),
    )


def public_rows(
    fields: Sequence[FieldSpec], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return rows as evidence: at most five, private fields left out, long texts cut."""
    private = {field.name for field in fields if field.private}
    return [
        {
            name: value[:40] if isinstance(value, str) else value
            for name, value in row.items()
            if name not in private
        }
        for row in rows[:_ROWS]
    ]
