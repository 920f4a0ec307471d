"""A closed-loop load client: each connection sends its next request when the last is answered.

    python bench/load.py PORT PATH REQUESTS.json --connections 8 --seconds 3 [--warm-up 1]

REQUESTS.json is a list of bodies, sent in turn. Prints one JSON document. Every answer's status is
checked, and every 50th answer is read and checked for sense.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import uvloop

_CHECK_EVERY = 50


class Client(asyncio.Protocol):
    """One connection: HTTP/1.1 with keep-alive, as little of it as servers need."""

    def __init__(self, requests: list[bytes], first: int) -> None:
        self.requests = requests
        self.first = first
        self.sent = 0
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
        request = self.requests[(self.first + self.sent) % len(self.requests)]
        self.sent += 1
        self._began = time.perf_counter_ns()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        at = data.lower().find(b"content-length:", 0, end)
        length = int(data[at + 15 : data.index(b"\r", at)])
        if len(data) < end + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        self.latencies.append(time.perf_counter_ns() - self._began)
        if data[9:12] != b"200":
            self.problems.append(data[:300].decode("utf-8", "replace"))
        elif len(self.latencies) % _CHECK_EVERY == 0:
            self._check(data[end + 4 :])
        if not self.stopped:
            self._send()

    def _check(self, body: bytes) -> None:
        answer = json.loads(body)
        scores = answer["probabilities"]
        likely = "Yes" if scores["Yes"] >= 0.5 else "No"
        if abs(sum(scores.values()) - 1) > 1e-4 or answer["prediction"] != likely:
            self.problems.append(f"no sense: {body[:300]!r}")


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    bodies = json.loads(arguments.requests.read_bytes())
    head = "POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = [
        (head.format(arguments.path, len(body.encode())) + body).encode() for body in bodies
    ]
    loop = asyncio.get_running_loop()
    clients = [
        Client(requests, i * len(requests) // arguments.connections)
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
        "sent": sum(client.sent for client in clients),
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
    parser.add_argument("path")
    parser.add_argument("requests", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=0.5)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))
