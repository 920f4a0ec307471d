"""What a request says beside its rows."""

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from steelyard.serve.observe.tracing import RequestTrace

__all__ = ["USUAL", "Terms"]


class Terms(NamedTuple):
    """The milliseconds that a request gives its answer, where it says; and the id that it chose.

    `key` is the id of the one row's prediction; ids of several rows are made from it. `trace` is
    there where the request is traced.
    """

    timeout_ms: int | None = None
    key: str = ""
    trace: "RequestTrace | None" = None


USUAL: Final = Terms()
