"""An answer as any wire contract needs it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Answered", "Source"]

Source = Literal["model", "fallback"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A prediction that is in the log: `probabilities` in the order of the model's classes.

    `reason` says why the fallback answered, where it did; `flags` what is odd about the row.
    """

    prediction: str | int | bool | float
    probabilities: list[float] | None
    prediction_id: str
    source: Source = "model"
    reason: str = ""
    flags: tuple[str, ...] = ()
