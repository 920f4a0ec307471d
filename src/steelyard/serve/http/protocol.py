"""HTTP/1.1 for the prediction route, without a scope, a task and a coroutine a request.

uvicorn speaks HTTP. A plain request for one prediction, which is nearly every request of a server,
is answered here from the parser's callbacks; anything else about a request (a large or chunked body,
another content type, several rows, a connection that is to close) leaves it to uvicorn's own way and
the front's ASGI application. Both give the same answers.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

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
_LINGER_SECONDS: Final = 0.2
"""How long an idle connection is kept when the server ends: its client cannot know that it does."""
_CLOSE: Final = ((b"connection", b"close"),)
_LAST_LINES: Final = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
_UNPLAIN: Final = frozenset([b"transfer-encoding", b"content-encoding", b"upgrade", ORIGIN])
_Outcome = bytes | Exception
_TOLD: Final = _UNPLAIN | KEY_HEADERS
_TERMS: Final = frozenset([TIMEOUT, HEADER])


class _Earlier:
    """Stands for the requests of the short way that are not answered yet, before uvicorn."""

    response_complete = False


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
        """Requests of the short way that were read and are not answered yet."""
        self._behind: deque[list[_Outcome]] = deque()
        """A place for the answer to each of them but the first, in their order."""
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
        front, kept = self._front, None
        asked: Asked | bytes | Exception | Steps[bytes]
        try:
            if self._terms.key:
                kept, new = front.kept.claim(self._terms.key, body)
                if not new and kept.answer is None:
                    return False
            asked = (kept and kept.answer) or front.endpoint.ask(body, self._terms)
        except Exception as error:  # noqa: BLE001  # goes to the client, like any answer
            asked = error
        if isinstance(asked, Asked):
            settle = self._place()
            if kept:
                settle = partial(self._settle_kept, kept, settle)
            front.batches.add(asked, settle)
            return True
        if kept and kept.answer is None:
            front.kept.settle(kept, asked)
        if not isinstance(asked, (bytes, Exception)):
            return False
        if self._waiting:
            front.batches.answer_all()
        self._place()(asked)
        return True

    def _place(self) -> Callable[[_Outcome], None]:
        """Return what takes the answer to the request that was read now, and gives it in its turn."""
        self._waiting += 1
        if self._waiting == 1:
            return self._settle
        # A slow model may answer the later one first, where that one has less time.
        place: list[_Outcome] = []
        self._behind.append(place)
        return partial(self._settle_behind, place)

    def shutdown(self) -> None:
        """Answer what was read and close; a request that is half read is answered first.

        So is one that the client of an idle connection sends at this moment.
        """
        if self._waiting:
            self._front.batches.answer_all()
        if self.pipeline or not _answered(self.cycle):
            super().shutdown()
            return
        self._ending = True
        if not self._short and not self._waiting:
            self.loop.call_later(_LINGER_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        idle = not self._short and not self._waiting and _answered(self.cycle)
        if idle and not self.transport.is_closing():
            self.transport.close()

    def refuse(self, status: int) -> None:
        """Answer what is no request, or not whole in time, behind what came before it; close."""
        if self._waiting:
            self._front.batches.answer_all()
        if self._short:
            self._short, self.stage = False, HEAD
        if self._waiting and not self.pipeline:
            # The answers to earlier requests are the last ones: this would be taken for theirs.
            self._ending, self.stage = True, NOTHING
            self.flow.pause_reading()
            return
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
        before = self.cycle
        if self._waiting and _answered(before):
            self.cycle = cast(RequestResponseCycle, _Earlier)
        try:
            super().on_headers_complete()
        except BaseException:
            self.cycle = before  # the URL is none: there is no request
            raise
        if self._ending:
            self.cycle.keep_alive = False

    def _settle(self, outcome: _Outcome) -> None:
        """Give the answer to the first request that waits, and those behind it that are there."""
        self._send(outcome)
        if self._behind:
            self._send_behind()

    def _settle_behind(self, place: list[_Outcome], outcome: _Outcome) -> None:
        place.append(outcome)
        if self._waiting == len(self._behind):  # the first one was answered
            self._send_behind()

    def _send_behind(self) -> None:
        while self._behind and self._behind[0]:
            self._send(self._behind.popleft()[0])

    def _settle_kept(
        self, kept: Kept, settle: Callable[[_Outcome], None], outcome: _Outcome
    ) -> None:
        """Settle what a client may ask for again: kept whether or not it is still there."""
        self._front.kept.settle(kept, outcome)
        settle(outcome)

    def _send(self, outcome: _Outcome) -> None:
        self._waiting -= 1
        try:
            status, body, headers = self._front.response(outcome)
        except BaseException:
            self.transport.abort()  # what has no answer must not be waited for
            raise
        if self.transport.is_closing():
            return
        last = self._ending and not self._waiting and not self._short
        head = self._ok() if status == _OK and not last else self._head(status, headers, last)
        self.transport.write(head % len(body) + body)
        if last:
            self.server_state.total_requests += 1
            self.transport.close()
        elif self._waiting:
            self.server_state.total_requests += 1
        else:
            self.on_response_complete()  # begins what was left to uvicorn meanwhile

    def _ok(self) -> bytes:
        """Return the usual head; the server's own headers, the date, are new once a second."""
        own = self.server_state.default_headers
        if self._usual[0] is not own:
            self._usual = own, self._head(_OK, (), False)
        return self._usual[1]

    def _head(self, status: int, headers: Headers, last: bool) -> bytes:
        """Return a response's head, with a place for the length of its body."""
        lines = [*self.server_state.default_headers, *headers, *(_CLOSE if last else ())]
        texts = [b"%b: %b\r\n" % line for line in lines]
        return b"".join([STATUS_LINE[status], *texts, _LAST_LINES])


def _answered(cycle: RequestResponseCycle | None) -> bool:
    return cycle is None or cycle.response_complete
