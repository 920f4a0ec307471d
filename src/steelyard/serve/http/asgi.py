"""The front: the prediction route answered in place, everything else by an ordinary application."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, Final, TypeVar

import msgspec

from steelyard.core.validation import RowLimitError
from steelyard.errors import InputError, LogFullError, SteelyardError, nearest
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.batches import Batches, BusyError
from steelyard.serve.answer.calls import ModelError
from steelyard.serve.answer.endpoint import Asked, Endpoint, Steps, in_rows
from steelyard.serve.answer.idempotency import KeptAnswers, request_key
from steelyard.serve.answer.terms import USUAL, Terms
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.observe.metrics import Metrics
from steelyard.serve.observe.tracing import Tracing, following
from steelyard.serve.secure.access import (
    Access,
    ForbiddenError,
    UnauthenticatedError,
    scope_of,
)
from steelyard.serve.secure.browsers import is_unasked
from steelyard.serve.tables.bodies import Tables, TableTooLargeError
from steelyard.serve.tables.forms import (
    PLAIN_FORMS,
    Forms,
    MediaTypeError,
    NotAcceptableError,
    forms_of,
)

__all__ = [
    "CLIENT_GONE",
    "TIMEOUT",
    "Application",
    "BodyTooLargeError",
    "ClientGoneError",
    "Front",
    "Headers",
    "MediaTypeError",
    "problem",
    "status_of",
    "timeout_of",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
T = TypeVar("T")

_log = logging.getLogger(__name__)

_JSON: Final = b"application/json"
_PREFIX: Final = "/predict/"
_ROUTE: Final = "/predict"
_TURNS: Final = 3
"""Turns of the loop in which a single row is read, answered and sent."""
_RETRY: Final = ((b"retry-after", b"1"),)
_CLOSE: Final = ((b"connection", b"close"),)
_ALLOW: Final = ((b"allow", b"POST"),)
# Browsers ask a person for a name and a password at the sight of Basic; the password is the key.
_WHO: Final = (
    (b"www-authenticate", b'Bearer realm="steelyard"'),
    (b"www-authenticate", b'Basic realm="steelyard", charset="UTF-8"'),
)
_MORE: Final = ((b"www-authenticate", b'Bearer realm="steelyard", error="insufficient_scope"'),)
_SHOWN: Final = 100
_LONGEST_MS: Final = 3_600_000
TIMEOUT: Final = b"steelyard-timeout-ms"
CLIENT_GONE: Final = 499
"""What the counters show where nobody waits for the answer any more."""
_ROUTES: Final = (
    _ROUTE, "/v2", "/v1", "/invocations", "/ping", "/health", "/metrics", "/openapi.json", "/docs",
)  # fmt: skip


class BodyTooLargeError(SteelyardError):
    """A request's body is larger than the server takes."""


# The rest of a body that is too large is not read; its connection cannot be used again.
_STATUSES: Final[dict[type[SteelyardError], tuple[int, Headers]]] = {
    RowLimitError: (413, ()),
    BodyTooLargeError: (413, _CLOSE),
    TableTooLargeError: (413, ()),
    MediaTypeError: (415, ()),
    NotAcceptableError: (406, ()),
    BusyError: (503, _RETRY),
    LogFullError: (503, _RETRY),
    UnauthenticatedError: (401, _WHO),
    ForbiddenError: (403, _MORE),
}


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


def problem(message: str) -> bytes:
    """Return the JSON of an error that is not about a field.

    >>> problem("no such model")
    b'{"error":"no such model"}'
    """
    return msgspec.json.encode({"error": message})


_FAILED: Final = "the server failed; its log says why"


