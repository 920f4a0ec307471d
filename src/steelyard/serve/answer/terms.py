"""What a request says beside its rows."""

from typing import Final, NamedTuple

__all__ = ["USUAL", "Terms"]


class Terms(NamedTuple):
    """The milliseconds that a request gives its answer, where it says; and the id that it chose.

    `key` is the id of the one row's prediction; ids of several rows are made from it.
    """

    timeout_ms: int | None = None
    key: str = ""


USUAL: Final = Terms()
