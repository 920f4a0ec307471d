"""HTTP/1.1 for the prediction route, without a scope, a task and a coroutine a request.

uvicorn speaks HTTP. A plain request for one prediction, which is nearly every request of a server,
is answered here from the parser's callbacks; anything else about a request (a large or chunked body,
another content type, several rows, a connection that is to close) leaves it to uvicorn's own way and
the front's ASGI application. Both give the same answers.
"""

import asyncio
from functools import partial
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from steelyard.errors import InputError
from steelyard.serve.answer.endpoint import Asked, Steps
from steelyard.serve.answer.idempotency import HEADER, Kept, request_key
from steelyard.serve.answer.terms import USUAL, Terms
from steelyard.serve.http.asgi import TIMEOUT, Front, Headers, timeout_of
from steelyard.serve.http.bounds import BODY, HEAD, HEADERS, NOTHING, Bounded
from steelyard.serve.secure.access import KEY_HEADERS
from steelyard.serve.secure.browsers import ORIGIN

__all__ = ["Protocol"]

_BODY_BYTES: Final = 64 * 1024
"""A larger body needs flow control, which uvicorn's way has."""
_SEVERAL: Final = b'"rows"'
_JSON: Final = b"application/json"
_OK: Final = 200
_CLOSE: Final = ((b"connection", b"close"),)
_LAST_LINES: Final = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
_UNPLAIN: Final = frozenset([b"transfer-encoding", b"content-encoding", b"upgrade", ORIGIN])
_TOLD: Final = _UNPLAIN | KEY_HEADERS
_TERMS: Final = frozenset([TIMEOUT, HEADER])


class Protocol(Bounded):
    """A connection. `config.app` is the front."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        front = config.app
        assert isinstance(front, Front)
        seconds, size = front.limits.request_seconds, front.limits.body_bytes
        super().__init__(config, server_state, app_state, _loop, seconds=seconds, body_bytes=size)
        self._front = front
        self._access = front.access
        self._route = front.route.encode()
        self._limit = min(_BODY_BYTES, front.limits.body_bytes)
        if front.told is not None:
            self.app, self._limit = front.told, -1
        self._short = False
        """Whether the request that is being read is answered here."""
        self._body = b""
        self._terms = USUAL
        self._waiting = 0
        """Requests that were read and are not answered yet, in their order."""
        self._ending = False
        self._usual: tuple[object, bytes] = (None, b"")

    def on_message_begin(self) -> None:
        """Begin a request; what ASGI wants is made when it is known to be wanted."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.stage, self.begun = HEAD, True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way by which the request is answered."""
        self.stage = BODY
        self._short = (
            self.url == self._route
            and _answered(self.cycle)
            and self.parser.get_method() == b"POST"
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.flow.write_paused
            and not self._front.batches.slow
            and self._plain()
        )
        if self._short:
            self._body = b""
        else:
            self._leave()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._short:
            self._body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ask for the answer."""
        self.stage = NOTHING
        if not self._short:
            super().on_message_complete()
            return
        self._short = False
        body = self._body
        if _SEVERAL in body or not self._ask(body):
            self._leave()
            super().on_body(body)
            super().on_message_complete()

    def _ask(self, body: bytes) -> bool:
        """Have one row answered; say no where there are more, or its key is being answered."""
        front, kept, settle = self._front, None, self._settle
        asked: Asked | bytes | Exception | Steps[bytes]
        try:
            if self._terms.key:
                kept, new = front.kept.claim(self._terms.key, body)
                if not new and kept.answer is None:
                    return False
                settle = partial(self._settle_kept, kept)
            asked = (kept and kept.answer) or front.endpoint.ask(body, self._terms)
        except Exception as error:  # noqa: BLE001  # goes to the client, like any answer
            asked = error
        if isinstance(asked, Asked):
            self._waiting += 1
            front.batches.add(asked, settle)
            return True
        if kept and kept.answer is None:
            front.kept.settle(kept, asked)
        if not isinstance(asked, (bytes, Exception)):
            return False
        front.batches.answer_all()
        self._waiting += 1
        self._settle(asked)
        return True

    def shutdown(self) -> None:
        """Answer what was read and close; a request that is half read is answered first."""
        self._front.batches.answer_all()
        if self._short:
            self._ending = True
        else:
            super().shutdown()

    def refuse(self, status: int) -> None:
        """Answer what is no request, or not whole in time, behind what came before it; close."""
        self._front.batches.answer_all()
        if self._short:
            self._short, self.stage = False, HEAD
        super().refuse(status)

    def _plain(self) -> bool:
        """Say whether the headers ask for nothing but the answer to a small JSON body, and may."""
        length, key, told, self._terms = -1, b"", False, USUAL
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"content-type":
                if value != _JSON:
                    return False
            elif name == b"accept" and b"apache" in value.lower():
                return False  # the answer is wanted as a table
            elif name in _TOLD:
                if key or name not in KEY_HEADERS:
                    return False
                key = value
            elif name in _TERMS:
                told = True
        if told:
            try:
                self._terms = Terms(timeout_of(self.headers), request_key(self.headers))
            except InputError:
                return False  # uvicorn's way says what is wrong with it
        return (
            0 <= length <= self._limit
            and len(self.headers) <= HEADERS
            and not self.expect_100_continue
            and (
                not self._access.on
                or self._access.admits(key, "predict", self._front.endpoint.model)
            )
        )

    def _leave(self) -> None:
        """Leave the request to uvicorn's way, behind the answers to those that came before it."""
        if self._waiting:
            self._front.batches.answer_all()
        if not self.takes_head():
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _settle(self, outcome: bytes | Exception) -> None:
        self._waiting -= 1
        status, body, headers = self._front.response(outcome)
        if self.transport.is_closing():
            return
        head = self._ok() if status == _OK and not self._ending else self._head(status, headers)
        self.transport.write(head % len(body) + body)
        self.server_state.total_requests += 1
        if self._ending:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _settle_kept(self, kept: Kept, outcome: bytes | Exception) -> None:
        """Settle what a client may ask for again: kept whether or not it is still there."""
        self._front.kept.settle(kept, outcome)
        self._settle(outcome)

    def _ok(self) -> bytes:
        """Return the usual head; the server's own headers, the date, are new once a second."""
        own = self.server_state.default_headers
        if self._usual[0] is not own:
            self._usual = own, self._head(_OK, ())
        return self._usual[1]

    def _head(self, status: int, headers: Headers) -> bytes:
        """Return a response's head, with a place for the length of its body."""
        lines = [*self.server_state.default_headers, *headers, *(_CLOSE if self._ending else ())]
        texts = [b"%b: %b\r\n" % line for line in lines]
        return b"".join([STATUS_LINE[status], *texts, _LAST_LINES])


def _answered(cycle: RequestResponseCycle | None) -> bool:
    return cycle is None or cycle.response_complete