class Front:
    """An ASGI application: `POST /predict/{model}` without a framework, the rest by `pages`.

    `connections` says how many clients are connected, `access` who may ask.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        metrics: Metrics,
        pages: Callable[["Front"], Application],
        connections: Callable[[], int],
        access: Access | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.metrics = metrics
        self.limits = endpoint.limits
        self.access = access or Access(None)
        self.draining = False
        self.told: Application | None = None
        """What stands before this one where every request is told of; it closes the short way."""
        self.names: dict[str, str] = {}
        """What the counters call paths that whoever starts the server chose."""
        self.tracing: Tracing | None = None
        self.route = _PREFIX + endpoint.model
        self.batches = Batches(endpoint, connections)
        self.kept = KeptAnswers()
        self._make_pages = pages
        self._pages: Application | None = None
        self.tables = Tables(endpoint, self.in_turn)
        self._turn = asyncio.Lock()
        self._waiting = 0
        metrics.watch("waiting_rows", lambda: self.batches.waiting)
        metrics.watch("waiting_requests", lambda: self._waiting)
        metrics.watch("connections", connections)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        if scope["type"] == "http":
            refused = self._barred(scope)
            if refused is not None:
                return self._respond(scope, send, *_refusal(refused))
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            if scope["path"] == self.route and scope["method"] == "POST":
                return self._predict(scope, receive, send)
            return self._respond(scope, send, *self._misplaced(scope))
        if self._pages is None:
            self._pages = self._make_pages(self)
        return self._pages(scope, receive, self._counted(scope, send))

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome: bytes | Exception
        forms = PLAIN_FORMS
        try:
            forms = forms_of(scope["headers"])
            body = await self.body(scope, receive)
            given = scope["headers"]
            terms = Terms(timeout_of(given), request_key(given), following())
            answer = partial(self._answer, body, forms, terms)
            # The same rows, wanted in another form, are another request.
            asked = body if forms is PLAIN_FORMS else body + forms.wanted.value
            outcome = await (self.kept.once(terms.key, asked, answer) if terms.key else answer())
        except ClientGoneError:
            self.metrics.responded(_ROUTE, CLIENT_GONE)
            return
        except Exception as error:  # noqa: BLE001  # goes to the client, like any answer
            outcome = error
        status, told, headers = self.response(outcome)
        form = forms.wanted.value if isinstance(outcome, bytes) else _JSON
        # An error holds this frame, and with it all that was read, for as long as the frame holds it.
        del outcome
        await send(_start(status, len(told), headers, form))
        await send({"type": "http.response.body", "body": told})

    async def _answer(self, body: bytes, forms: Forms, terms: Terms) -> bytes:
        begun = perf_counter_ns()
        if forms is not PLAIN_FORMS:
            answer = await self.tables.answer(body, forms, terms)
        else:
            asked = self.endpoint.ask(body, terms)
            if isinstance(asked, Asked):
                one: bytes = await self.batches.answer(asked)
                return one
            answer = await self.in_turn(asked)
        self.metrics.requested(_ROUTE, perf_counter_ns() - begun)
        return answer

    def response(self, outcome: bytes | Exception) -> tuple[int, bytes, Headers]:
        """Return the status, body and further headers of a prediction's response, and count it."""
        if isinstance(outcome, bytes):
            found: tuple[int, bytes, Headers] = 200, outcome, ()
        else:
            found = _refusal(outcome)
        self.metrics.responded(_ROUTE, found[0])
        return found

    def _misplaced(self, scope: Scope) -> tuple[int, bytes, Headers]:
        """Return what to say of a request that is below the prediction route and none for it."""
        if scope["path"] == self.route:
            return 405, problem("use POST"), _ALLOW
        name = scope["path"][len(_PREFIX) :][:_SHOWN]
        hint = nearest(name, [self.endpoint.model])
        return 404, problem(f"no model {name!r} here. {hint}"), ()

    def _barred(self, scope: Scope) -> SteelyardError | None:
        """Return why a request may not be answered to whoever sent it."""
        if scope["method"] == "POST" and is_unasked(scope["headers"]):
            return MediaTypeError("name the body's type: a browser's request needs a Content-Type")
        if not self.access.on or self.access.is_open(scope["method"], scope["path"]):
            return None
        client = (scope.get("client") or ("",))[0]
        needed = scope_of(scope["path"])
        try:
            self.access.authorise(scope["headers"], needed, self.endpoint.model, client)
        except (UnauthenticatedError, ForbiddenError) as error:
            return error
        return None

    async def _respond(
        self, scope: Scope, send: Send, status: int, body: bytes, headers: Headers
    ) -> None:
        send = self._counted(scope, send, timed=False)
        await send(_start(status, len(body), headers))
        await send({"type": "http.response.body", "body": body})

    async def body(self, scope: Scope, receive: Receive) -> bytes:
        """Return a request's body in one piece; reads no more than the limit.

        Raises BodyTooLargeError, ClientGoneError.
        """
        # What the client declares is refused before it is read, or sent.
        self._check_size(_declared_size(scope["headers"]))
        message = await receive()
        body = _whole_body(message, self.limits.body_bytes)
        return await self._gathered(message, receive) if body is None else body

    async def _gathered(self, message: Message, receive: Receive) -> bytes:
        """Return the body that `message` begins."""
        parts: list[bytes] = []
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            self._check_size(sum(map(len, parts)))
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await receive()

    def _check_size(self, size: int) -> None:
        if size > self.limits.body_bytes:
            limit = self.limits.body_bytes
            raise BodyTooLargeError(f"at most {limit} bytes are taken at once")

    async def answer(
        self,
        loaded: LoadedVersion,
        rows: Sequence[Mapping[str, Any]],
        terms: Terms = USUAL,
    ) -> list[Answered]:
        """Answer the rows of any contract as the native route would, log included.

        Raises InputError with every bad field, BusyError, LogFullError, ModelError.
        """
        if len(rows) == 1:
            try:
                asked = self.endpoint.ask_row(loaded, rows[0], terms)
                return [await self.batches.answer(asked)]
            except InputError as error:
                raise in_rows(0, error) from None
        return await self.in_turn(self.endpoint.answer_rows(loaded, rows, terms))

    async def in_turn(self, steps: Steps[T]) -> T:
        """Run the steps of a request of several rows, one such request after the other.

        Between two steps single rows are answered. Raises BusyError where too many wait already,
        and what the steps raise.
        """
        if self._waiting >= self.limits.row_requests:
            raise BusyError("too many requests of several rows at once; send this one again")
        self._waiting += 1
        try:
            async with self._turn:
                found: Any = None
                while True:
                    try:
                        step = steps.send(found)
                    except StopIteration as done:
                        result: T = done.value
                        return result
                    found = None if step is None else await step
                    for _ in range(_TURNS):
                        await asyncio.sleep(0)
        finally:
            self._waiting -= 1

    def _counted(self, scope: Scope, send: Send, timed: bool = True) -> Send:
        """Return `send` that counts the responses of what is not the prediction route."""
        path, begun = scope.get("path", ""), perf_counter_ns()
        route = self.names.get(path) or _route_of(path)

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responded(route, message["status"])
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and timed:
                self.metrics.requested(route, perf_counter_ns() - begun)

        return counting


