"""A closed-loop load client for unary gRPC calls: each caller calls again when it is answered.

    python bench/load_grpc.py PORT METHOD CALLS.json --calls 8 --connections 1 --seconds 3

CALLS.json is a list of requests, base64, sent in turn. Prints one JSON document. It writes HTTP/2
frames itself, since grpcio's own client costs more than the servers that it would have to load.
Every answer must hold a message; `--answer` gives the length that each must have.
"""

import argparse
import asyncio
import base64
import json
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any

import uvloop

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_LARGEST = 2**31 - 1
_FIRST_WINDOW = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _indexed(name: bytes, value: bytes) -> bytes:
    """Return a header that enters the peer's table; a name of one byte is its static index."""
    head = name if len(name) == 1 else b"\x40" + bytes([len(name)]) + name
    return head + bytes([len(value)]) + value


def head_of(method: str) -> tuple[bytes, bytes]:
    """Return the headers of a connection's first call, and those of the later ones, by index."""
    first = b"\x83\x86" + b"".join(
        [
            _indexed(b"\x44", method.encode()),
            _indexed(b"\x41", b"bench"),
            _indexed(b"te", b"trailers"),
            _indexed(b"\x5f", b"application/grpc"),
        ]
    )
    return first, b"\x83\x86\xc1\xc0\xbf\xbe"


class Connection(asyncio.Protocol):
    """One connection with some callers, each with one call at a time."""

    def __init__(
        self, head: tuple[bytes, bytes], bodies: list[bytes], calls: int, size: int
    ) -> None:
        self.head = head
        self.bodies = bodies
        self.calls = calls
        self.size = size
        self.sent = 0
        self.latencies: list[int] = []
        self.problems: list[str] = []
        self.stopped = False
        self._buffer = b""
        self._window = _FIRST_WINDOW
        self._blocked: deque[bytes] = deque()
        self._stream = 1
        self._began: dict[int, int] = {}
        self._answered: set[int] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        window = struct.pack(">I", _LARGEST - _FIRST_WINDOW)
        settings = struct.pack(">HI", 4, _LARGEST)
        transport.write(_PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, window))
        for _ in range(self.calls):
            self._call()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.stopped:
            self.problems.append(f"connection lost: {error}")

    def _call(self) -> None:
        stream, self._stream = self._stream, self._stream + 2
        body = self.bodies[self.sent % len(self.bodies)]
        self.sent += 1
        head = self.head[stream > 1]
        self._began[stream] = time.perf_counter_ns()
        headers = frame(_HEADERS, _END_HEADERS, stream, head)
        data = frame(_DATA, _END_STREAM, stream, b"\0" + struct.pack(">I", len(body)) + body)
        self._blocked.append(headers + data)
        self._send()

    def _send(self) -> None:
        while self._blocked and self._window >= len(self._blocked[0]):
            self._window -= len(self._blocked[0])
            self.transport.write(self._blocked.popleft())

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        place, end = 0, len(data)
        while end - place >= 9:
            length, flags, stream = struct.unpack_from(">IBI", data, place)
            length, kind = length >> 8, length & 255
            if end - place < 9 + length:
                break
            self._take(kind, flags, stream, data[place + 9 : place + 9 + length])
            place += 9 + length
        self._buffer = data[place:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA and payload:
            if self.size in (0, len(payload) - 5):
                self._answered.add(stream)
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
            self._send()
        elif kind == _PING and not flags & _ACK:
            self.transport.write(frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            self.transport.write(frame(_SETTINGS, _ACK, 0))
        elif kind in (_RESET, _GO_AWAY):
            self.problems.append(f"frame {kind}: {payload!r}")
        if flags & _END_STREAM and kind in (_DATA, _HEADERS):
            self._end(stream, payload)

    def _end(self, stream: int, trailers: bytes) -> None:
        self.latencies.append(time.perf_counter_ns() - self._began.pop(stream))
        if stream not in self._answered:
            self.problems.append(f"no message: {trailers!r}")
        self._answered.discard(stream)
        if not self.stopped:
            self._call()


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    bodies = [base64.b64decode(text) for text in json.loads(arguments.requests.read_bytes())]
    loop = asyncio.get_running_loop()
    count = min(arguments.connections, arguments.calls)
    found = []
    for i in range(count):
        first = i * len(bodies) // count
        own = bodies[first:] + bodies[:first]
        calls = (arguments.calls + i) // count
        made = Connection(head_of(arguments.method), own, calls, arguments.answer)
        found.append(made)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", arguments.port)
    await asyncio.sleep(arguments.warm_up)
    for made in found:
        made.latencies.clear()
    began, busy = time.perf_counter(), time.process_time()
    await asyncio.sleep(arguments.seconds)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    latencies = sorted(latency for made in found for latency in made.latencies)
    for made in found:
        made.stopped = True
        made.transport.close()
    problems = [problem for made in found for problem in made.problems]
    return {
        "requests": len(latencies),
        "sent": sum(made.sent for made in found),
        "rps": len(latencies) / seconds,
        "p50_us": latencies[len(latencies) // 2] / 1e3 if latencies else None,
        "p99_us": latencies[int(len(latencies) * 0.99)] / 1e3 if latencies else None,
        "client_busy": busy / seconds,
        "problems": len(problems),
        "first_problem": problems[0] if problems else None,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("method")
    parser.add_argument("requests", type=Path)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--answer", type=int, default=0)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
