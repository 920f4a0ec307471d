"""Requests to the server under test, by the standard library, and what came back."""

import http.client
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from steelyard.errors import UsageError

__all__ = ["ClosedError", "Reply", "Talk", "Violation", "expect", "shown"]

_SHOWN: Final = 300
_SCHEMES: Final = ("http", "https", "grpc", "grpcs")
_JSON: Final = "application/json"


class Violation(Exception):
    """A server did something else than its contract demands; the message says what came."""


class ClosedError(Violation):
    """A connection ended before an answer came."""


def expect(condition: bool, got: str) -> None:
    """Raise Violation with what came where a demand is not met."""
    if not condition:
        raise Violation(got)


def shown(value: bytes | str) -> str:
    r"""Return a text as a report shows it: on one line, of bounded length.

    >>> shown(b'{"a":\n1}')
    '{"a": 1}'
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    text = " ".join(text[: 2 * _SHOWN].split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: its status, its headers by their names in lower case, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {shown(self.body)}".strip()

    def must(self, *statuses: int) -> "Reply":
        """Return the reply itself. Raises Violation where its status is another."""
        expect(self.status in statuses, str(self))
        return self

    def refused(self) -> "Reply":
        """Return the reply itself. Raises Violation where the client is not told its mistake."""
        expect(400 <= self.status < 500, str(self))
        return self

    @property
    def document(self) -> Any:
        """The body as JSON. Raises Violation where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Violation(f"{self}: the body is no JSON") from None

    def object(self, *names: str) -> dict[str, Any]:
        """Return the body as a JSON object that has certain members. Raises Violation."""
        found = self.document
        expect(isinstance(found, dict), f"{self}: the body is no JSON object")
        missing = [name for name in names if name not in found]
        expect(not missing, f"{self}: without {', '.join(missing)}")
        return dict(found)


@dataclass(slots=True)
class Talk:
    """Talks to a base URL; remembers, as text, what was `sent` last and what `came`.

    Each request has a connection of its own. `headers` go with every request.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 30
    sent: str = ""
    came: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise UsageError(
                f"{self.url} is no base URL.", fix="Give one such as http://127.0.0.1:8000."
            )

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection, not yet open."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else None
        return (kind or http.client.HTTPConnection)(
            parts.hostname or "", parts.port, timeout=self.seconds
        )

    def get(self, route: str) -> Reply:
        """Send GET. Raises Violation where no answer comes."""
        return self.request("GET", route)

    def post(
        self,
        route: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Reply:
        """Send POST with bytes, or with a document as JSON. Raises Violation as `request` does."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": _JSON, **(headers or {})}
        return self.request("POST", route, data, given, connection)

    def request(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Reply:
        """Send a request, over a connection that is open where one is given; read its response.

        Raises Violation where there is none in time, ClosedError where the connection ends first.
        """
        given = {**self.headers, **(headers or {})}
        kind = given.get("Content-Type", _JSON)
        declared = "" if kind == _JSON else f" [{kind}]"
        self.sent = f"{method} {route}{declared} {shown((body or b'')[:1000])}".strip()
        self.came = ""
        opened = connection or self.connection()
        try:
            self.came = str(reply := self._exchanged(opened, method, route, body, given))
            return reply
        finally:
            if connection is None:
                opened.close()

    def _exchanged(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        route: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Reply:
        path = urlsplit(self.url).path.rstrip("/") + route
        try:
            # A server may answer, and close, before it has read a body to its end.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        except TimeoutError:
            raise Violation(f"no answer within {self.seconds:g} seconds") from None
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise ClosedError(f"the connection ended without an answer: {why}") from None
