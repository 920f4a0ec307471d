"""Valid requests for every route of a server: those of the conformance suites, and its OpenAPI's.

A route that the OpenAPI document lists is fuzzed whether or not a suite knows it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from steelyard.errors import UsageError
from steelyard.testing.conformance import CONTRACTS
from steelyard.testing.conformance.grpc_messages import message
from steelyard.testing.conformance.samples import made_rows, openapi, schema_at, served_model
from steelyard.testing.conformance.suite import Row
from steelyard.testing.conformance.talk import Reply, Talk
from steelyard.testing.conformance.v2_grpc_subject import learn
from steelyard.testing.fuzz.requests import Request

__all__ = ["Call", "grpc_seeds", "http_seeds", "known_rows"]

Call = tuple[str, bytes]
"""A method of gRPC and the bytes of its message."""

_NOT_HERE: Final = ("lambda", "v2-grpc")
"""Contracts that are not asked over HTTP/1.1 as it stands."""
_LARGEST: Final = 64 * 1024
_LARGEST_SENT: Final = 1 << 20
_TOO_LARGE: Final = 413
_EACH: Final = 8
"""Requests of a route and a type that are kept, each with another body."""
_GOOD: Final = range(200, 300)
_HOLE: Final = re.compile(r"\{[^}]*\}")
_HOP: Final = frozenset(["host", "content-length", "connection"])


class _Recorder(Talk):
    """Remembers the requests that were answered well."""

    def keep(self, found: list[Request]) -> None:
        self._found = found
        self._counts: Counter[tuple[str, ...]] = Counter()

    def request(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: Any = None,
    ) -> Reply:
        if len(body or b"") > _LARGEST_SENT:
            return Reply(_TOO_LARGE, {}, b"")  # no seed whatever would come
        reply = super().request(method, route, body, headers, connection)
        given = {**self.headers, **(headers or {})}
        kind = (method, route, *(f"{k}: {v}" for k, v in sorted(given.items())))
        if reply.status in _GOOD and len(body or b"") <= _LARGEST and self._counts[kind] < _EACH:
            made = _request(self.url, method, route, given, body or b"")
            if made not in self._found:
                self._counts[kind] += 1
                self._found.append(made)
        return reply


def http_seeds(
    url: str,
    *,
    model: str | None = None,
    rows: Sequence[Row] | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[Request]:
    """Return valid requests for a server, at least one for each route that it says it has.

    Raises UsageError where no server answers, or nothing is known of what it answers.
    """
    found: list[Request] = []
    talk = _Recorder(url, dict(headers or {}))
    talk.keep(found)
    document = openapi(talk)
    for contract, suite in CONTRACTS.items():
        if contract not in _NOT_HERE:
            with suppress(UsageError):  # the server does not speak it
                suite.run(talk, model, None if rows is None else list(rows))
    found += _described(url, document, dict(headers or {}), found)
    if not found:
        raise UsageError(
            f"{url} answers no contract and has no OpenAPI document.",
            fix="Name --model and --rows, or start the server.",
        )
    return found


def known_rows(url: str, headers: Mapping[str, str] | None = None) -> tuple[str, list[Row]]:
    """Return the model of a server and rows that it takes, as its OpenAPI document tells them.

    Raises UsageError where it does not.
    """
    document = openapi(Talk(url, dict(headers or {})))
    model = served_model(document)
    if model is None:
        raise UsageError(f"{url} does not tell its model.", fix="Name --model and --rows.")
    return model, made_rows(schema_at(document, f"/predict/{model}") or {})


def _described(
    url: str, document: Mapping[str, Any], headers: dict[str, str], known: Sequence[Request]
) -> list[Request]:
    """Return a request for each operation of an OpenAPI document, of each type, that is not known."""
    found = []
    for path, operations in document.get("paths", {}).items():
        route = _HOLE.sub("1", path)
        for method, operation in operations.items():
            if not isinstance(operation, dict):
                continue  # what a path's operations have in common
            content = operation.get("requestBody", {}).get("content") or {"": {}}
            for kind in content:
                typed = {**headers, "Content-Type": kind} if kind else headers
                made = _request(url, method.upper(), route, typed, b"{}" if kind else b"")
                same = (made.method, made.target, made.header(b"content-type"))
                if all(same != (r.method, r.target, r.header(b"content-type")) for r in known):
                    found.append(made)
    return found


def _request(url: str, method: str, route: str, headers: Mapping[str, str], body: bytes) -> Request:
    base = urlsplit(url).path.rstrip("/")
    lines = [(k.lower().encode(), v.encode()) for k, v in headers.items() if k.lower() not in _HOP]
    return Request(method.encode(), (base + route).encode(), lines, body)


def grpc_seeds(
    url: str,
    model: str,
    rows: Sequence[Row] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> list[Call]:
    """Return valid calls of the Open Inference Protocol. Raises UsageError where nothing answers."""
    subject = learn(Talk(url, dict(headers or {})), model, None if rows is None else list(rows))
    calls = [
        *[(f"Server{what}", message(f"Server{what}Request")()) for what in ("Live", "Ready", "Metadata")],
        *[(f"Model{what}", message(f"Model{what}Request")(name=model)) for what in ("Ready", "Metadata")],
        *[
            ("ModelInfer", subject.request(subject.rows[:count], raw=raw))
            for raw in (False, True)
            for count in ((1, len(subject.rows)) if subject.batched else (1,))
        ],
    ]  # fmt: skip
    subject.channel.close()
    return [(method, made.SerializeToString()) for method, made in calls]