def _route_of(path: str) -> str:
    return next((r for r in _ROUTES if path == r or path.startswith(f"{r}/")), "other")


def _start(status: int, length: int, headers: Headers, form: bytes = _JSON) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", form), (b"content-length", b"%d" % length), *headers],
    }


def _refusal(error: Exception) -> tuple[int, bytes, Headers]:
    """Return status, body and headers of the response that an error is."""
    if isinstance(error, InputError) and not isinstance(error, RowLimitError):
        return 422, msgspec.json.encode({"errors": error.errors}), ()
    status, message, headers = status_of(error)
    return status, problem(message), headers


def status_of(error: Exception) -> tuple[int, str, Headers]:
    """Return status, message and headers of what is refused or fails in every contract alike."""
    if isinstance(error, ModelError) and error.reason != "failed":
        return 503, str(error), _RETRY
    for kind, (status, headers) in _STATUSES.items():
        if isinstance(error, kind):
            return status, str(error), headers
    # The process's edge: one request may fail, the server goes on.
    if isinstance(error, ModelError):
        pass  # told already, with its cause
    elif isinstance(error, SteelyardError):
        _log.error("A request could not be answered: %s", error)
    else:
        _log.error("A request could not be answered.", exc_info=error)
    return 500, _FAILED, ()


def _whole_body(message: Message, limit: int) -> bytes | None:
    """Return the body where a message holds all of it, and it is not too large."""
    body: bytes = message.get("body", b"")
    whole = message["type"] == "http.request" and not message.get("more_body", False)
    return body if whole and len(body) <= limit else None


def timeout_of(headers: Headers) -> int | None:
    """Return the milliseconds that a request gives its answer, if it says. Raises InputError."""
    for name, value in headers:
        if name == TIMEOUT:
            if value.isdigit() and 0 < int(value) <= _LONGEST_MS:
                return int(value)
            message = f"expected milliseconds from 1 to {_LONGEST_MS}"
            got = value[:_SHOWN].decode("latin-1")
            raise InputError([{"field": "Steelyard-Timeout-Ms", "message": message, "got": got}])
    return None


def _declared_size(headers: Headers) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
