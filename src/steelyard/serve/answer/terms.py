"""What a request says beside its rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from steelyard.serve.observe.tracing import RequestTrace

__all__ = ["TRACE", "USUAL", "Terms", "trace_of"]

TRACE: Final = "steelyard.trace"
"""Where the scope of a request has what follows it."""


class Terms(NamedTuple):
    """The milliseconds that a request gives its answer, where it says; and the id that it chose.

    `key` is the id of the one row's prediction; ids of several rows are made from it. `trace` is
    there where the request is traced.
    """

    timeout_ms: int | None = None
    key: str = ""
    trace: "RequestTrace | None" = None


USUAL: Final = Terms()


def trace_of(scope: Mapping[str, Any]) -> "RequestTrace | None":
    """Return what follows a request, where it is traced."""
    found: RequestTrace | None = scope.get(TRACE)
    return found
