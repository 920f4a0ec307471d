"""The fuzzer against servers that sin, each in one way, and against one that does not."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from steelyard.errors import UsageError
from steelyard.testing.fuzz import Request, Target, campaign, rerun
from steelyard.testing.fuzz.cases import call_case, frames_of, http_case
from steelyard.testing.fuzz.responses import read_responses

SEEDS = [
    Request(
        b"POST", b"/predict/m", [(b"content-type", b"application/json")], b'{"a": 1, "b": "x"}'
    ),
    Request(b"GET", b"/health"),
]
GOOD = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"good": 1}'
Answer = Callable[[bytes], bytes | None]
"""What a server says to the bytes that came first; None says nothing and keeps the connection."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Answer each connection once, in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ports: list[int] = []
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = answer(await reader.read(65_536))
        if said is None:
            await ended.wait()
        else:
            writer.write(said)
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def failed(data: bytes) -> bool:
    """Say whether a request is another than the seeds."""
    return data not in [seed.render() for seed in SEEDS]


SINS: dict[str, tuple[Answer, str]] = {
    "it fails": (lambda d: b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n" if failed(d) else GOOD, "status 500"),
    "it is busy for ever": (
        lambda d: b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n" if failed(d) else GOOD, "503 without"),
    "it says what is no HTTP": (lambda d: b"Traceback (most recent call" if failed(d) else GOOD, "no response"),
    "it says more than it announced": (lambda d: GOOD + b"secret" if failed(d) else GOOD, "no response"),
    "it says it is JSON": (lambda d: GOOD.replace(b'{"good": 1}', b"<!oh, dear>") if failed(d) else GOOD, "no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("sin", SINS)
def test_what_no_server_may_do_is_found_and_comes_again(sin):
    answer, what = SINS[sin]
    with serving(answer) as url:
        target = Target("m", url, SEEDS)
        report = campaign([target], 1, seed=5, clients=4)
        assert report.findings
        found = report.findings[0]
        assert what in found.what
        assert f"case {found.number}" in str(found)
        again = rerun([target], 5, found.number)
        assert [(f.what, f.data) for f in again.findings] == [(found.what, found.data)]


def test_another_answer_to_a_good_request_is_found():
    asked = []

    def answer(data: bytes) -> bytes:
        asked.append(data)
        return GOOD if len(asked) < 20 else GOOD.replace(b"good", b"evil")

    with serving(answer) as url:
        report = campaign([Target("m", url, SEEDS)], 2, seed=1, clients=4)
    assert {"another answer to a good request" in one.what for one in report.findings} == {True}


def test_a_connection_that_does_not_end_is_found(monkeypatch):
    monkeypatch.setattr("steelyard.testing.fuzz.exchanges._BOUND_SECONDS", 0.5)
    with serving(lambda d: None if failed(d) else GOOD) as url:
        report = campaign([Target("m", url, SEEDS)], 0.5, seed=1, clients=4)
    assert any("no end within" in one.what for one in report.findings)


def test_a_server_that_does_well_has_no_findings():
    with serving(lambda data: GOOD) as url:
        report = campaign([Target("m", url, SEEDS)], 1, seed=1, clients=4)
    assert report.findings == []
    assert report.controls > 0
    assert report.cases["http"] > 20
    document = report.document()
    assert document["classes"]["2xx"] == report.statuses["200"]


def test_a_case_follows_from_the_seed_and_its_number():
    for number in range(200):
        assert http_case(3, number, SEEDS) == http_case(3, number, SEEDS)
        assert call_case(3, number, [("ModelInfer", b"abc")]) == call_case(
            3, number, [("ModelInfer", b"abc")]
        )
    assert len({http_case(3, number, SEEDS).data for number in range(200)}) > 150
    assert http_case(3, 7, SEEDS) != http_case(4, 7, SEEDS)


def test_one_case_in_a_few_is_a_good_request():
    """Whoever never gets past the parser finds nothing behind it."""
    good = {seed.render() for seed in SEEDS}
    count = sum(http_case(1, number, SEEDS).data in good for number in range(500))
    assert 10 < count < 250


def test_frames_are_a_call_of_the_protocol():
    data = frames_of("ServerLive", b"\x01")
    assert data.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04")
    assert data.endswith(b"\0\0\x06\0\x01\0\0\0\x01\0\0\0\0\x01\x01")


def test_responses_behind_each_other_are_told_apart():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    found, rest = read_responses(
        b"HTTP/1.1 100 Continue\r\n\r\n" + head + head + b"12345HTTP", ended=False
    )
    assert [(one.status, one.body, one.whole) for one in found] == [
        (100, b"", True), (200, b"", True), (200, b"12345", True)]  # fmt: skip
    assert rest == b"HTTP"
    assert not read_responses(head, ended=False)[0][0].whole


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1"])
def test_what_cannot_be_fuzzed_is_told(url):
    with pytest.raises(UsageError, match="no URL that can be fuzzed"):
        Target("m", url, SEEDS)
