"""Cases about requests that a server has to refuse, whatever its contract."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from steelyard.testing.conformance.suite import Subject, Suite
from steelyard.testing.conformance.talk import ClosedError, Reply, expect

__all__ = ["BODIES", "add_hostile_cases", "error_text"]

S = TypeVar("S", bound=Subject)

BODIES: Final[dict[str, bytes]] = {
    "empty": b"",
    "no JSON": b"rows, please",
    "cut off": b'{"inputs": [{"name": "a", "sh',
    "null": b"null",
    "a number": b"5",
    "a text": b'"row"',
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "nested too deep": b"[" * 100_000,
}
_LARGE: Final = 32 * 1024 * 1024
_IMPLEMENTED: Final = 501


def error_text(name: str) -> Callable[[Reply], None]:
    """Return a check that a refusal is a JSON object whose `name` holds a text."""

    def check(reply: Reply) -> None:
        found = reply.object(name)[name]
        expect(isinstance(found, str) and bool(found), f"{reply}: {name} is no text")

    return check


def add_hostile_cases(
    suite: Suite[S],
    route: Callable[[S], str],
    form: str,
    check: Callable[[Reply], object],
    good: Callable[[S], Any],
) -> None:
    """Add requests to the prediction route that are to be refused.

    `form` says what a refusal's body is and `check` judges it; `good` is a document that is taken.
    """
    demand = f"4xx{form}: the mistake is the client's (RFC 9110)."

    def add(name: str, body: bytes) -> None:
        @suite.case(f"malformed body: {name}", demand)
        def malformed(subject: S) -> None:
            check(subject.talk.post(route(subject), body).refused())

    for name, body in BODIES.items():
        add(name, body)

    @suite.case(
        "a charset is no other type", "application/json; charset=utf-8 is JSON and answered (200)."
    )
    def charset(subject: S) -> None:
        kind = "application/json; charset=utf-8"
        subject.talk.post(route(subject), good(subject), {"Content-Type": kind}).must(200)

    for method in ("GET", "HEAD", "PUT", "DELETE"):
        _add_method(suite, route, method)

    @suite.case(
        "a large malformed body",
        "32 MiB that end in no JSON are refused with 4xx, or by closing the connection; the server "
        "goes on.",
    )
    def large(subject: S) -> None:
        talk = subject.talk
        with suppress(ClosedError):  # RFC 9110 lets a server close rather than read on
            talk.post(route(subject), b'{"a": "' + b"x" * _LARGE + b'", ').refused()
        talk.post(route(subject), good(subject)).must(200)

    @suite.case(
        "a connection is used again", "Two requests over one connection are both answered (200)."
    )
    def kept(subject: S) -> None:
        connection = subject.talk.connection()
        try:
            for _ in range(2):
                subject.talk.post(route(subject), good(subject), connection=connection).must(200)
        finally:
            connection.close()


def _add_method(suite: Suite[S], route: Callable[[S], str], method: str) -> None:
    @suite.case(
        f"{method} on the prediction route",
        "4xx, as 405 with Allow, or 501 (RFC 9110).",
    )
    def refused(subject: S) -> None:
        reply = subject.talk.request(method, route(subject))
        if reply.status != _IMPLEMENTED:
            reply.refused()
        expect(reply.status != 405 or "allow" in reply.headers, f"{reply}: 405 without Allow")
