"""What a client may take of a connection: size of a head, time for a request, time to read an answer.

uvicorn bounds none of these. A request that came whole, which is nearly every one, costs nothing
here: what is counted and timed is only one that is read in parts.
"""

import asyncio
import logging
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from steelyard.serve.answer.limits import Limits

__all__ = ["BODY", "HEAD", "HEADERS", "NOTHING", "Bounded", "RefusedHeadError", "Timed"]

_log = logging.getLogger(__name__)

HEAD: Final = 2
BODY: Final = 1
NOTHING: Final = 0
"""What of a request is being read."""

_HEAD_BYTES: Final = 64 * 1024
HEADERS: Final = 100
_URL_BYTES: Final = 8 * 1024
_LEAST_BYTES: Final = 8 * 1024
"""What of a body has to come in the time of a whole head, at the least."""
_UNREAD_PERIODS: Final = 3
_LINES: Final = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
_WHY: Final = {
    400: b"this is no HTTP/1.1 request",
    408: b"the request did not come in time",
    413: b"the request is too large",
    414: b"the URL is too long",
    431: b"the headers are too many or too long",
}
_OFFER: Final = frozenset([b"connection", b"upgrade", b"http2-settings"])
# What uvicorn raises for a URL that is none.
_UNREADABLE: Final = (httptools.HttpParserError, UnicodeError, AttributeError)


class RefusedHeadError(Exception):
    """A head that is not taken; the status says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Open(asyncio.Transport):
    """A connection as the answers to its requests see it: what comes after its end is dropped.

    uvicorn tells of the end only the newest of the requests that came behind each other; uvloop
    raises where the others are answered still.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Bounded(HttpToolsProtocol):
    """A connection whose requests have to be whole in time, with heads of a bounded size.

    `stage` is kept by whoever takes the parser's callbacks; `seconds` is the time for a head, and for
    each further part of a body.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        seconds: float,
        body_bytes: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.stage = HEAD
        self.begun = True
        """Whether the head that is read began in the part that came last."""
        self._seconds = seconds
        self._largest = 2 * body_bytes + _HEAD_BYTES  # chunks of a body have heads of their own
        self._offered = False
        self._size = 0
        self._came = 0
        self._since = HEAD
        self._watch: asyncio.TimerHandle | None = None
        self._write_watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request, which has to come like any other."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the times that were waited for."""
        for watch in (self._watch, self._write_watch):
            if watch is not None:
                watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of the requests."""
        rest = data
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = self._without_offer() + rest[offer.args[0] :]
        except httptools.HttpParserError as error:
            self.refuse(_status(error))
            return
        if self.stage or self._watch is not None:
            self._bound(len(data))

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while."""
        super().pause_writing()
        if self._write_watch is None:
            self._write_watch = self.loop.call_later(
                _UNREAD_PERIODS * self._seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """Go on to write."""
        super().resume_writing()
        if self._write_watch is not None:
            self._write_watch.cancel()
            self._write_watch = None

    def on_headers_complete(self) -> None:
        """Begin to answer, to whoever is still there when the answer is."""
        super().on_headers_complete()
        cycle = self._cycle()
        if cycle is not None:
            cycle.transport = _Open(self.transport)

    def on_message_complete(self) -> None:
        """End a request, but not one whose body is still to be read."""
        if not self._offered:
            super().on_message_complete()

    def takes_head(self) -> bool:
        """Say whether a complete head begins a request; raise RefusedHeadError where it may not.

        One that offers another protocol, as Java's clients do by default, comes again without.
        """
        if len(self.url) > _URL_BYTES:
            raise RefusedHeadError(414)
        if len(self.headers) > HEADERS:
            raise RefusedHeadError(431)
        self._offered = self.parser.should_upgrade()
        if self._offered and self.parser.get_method() == b"CONNECT":
            raise RefusedHeadError(400)
        return not self._offered

    def refuse(self, status: int) -> None:
        """Answer what is no request, or not whole in time, behind what came before it; close."""
        stage, self.stage = self.stage, NOTHING
        cycle = self._cycle()
        if self.transport.is_closing():
            return
        if cycle is not None and stage == BODY:
            # Its own: whoever waits for the rest of the body is told that it does not come.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        elif cycle is not None and not cycle.response_complete:
            # The answers to earlier requests are the last ones: this would be taken for theirs.
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        own = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        body = b'{"error":"%b"}' % _WHY[status]
        self.transport.write(b"".join([STATUS_LINE[status], *own, _LINES % len(body), body]))
        self.transport.close()

    def _without_offer(self) -> bytes:
        """Return the head that was read, with nothing offered, for a parser that reads bodies.

        The one that saw the offer would take the body for the next request.
        """
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
            elif name == b"connection" and b"close" in value.lower():
                lines.append(b"connection: close")
        self._offered = False
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def _cycle(self) -> RequestResponseCycle | None:
        """Return the newest request that went uvicorn's way; there need not have been one."""
        return self.cycle

    def _bound(self, size: int) -> None:
        """Count and time a request that came in part."""
        if self.stage == NOTHING:
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None
            return
        if self._watch is None:
            self._wait()
        self._came += size
        self._size = 0 if self.begun else self._size + size
        self.begun = False
        if self.stage == HEAD and self._size > _HEAD_BYTES:
            self.refuse(431)
        elif self._size > self._largest:
            self.refuse(413)

    def _wait(self) -> None:
        self._came, self._since = 0, self.stage
        self._watch = self.loop.call_later(self._seconds, self._late)

    def _late(self) -> None:
        """Judge, when the time is over, a request that is still not whole."""
        self._watch = None
        if self.transport.is_closing() or self.stage == NOTHING:
            return
        goes_on = self.stage == BODY and (self._since == HEAD or self._came >= _LEAST_BYTES)
        if goes_on or self.flow.read_paused:
            self._wait()
        elif self.stage == HEAD and self._came == 0:
            self.transport.close()  # nothing was ever asked
        else:
            self.refuse(408)


class Timed(Bounded):
    """A bounded connection all of whose requests go uvicorn's way."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        limits = Limits()
        super().__init__(
            config,
            server_state,
            app_state,
            _loop,
            seconds=limits.request_seconds,
            body_bytes=_HEAD_BYTES,
        )

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._unset_keepalive_if_required()
        self.stage, self.begun = HEAD, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self.stage = BODY
        if self.takes_head():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Go on to the next."""
        self.stage = NOTHING
        super().on_message_complete()


def _status(error: Exception) -> int:
    """Return what to answer to what the parser does not take, or its callbacks."""
    cause = error.__context__
    if isinstance(cause, RefusedHeadError):
        return cause.status
    if cause is not None and not isinstance(cause, _UNREADABLE):
        _log.error("A request could not be read.", exc_info=cause)
    return 400
