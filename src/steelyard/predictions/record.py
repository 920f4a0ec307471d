"""One logged prediction: the keys of its JSON document."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from steelyard.core.answers import Flag

__all__ = ["Output", "Record"]


class Output(msgspec.Struct, frozen=True):
    """One named output of a model and its value."""

    name: str
    value: Any


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of one answered prediction.

    The server writes these keys as one line of JSON; unknown keys are ignored here and kept by
    compaction, so that a newer server's records survive an older reader.
    """

    prediction_id: str
    """UUIDv7, made by the server that answered, or by the client as the key of its request."""
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    """When it answered: RFC 3339, UTC, microseconds."""
    model: str
    version: int
    bundle: str
    """Hash of the bundle that answered."""
    source: str
    """What answered: `model`, or the name of a fallback."""
    row: dict[str, Any]
    """The row as it was asked; fields marked private are absent."""
    outputs: list[Output]
    prediction: Any
    probabilities: dict[str, float] | None = None
    flags: list[Flag] | None = None
    """What the guards had to say: an unseen category, a value out of the trained range."""
    key: Any = None
    """The row's key in the user's own data, for joining outcomes."""
    latency_us: float | None = None
    """Microseconds from the request's last byte to the record."""
    trace_id: str = ""
    """The trace that the request belongs to, in hexadecimal, where the server traces."""


class Identity(msgspec.Struct, frozen=True):
    """The one key that ordering and lookup need; the rest of the document is skipped."""

    prediction_id: str


decode_record = msgspec.json.Decoder(Record).decode
decode_identity = msgspec.json.Decoder(Identity).decode


def latest(same: Iterable[Record]) -> Record:
    """Return the one of the records with one id that counts: the latest answer.

    A client asks again, under the same id, only while it has no answer; so the last is the one that
    it has. The choice depends on nothing but the records, so that compaction does not change it.
    """
    first, *others = same
    if not others:
        return first
    return max((first, *others), key=lambda record: (record.time, msgspec.json.encode(record)))
