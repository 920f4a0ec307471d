"""Slow, large, broken and smuggled requests on real connections; nobody else may notice them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from steelyard.serve.answer.limits import Limits
from steelyard.serve.http import bounds
from steelyard.serve.http.protocol import Protocol

ROUTE = b"POST /predict/price HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n"


@pytest.fixture
def connect(stand):
    """Return a function that gives the protocol, the stand and a connection to it."""

    @asynccontextmanager
    async def connected(limits: Limits | None = None) -> AsyncIterator[tuple]:
        made = stand("price", limits)
        config = uvicorn.Config(made.front, lifespan="off", interface="asgi3", log_config=None)
        config.load()
        state = ServerState()
        protocols = []

        def protocol():
            protocols.append(Protocol(config, state, {}))
            return protocols[-1]

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not protocols or protocols[0].transport is None:
            await asyncio.sleep(0)
        yield protocols[0], made, reader, writer
        writer.close()
        server.close()
        for task in state.tasks.copy():
            await asyncio.wait_for(task, 5)  # no request may be left waiting for its client

    return connected


async def responses(reader):
    """Return the statuses and bodies of what comes until the server closes."""
    data = await asyncio.wait_for(reader.read(), 10)
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
        found.append((int(head.split()[1]), data[:size], b"connection: close" in head))
        data = data[size:]
    return found


def plain(house, extra=b""):
    body = json.dumps(house).encode()
    return ROUTE + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def exchange(connect, sent, limits=None):
    async def ask():
        async with connect(limits) as (_, made, reader, writer):
            writer.write(sent)
            writer.write_eof()
            return await responses(reader), made

    return asyncio.run(ask())


# What one server takes for one request and another for two.

SMUGGLED = b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n"
AMBIGUOUS = {
    "length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}   ",
    "the same length twice": b"content-length: 5\r\ncontent-length: 5\r\n\r\n{}   ",
    "lengths in a list": b"content-length: 5, 5\r\n\r\n{}   ",
    "a signed length": b"content-length: +5\r\n\r\n{}   ",
    "a negative length": b"content-length: -5\r\n\r\n{}   ",
    "a hexadecimal length": b"content-length: 0x5\r\n\r\n{}   ",
    "an endless length": b"content-length: 99999999999999999999999\r\n\r\n{}   ",
    "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"x: a\r\n transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "a bare line feed": b"x: a\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "a bare carriage return": b"x: a\rtransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "a null": b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "a chunk of no number": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("kind", sorted(AMBIGUOUS))
def test_what_two_servers_could_read_differently_is_refused_and_closes(connect, kind):
    found, made = exchange(connect, ROUTE + AMBIGUOUS[kind] + SMUGGLED)
    assert [(status, closes) for status, _, closes in found] == [(400, True)]
    assert json.loads(found[0][1]) == {"error": "this is no HTTP/1.1 request"}
    assert made.log.lines == []


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"hello\r\n\r\n",
     b"GET \x00 HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: h\r\n\r\n", b"GET http:// HTTP/1.1\r\n\r\n",
     b"CONNECT a:1 HTTP/1.1\r\nhost: h\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_one_line(connect, data, caplog):
    found, _ = exchange(connect, data)
    assert [status for status, _, _ in found] == [400]
    assert caplog.text == ""  # whoever sends it by the million fills no log


def test_a_refusal_comes_behind_the_answers_to_what_was_whole(connect, house):
    sent = plain(house) + LIVE + plain(house) + b"\x00rubbish\r\n\r\n"
    found, made = exchange(connect, sent)
    # The last answer under way closes: a 400 behind it could be taken for another's.
    assert [status for status, _, _ in found][:3] == [200, 200, 200]
    assert len(made.log.lines) == 2
    found, _ = exchange(connect, plain(house) * 2 + b"\x00rubbish\r\n\r\n")
    assert [status for status, _, _ in found] == [200, 200, 400]


# Sizes.


def test_a_url_a_header_and_their_number_are_bounded(connect, house):
    long = b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: here\r\n\r\n"
    assert exchange(connect, long)[0][0][0] == 414
    many = b"".join(b"x-%d: y\r\n" % i for i in range(200))
    assert exchange(connect, plain(house, many))[0][0][0] == 431
    large = b"x: " + b"y" * 40_000 + b"\r\n"
    assert (
        exchange(connect, plain(house, large).replace(b"host", b"connection: close\r\nhost"))[0][0][
            0
        ]
        == 200
    )


def test_a_head_without_end_is_cut_off_and_takes_no_memory(connect):
    async def ask():
        async with connect() as (protocol, _, reader, writer):
            sent = 0
            writer.write(ROUTE + b"x: ")
            while not protocol.transport.is_closing() and sent < 50_000_000:
                writer.write(b"y" * 10_000)
                sent += 10_000
                await writer.drain()
                await asyncio.sleep(0)
            assert sent < 1_000_000
            return await responses(reader)

    with suppress(ConnectionError):  # what is still sent to a closed connection may reset it
        assert asyncio.run(ask())[0][0] == 431


def test_trailers_and_chunk_heads_without_end_are_cut_off(connect):
    async def ask(piece):
        async with connect(Limits(body_bytes=10_000)) as (protocol, _, _, writer):
            writer.write(ROUTE + b"transfer-encoding: chunked\r\n\r\n" + piece[0])
            sent = 0
            while not protocol.transport.is_closing() and sent < 50_000_000:
                try:
                    writer.write(piece[1] * 1_000)
                    await writer.drain()
                except ConnectionError:
                    break
                sent += 1_000 * len(piece[1])
                await asyncio.sleep(0)
            assert sent < 2_000_000
            assert len(protocol.headers) < 100_000

    asyncio.run(ask((b"0\r\n", b"x: y\r\n")))
    asyncio.run(ask((b"1;", b"extension")))


# Times.


def test_a_head_that_drips_is_cut_off_however_it_drips(connect):
    async def ask():
        async with connect(Limits(request_seconds=0.2)) as (_, _, reader, writer):

            async def drip():
                for i in range(1_000):
                    writer.write(b"x-%d: y\r\n" % i)
                    await asyncio.sleep(0.02)

            writer.write(ROUTE)
            dripping = asyncio.create_task(drip())
            try:
                found = await responses(reader)
            except ConnectionResetError:
                return [408]  # a drop crossed the end of the connection, and took its last words
            finally:
                dripping.cancel()
            return [status for status, _, _ in found]

    assert asyncio.run(ask()) == [408]


@pytest.mark.parametrize(
    "begun",
    [b"content-length: 200\r\n\r\n{", b"content-length: 200000\r\n\r\n{",
     b"transfer-encoding: chunked\r\n\r\n5\r\n{"],
)  # fmt: skip
def test_a_body_that_stops_is_cut_off_by_the_short_way_and_the_long(connect, begun):
    async def ask():
        async with connect(Limits(request_seconds=0.05)) as (_, made, reader, writer):
            writer.write(ROUTE + begun)
            return await responses(reader), made

    found, made = asyncio.run(ask())
    assert [status for status, _, _ in found] == [408]
    assert made.log.lines == []


def test_a_connection_that_never_asks_is_closed_without_a_word(connect):
    async def ask(sent):
        async with connect(Limits(request_seconds=0.05)) as (_, _, reader, writer):
            writer.write(sent)
            return await responses(reader)

    assert asyncio.run(ask(b"")) == []
    assert [status for status, _, _ in asyncio.run(ask(b"\r\n" * 3))] == [408]


def test_empty_lines_keep_no_idle_connection_open(connect, house):
    async def ask():
        async with connect() as (protocol, _, reader, writer):
            protocol.timeout_keep_alive = 0.05
            writer.write(plain(house))
            await asyncio.wait_for(reader.readuntil(b"}"), 5)
            writer.write(b"\r\n")
            assert await asyncio.wait_for(reader.read(), 5) == b""

    asyncio.run(ask())


def test_a_slow_body_that_keeps_coming_is_taken(connect, house):
    """Judged by hand, so that no clock decides: what counts is what came since the last time."""

    async def ask():
        async with connect(Limits(request_seconds=60)) as (protocol, made, reader, writer):
            body = json.dumps({"rows": [house] * 1_000}).encode()
            writer.write(ROUTE + b"content-length: %d\r\n\r\n" % len(body))
            while protocol.stage != bounds.BODY:
                await asyncio.sleep(0)
            protocol._late()  # a head that came in time makes no slow body
            for start in range(0, len(body), 10_000):
                writer.write(body[start : start + 10_000])
                size = protocol._came
                while protocol.stage and protocol._came == size:
                    await asyncio.sleep(0)
                protocol._late()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200")
            assert protocol._watch is None
            return made

    assert len(asyncio.run(ask()).log.lines) == 1_000


def test_a_client_that_does_not_read_is_cut_off(connect, house):
    async def ask():
        async with connect(Limits(request_seconds=0.05)) as (protocol, _, _, writer):
            protocol.transport.set_write_buffer_limits(1)
            many = json.dumps({"rows": [house] * 5_000}).encode()
            sent = ROUTE + b"content-length: %d\r\n\r\n" % len(many) + many
            try:
                for _ in range(200):
                    if protocol.transport.is_closing():
                        break
                    writer.write(sent)
                    await asyncio.wait_for(writer.drain(), 1)
            except (ConnectionError, TimeoutError):
                pass
            deadline = asyncio.get_running_loop().time() + 10
            while not protocol.transport.is_closing():
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)

    asyncio.run(ask())


def test_whole_requests_are_not_watched(connect, house):
    async def ask():
        async with connect() as (protocol, _, reader, writer):
            for sent in (plain(house), LIVE, plain(house)):
                writer.write(sent)
                await asyncio.wait_for(reader.readuntil(b"}"), 5)
                assert protocol._watch is None
                assert protocol.stage == bounds.NOTHING

    asyncio.run(ask())


def chunked(house, extra=b""):
    body = json.dumps(house).encode()
    head = ROUTE + extra + b"transfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("size", [1_000_000, 50, 1])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_an_offer_of_another_protocol_is_passed_over(connect, house, protocol, size):
    """As Java's clients make it with every request: their bodies are bodies all the same."""
    offer = (
        b"connection: Upgrade, HTTP2-Settings\r\nupgrade: %b\r\nhttp2-settings: AA\r\n" % protocol
    )
    live = LIVE.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    # A body that is a request is no request, whoever passed the offer on.
    inner = ROUTE + offer + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
    last = LIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    sent = live * 2 + plain(house, offer) + chunked(house, offer) + plain(house) + inner + last

    async def ask():
        async with connect() as (_, made, reader, writer):
            for start in range(0, len(sent), size):
                writer.write(sent[start : start + size])
                await asyncio.sleep(0)
            return await responses(reader), made

    found, made = asyncio.run(ask())
    assert [status for status, _, _ in found] == [200] * 5 + [422, 200]
    assert len(made.log.lines) == 3


def test_answers_to_a_connection_that_has_ended_are_dropped(connect, house, monkeypatch, caplog):
    """Requests that came behind each other are answered one by one, also where the client has gone."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def ask():
        async with connect() as (protocol, made, _, writer):
            answered = made.front.in_turn

            async def late(steps):
                begun.set()
                await go_on.wait()
                return await answered(steps)

            monkeypatch.setattr(made.front, "in_turn", late)
            body = json.dumps({"rows": [house]}).encode()
            several = ROUTE + b"content-length: %d\r\n\r\n" % len(body) + body
            writer.write(several + LIVE)
            await asyncio.wait_for(begun.wait(), 10)
            writer.transport.abort()
            while not protocol.transport.is_closing():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            go_on.set()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
