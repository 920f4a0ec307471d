"""One case sent over one connection: what came back, and whether the connection ended in time."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from steelyard.testing.fuzz.responses import Response, problem_of, read_responses

__all__ = ["Outcome", "exchanged", "exchanged_once"]

_QUIET_SECONDS: Final = 0.2
"""Without a byte for so long, the server is told that no more comes."""
_BOUND_SECONDS: Final = 240.0
"""A connection that was told so ends in this time."""
_LONGEST_PATIENCE_SECONDS: Final = 100.0
_RETRIES: Final = 10
_OWN_DELAY_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.5
_START: Final = b"HTTP/1.1 "
_PART: Final = 1 << 16
_LARGEST: Final = 1 << 26
_SHOWN: Final = 300
_GONE: Final = (ConnectionError, BrokenPipeError)


@dataclass(slots=True)
class Outcome:
    """What came back over a connection; `problem` says what of it no server may do."""

    responses: list[Response] = field(default_factory=list)
    problem: str = ""
    came: bytes = b""


async def exchanged(
    host: str, port: int, parts: Sequence[bytes], requests: int, patience: float = 0, *, http: bool = True
) -> Outcome:  # fmt: skip
    """Send parts over a connection of their own and read what comes until it ends.

    With `patience` the server is never told that no more comes: it has to answer, or to end the
    connection, within so many seconds. Raises OSError where no connection is to be had.
    """
    reader, writer = await _connected(host, port)
    data = bytearray()
    sending = asyncio.ensure_future(_send(writer, parts))
    try:
        late = await _read(reader, sending, data, requests, patience)
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, *_GONE):
            await sending
        writer.transport.abort()
    found, rest = read_responses(bytes(data), ended=True) if http else ([], b"")
    outcome = Outcome(found, came=bytes(data[:_SHOWN]))
    problems = [problem for response in found if (problem := problem_of(response))]
    if late:
        problems.append(late)
    # A connection that was cut off may end within a head.
    if rest and (b"\r\n\r\n" in rest or not _START.startswith(rest[: len(_START)])):
        problems.append("bytes that are no response")
        outcome.came = rest[:_SHOWN]
    outcome.problem = problems[0] if problems else ""
    return outcome


async def _connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, also where nobody listens for a moment. Raises OSError."""
    for _ in range(_RETRIES):
        with suppress(ConnectionRefusedError):
            return await asyncio.wait_for(asyncio.open_connection(host, port), _BOUND_SECONDS)
        await asyncio.sleep(_RETRY_SECONDS)
    return await asyncio.open_connection(host, port)


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes]) -> asyncio.StreamWriter:
    with suppress(*_GONE):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
    return writer


async def _read(
    reader: asyncio.StreamReader,
    sending: "asyncio.Task[asyncio.StreamWriter]",
    data: bytearray,
    requests: int,
    patience: float,
) -> str:
    """Read to the end; return why it did not come, or nothing."""
    begun, told = time.monotonic(), False
    while len(data) < _LARGEST:
        quiet = patience or (_BOUND_SECONDS if told else _QUIET_SECONDS)
        try:
            async with asyncio.timeout(quiet):
                part = await reader.read(_PART)
        except TimeoutError:
            if patience and not data:
                return f"neither an answer nor an end within {patience:g} seconds"
            if told:
                return f"no end within {_BOUND_SECONDS:g} seconds after the client's"
            told, patience = _tell_end(sending), 0
        except _GONE:
            return ""
        else:
            if not part:
                return ""
            data += part
        if not told and not patience:
            found, rest = read_responses(bytes(data), ended=False)
            finals = [response for response in found if response.status >= 200]
            if not rest and len(finals) >= requests and finals[-1].whole:
                told = _tell_end(sending)
        if time.monotonic() - begun > 2 * _BOUND_SECONDS + _LONGEST_PATIENCE_SECONDS:
            return "it does not end to answer"
    return ""


def _tell_end(sending: "asyncio.Task[asyncio.StreamWriter]") -> bool:
    """Say that no more comes, if all was sent; return whether it was said."""
    if not sending.done():
        return False
    with suppress(OSError):
        sending.result().write_eof()
    return True


async def exchanged_once(host: str, port: int, data: bytes) -> Response:
    """Return the response to one good request. Raises OSError where none comes in time."""
    found = None
    for _ in range(_RETRIES):
        begun = time.monotonic()
        reader, writer = await _connected(host, port)
        delay = time.monotonic() - begun
        found = await _one(reader, writer, data)
        # A server need not wait for a client that is itself too busy to send.
        if found is not None or delay < _OWN_DELAY_SECONDS:
            break
    if found is None:
        raise ConnectionError("the connection ended without an answer")
    return found


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> Response | None:
    """Return the response to one good request; nothing where the connection ends before."""
    came = bytearray()
    try:
        async with asyncio.timeout(_BOUND_SECONDS):
            writer.write(data)
            await writer.drain()
            while True:
                part = await reader.read(_PART)
                came += part
                found, _ = read_responses(bytes(came), ended=not part)
                finals = [response for response in found if response.status >= 200]
                if finals and finals[-1].whole:
                    return finals[-1]
                if not part:
                    return None
    except _GONE:
        return None
    finally:
        writer.transport.abort()
