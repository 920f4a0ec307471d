"""What a client is given: predictions, and what the server says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

__all__ = ["CLIENT_FALLBACK", "Prediction", "Service"]

CLIENT_FALLBACK: Final = "client-fallback"


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as the server logged it; or the client's own fallback, which is marked.

    `source` says what answered: `model`, `fallback` (the server's) or `client-fallback`; `reason`
    why it was not the model. `probabilities` are by the labels' strings, for classifiers; `flags`
    say what is odd about the row. `version` is None where no server was reached.
    """

    prediction: str | int | bool | float
    prediction_id: str
    model: str
    version: int | None
    source: str
    probabilities: dict[str, float] | None = None
    flags: tuple[str | dict[str, Any], ...] = ()
    reason: str = ""


class Predictions(msgspec.Struct, frozen=True):
    """The body of an answer to several rows."""

    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class Service:
    """What a server offers: the model's name and version, a row's JSON Schema, rows a request.

    `tables` says whether it takes Arrow streams.
    """

    model: str
    version: int
    row: Mapping[str, Any]
    max_rows: int
    tables: bool
