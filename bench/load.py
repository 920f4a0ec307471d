"""A closed-loop load client: each connection sends its next request when the last is answered.

    python bench/load.py PORT REQUESTS.json --connections 8 --seconds 3 [--warm-up 0.5]

REQUESTS.json is what bodies.py writes: bodies, sent in turn, and the probabilities that answer them
rightly. Prints one JSON document. Every answer's status is checked; each connection's first answers
and then every 50th are read and compared.
"""

import argparse
import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import uvloop
from bodies import problem

_FIRST = 20
_CHECK_EVERY = 50


class Client(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive, as little of it as servers need."""

    def __init__(
        self, requests: list[bytes], expected: list[list[float]], form: str, first: int
    ) -> None:
        self.requests = requests
        self.expected = expected
        self.form = form
        self.next = first
        self.answered = 0
        self.latencies: list[int] = []
        self.problems: list[str] = []
        self.stopped = False
        self._buffer = b""
        self._began = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.stopped:
            self.problems.append(f"connection lost: {error}")

    def _send(self) -> None:
        self._began = time.perf_counter_ns()
        self.transport.write(self.requests[self.next])

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        at = data.lower().find(b"content-length:", 0, end)
        if at < 0:  # in chunks, of which the last one is empty
            whole = data.endswith(b"\r\n0\r\n\r\n")
        else:
            whole = len(data) >= end + 4 + int(data[at + 15 : data.index(b"\r", at)])
        if not whole:
            self._buffer = data
            return
        self._buffer = b""
        self.latencies.append(time.perf_counter_ns() - self._began)
        self.answered += 1
        if data[9:12] != b"200":
            self.problems.append(data[:300].decode("utf-8", "replace"))
        elif self.answered <= _FIRST or self.answered % _CHECK_EVERY == 0:
            body = data[end + 4 :] if at >= 0 else joined(data[end + 4 :])
            found = problem(self.form, body, self.expected[self.next])
            self.problems += [found] if found else []
        self.next = (self.next + 1) % len(self.requests)
        if not self.stopped:
            self._send()


def joined(chunks: bytes) -> bytes:
    """Return the body that was sent in chunks."""
    found = b""
    while size := int(chunks[: (at := chunks.index(b"\r\n"))], 16):
        found += chunks[at + 2 : at + 2 + size]
        chunks = chunks[at + 2 + size + 2 :]
    return found


def requests_of(document: dict[str, Any]) -> list[bytes]:
    made = []
    for one in document["requests"]:
        body = base64.b64decode(one["body"])
        lines = [f"POST {document['route']} HTTP/1.1", "Host: bench"]
        lines += [f"{name}: {value}" for name, value in one["headers"].items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        made.append("\r\n".join(lines).encode() + body)
    return made


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    document = json.loads(arguments.requests.read_bytes())
    requests = requests_of(document)
    loop = asyncio.get_running_loop()
    clients = [
        Client(
            requests,
            document["expected"],
            document["form"],
            i * len(requests) // arguments.connections,
        )
        for i in range(arguments.connections)
    ]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", arguments.port)
    await asyncio.sleep(arguments.warm_up)
    for client in clients:
        client.latencies.clear()
    began, busy = time.perf_counter(), time.process_time()
    await asyncio.sleep(arguments.seconds)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    latencies = sorted(latency for client in clients for latency in client.latencies)
    for client in clients:
        client.stopped = True
        client.transport.close()
    problems = [problem for client in clients for problem in client.problems]
    return {
        "requests": len(latencies),
        "answered": sum(client.answered for client in clients),
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
    parser.add_argument("requests", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=0.5)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
