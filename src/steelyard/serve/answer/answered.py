"""An answer as any wire contract needs it."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self

from steelyard.bundle.predictor import Answer
from steelyard.core.answers import Flag

__all__ = ["PLAIN", "Answered", "Mark", "Source"]

Source = Literal["model", "fallback"]


class Mark(NamedTuple):
    """What an answer says of how it came about.

    `reason` says why the fallback answered, where it did; `flags` what is odd about the row.
    """

    source: Source = "model"
    reason: str = ""
    flags: tuple[Flag, ...] = ()


PLAIN: Final = Mark()


@dataclass(frozen=True, slots=True)
class Answered:
    """A prediction that is in the log: `probabilities` in the order of the model's classes.

    The rest is as in `Mark`.
    """

    prediction: str | int | bool | float
    probabilities: list[float] | None
    prediction_id: str
    source: Source = "model"
    reason: str = ""
    flags: tuple[Flag, ...] = ()

    @classmethod
    def of(cls, answer: Answer, prediction_id: str, mark: Mark) -> Self:
        """Return an answer of a model, or of a fallback, under its id."""
        return cls(*answer, prediction_id, mark.source, mark.reason, mark.flags)
