"""The short way of a request must not be told from uvicorn's own, whatever came before it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from steelyard.core.ids import uuid7
from steelyard.serve.answer.limits import Limits
from steelyard.serve.http.protocol import Protocol
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.keys import KeyFile

ROUTE = b"POST /predict/price HTTP/1.1\r\nhost: here\r\n"
JSON = b"content-type: application/json\r\n"


class Stand:
    """A listening front; `short` and `long` count the requests by the way that they went."""

    def __init__(self, made):
        self.made = made
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.protocols = []
        self.long = 0
        self.short = 0

    async def front(self, scope, receive, send):
        self.long += 1
        await self.made.front(scope, receive, send)

    def protocol(self):
        config = uvicorn.Config(self.made.front, lifespan="off", interface="asgi3", log_config=None)
        config.load()
        config.loaded_app = self.front
        made = Protocol(config, self.state, {})
        send = made._send

        def sent(outcome):
            self.short += 1
            send(outcome)

        made._send = sent
        self.protocols.append(made)
        return made


@pytest.fixture
def stand(stand):
    @asynccontextmanager
    async def listening(
        limits: Limits | None = None, access: Access | None = None
    ) -> AsyncIterator[tuple]:
        found = Stand(stand("price", limits))
        found.made.front.access = access or Access(None)
        server = await asyncio.get_running_loop().create_server(found.protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield found, reader, writer
        finally:
            writer.close()
            server.close()
            for protocol in found.protocols:
                protocol.transport.abort()
            await asyncio.sleep(0)

    return listening


def request(body, headers=JSON):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ROUTE + headers + b"content-length: %d\r\n\r\n" % len(body) + body


async def response(reader):
    """Read one response: its status, headers without the length, and document."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    status, *lines = head.decode().strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.pop("content-length")))
    return int(status.split()[1]), headers, json.loads(body)


def test_a_plain_request_goes_the_short_way_again_and_again(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            for area in (10.0, 20.0, 30.0):
                writer.write(request({**house, "area": area}))
                status, headers, document = await response(reader)
                assert status == 200
                assert headers == {"date": "today", "content-type": "application/json"}
                record = made.made.log.records[-1]
                assert record["prediction_id"] == document["prediction_id"]
                assert record["row"]["area"] == area
            assert (made.short, made.long) == (3, 0)
            assert made.made.counted("responses") == {("/predict", "200"): 3}

    asyncio.run(ask())


def test_a_traceparent_that_nobody_follows_costs_nothing(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            traced = JSON + b"traceparent: 00-" + b"4" * 32 + b"-" + b"5" * 16 + b"-01\r\n"
            writer.write(request(house, traced + b"tracestate: a=1\r\n"))
            assert (await response(reader))[0] == 200
            assert (made.short, made.long) == (1, 0)

    asyncio.run(ask())


def test_where_every_request_is_told_of_none_goes_the_short_way(stand, house):
    async def ask():
        async with stand() as (made, _, _):
            seen = []

            async def told(scope, receive, send):
                seen.append(scope["path"])
                await made.made.front(scope, receive, send)

            made.made.front.told = told
            server = await asyncio.get_running_loop().create_server(made.protocol, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(2):
                writer.write(request(house))
                assert (await response(reader))[0] == 200
            assert (made.short, seen) == (0, ["/predict/price"] * 2)
            writer.close()
            server.close()

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("headers", "head"),
    [
        (b"content-type: application/json; charset=utf-8\r\n", ROUTE),
        (JSON + b"connection: close\r\n", ROUTE),
        (JSON + b"expect: 100-continue\r\n", ROUTE),
        (JSON, ROUTE.replace(b"price", b"price?a=b")),
        (JSON, ROUTE.replace(b"price", b"pr%69ce")),
        (JSON, ROUTE.replace(b"1.1", b"1.0")),
    ],
)
def test_the_long_way_says_the_same(stand, house, headers, head):
    async def ask():
        async with stand() as (made, reader, writer):
            writer.write(request(house))
            short = await response(reader)
            writer.write(request(house, headers).replace(ROUTE, head))
            if b"expect" in headers:
                assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
                await reader.readline()
            long = await response(reader)
            assert (made.short, made.long) == (1, 1)
            for _, found, document in (short, long):
                document.pop("prediction_id")
                found.pop("connection", None)
            assert short == long

    asyncio.run(ask())


def test_answers_keep_the_order_of_pipelined_requests(stand, house):
    bad = {**house, "rooms": -1}
    several = {"rows": [house, house]}
    disguised = json.dumps(several).replace("rows", "\\u0072ows").encode()
    sent = [
        request({**house, "area": 1.0}),
        b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n",
        request({**house, "area": 2.0}),
        request(bad),
        request({**house, "area": 3.0}),
        request(bad),
        request(several),
        request({**house, "area": 4.0}),
        request(disguised),
        request({**house, "area": 5.0}),
    ]

    def kind(document):
        return next(n for n in ("errors", "live", "predictions", "model") if n in document)

    async def ask(parts):
        async with stand() as (made, reader, writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            found = [await response(reader) for _ in sent]
            assert [status for status, _, _ in found] == [200, 200, 200, 422, 200, 422] + [200] * 4
            kinds = [kind(document) for _, _, document in found]
            one, many = "model", "predictions"
            assert kinds == [one, "live", one, "errors", one, "errors", many, one, many, one]
            areas = [record["row"]["area"] for record in made.made.log.records]
            assert [area for area in areas if area < 6] == [1.0, 2.0, 3.0, 4.0, 5.0]

    whole = b"".join(sent)
    asyncio.run(ask([whole]))
    asyncio.run(ask([whole[i : i + 7] for i in range(0, len(whole), 7)]))


@pytest.mark.parametrize(
    ("limit", "size", "status"), [(100_000, 70_000, 422), (100_000, 100_001, 413), (60, 61, 413)]
)
def test_large_bodies_leave_the_short_way(stand, limit, size, status):
    async def ask():
        async with stand(Limits(body_bytes=limit)) as (made, reader, writer):
            writer.write(request(b'{"rooms": "' + b"x" * (size - 13) + b'"}'))
            found, headers, _ = await response(reader)
            assert found == status
            assert made.short == 0
            if status == 413:
                assert headers["connection"] == "close"

    asyncio.run(ask())


@pytest.mark.parametrize("route", [b"/predict/price", b"/invocations", b"/v2/models/price/infer"])
@pytest.mark.parametrize("more", [b"", b"expect: 100-continue\r\n"])
def test_a_body_that_will_be_too_large_is_refused_before_it_is_sent(stand, route, more):
    async def ask():
        async with stand(Limits(body_bytes=1_000)) as (_, reader, writer):
            head = ROUTE.replace(b"/predict/price", route) + JSON + more
            writer.write(head + b"content-length: 1001\r\n\r\n")
            status, headers, _ = await response(reader)
            assert (status, headers["connection"]) == (413, "close")
            assert await reader.read() == b""

    asyncio.run(ask())


def test_a_chunked_body_is_taken(stand, house):
    async def ask():
        async with stand() as (_, reader, writer):
            body = json.dumps(house).encode()
            writer.write(ROUTE + JSON + b"transfer-encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            assert (await response(reader))[0] == 200

    asyncio.run(ask())


def test_a_model_that_breaks_is_500_and_the_next_is_answered(stand, house, monkeypatch):
    async def ask():
        async with stand() as (made, reader, writer):
            predictor = made.made.endpoint.loaded.predictor
            monkeypatch.setattr(predictor, "answer_some", lambda rows, options=None: 1 / 0)
            writer.write(request(house))
            assert (await response(reader))[0] == 500
            monkeypatch.undo()
            writer.write(request(house))
            assert (await response(reader))[0] == 200

    asyncio.run(ask())


def test_a_server_that_ends_answers_what_is_half_read(stand, house):
    whole = request(house)

    async def ask():
        async with stand() as (made, reader, writer):
            writer.write(whole[:-5])
            while not made.protocols or not made.protocols[0]._short:
                await asyncio.sleep(0.001)
            made.protocols[0].shutdown()
            writer.write(whole[-5:])
            status, headers, _ = await response(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""

    asyncio.run(ask())


@pytest.mark.parametrize("several", [False, True])
def test_a_request_that_meets_the_end_of_the_server_is_answered(stand, house, several):
    async def ask():
        async with stand() as (made, reader, writer):
            writer.write(request(house))
            assert (await response(reader))[0] == 200
            made.protocols[0].shutdown()
            writer.write(request({"rows": [house]} if several else house))
            status, headers, _ = await response(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""

    asyncio.run(ask())


def test_an_idle_connection_is_closed_when_the_server_ends(stand):
    async def ask():
        async with stand() as (made, reader, _):
            while not made.protocols:
                await asyncio.sleep(0.001)
            made.protocols[0].shutdown()
            assert await asyncio.wait_for(reader.read(), 5) == b""

    asyncio.run(ask())


def test_an_idle_connection_is_closed(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            while not made.protocols:
                await asyncio.sleep(0.001)
            made.protocols[0].timeout_keep_alive = 0.05
            writer.write(request(house))
            assert (await response(reader))[0] == 200
            assert await asyncio.wait_for(reader.read(), 5) == b""

    asyncio.run(ask())


def test_a_client_that_is_gone_is_not_written_to(stand, house):
    async def ask():
        async with stand() as (made, _, writer):
            writer.write(request(house) * 3)
            writer.transport.abort()
            while not made.protocols or not made.protocols[0].transport.is_closing():
                await asyncio.sleep(0.001)
            assert not made.made.front.batches._waiting

    asyncio.run(ask())


@pytest.fixture
def guarded(tmp_path):
    """Access by two keys: one for this model, one for another."""
    file = KeyFile(tmp_path / "keys.json")
    texts = [file.create(name, models=[name])[1].encode() for name in ("price", "churn")]
    access = Access(file)
    access.load()
    return access, *[b"authorization: Bearer %b\r\n" % text for text in texts]


def test_a_key_that_was_verified_goes_the_short_way(stand, house, guarded):
    access, mine, other = guarded

    async def ask():
        async with stand(access=access) as (made, reader, writer):
            found = []
            for headers in (b"", mine, mine, other, mine, b"x-api-key: x\r\n", mine):
                writer.write(request(house, JSON + headers))
                found.append((await response(reader))[:2])
            assert [status for status, _ in found] == [401, 200, 200, 403, 200, 401, 200]
            assert found[0][1]["www-authenticate"].startswith(("Bearer", "Basic"))
            # The first sight of a key is the long way's, and so is every refusal.
            assert (made.short, made.long) == (3, 4)
            assert len(made.made.log.records) == 4
            assert made.made.counted("responses") == {
                ("/predict", "200"): 4,
                ("/predict", "401"): 2,
                ("/predict", "403"): 1,
            }

    asyncio.run(ask())


def test_pipelined_requests_are_each_asked_for_their_key(stand, house, guarded):
    access, mine, _ = guarded

    async def ask():
        async with stand(access=access) as (made, reader, writer):
            headers = [JSON + mine, JSON, JSON + mine, JSON, JSON, JSON + mine]
            writer.write(b"".join(request(house, one) for one in headers))
            found = [(await response(reader))[0] for _ in headers]
            assert found == [200, 401, 200, 401, 401, 200]
            assert len(made.made.log.records) == 3

    asyncio.run(ask())


def test_what_is_not_a_prediction_is_asked_for_its_key_too(stand, guarded):
    access, mine, _ = guarded
    want = {"/health/live": (200, 200), "/v2/health/ready": (200, 200), "/metrics": (401, 403),
            "/docs": (401, 200), "/openapi.json": (401, 200), "/": (401, 200), "/nope": (401, 404),
            "/v2/models/price": (401, 200), "/predict/churn": (401, 404)}  # fmt: skip

    async def ask():
        async with stand(access=access) as (_, reader, writer):
            for path, statuses in want.items():
                for headers, status in zip((b"", mine), statuses, strict=True):
                    writer.write(
                        b"GET %b HTTP/1.1\r\nhost: here\r\n%b\r\n" % (path.encode(), headers)
                    )
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                    await reader.readexactly(length)
                    assert (path, int(head.split()[1])) == (path, status)

    asyncio.run(ask())


def keyed(key, more=b""):
    return JSON + b"idempotency-key: %b\r\n" % key.encode() + more


def test_a_request_with_a_key_goes_the_short_way_and_is_answered_once(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            key = uuid7()
            found = []
            for headers in (keyed(key), keyed(key, b"steelyard-timeout-ms: 5000\r\n"), keyed(key)):
                writer.write(request(house, headers))
                found.append(await response(reader))
            assert found[0] == found[1] == found[2]
            assert found[0][2]["prediction_id"] == key
            writer.write(request({**house, "rooms": 5}, keyed(key)))
            status, _, document = await response(reader)
            assert (status, document["errors"][0]["field"]) == (422, "Idempotency-Key")
            # By uvicorn's own way it is the same answer.
            writer.write(request(house, keyed(key, b"connection: close\r\n")))
            assert (await response(reader))[2] == found[0][2]
            assert (made.short, made.long) == (4, 1)
            assert [record["prediction_id"] for record in made.made.log.records] == [key]

    asyncio.run(ask())


def test_what_is_asked_twice_at_once_is_answered_once(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            key = uuid7()
            writer.write(request(house, keyed(key)) * 3 + request(house))
            found = [await response(reader) for _ in range(4)]
            assert found[0] == found[1] == found[2]
            assert found[3][2]["prediction_id"] != key
            assert len(made.made.log.records) == 2

    asyncio.run(ask())


@pytest.mark.parametrize("body", [{"rows": []}, b'{"ro\\u0077s": [1]}', {"rooms": 0}, b"{"])
def test_a_refused_request_leaves_its_key_free(stand, house, body):
    async def ask():
        async with stand() as (_, reader, writer):
            key = uuid7()
            writer.write(request(body, keyed(key)))
            refused = await response(reader)
            writer.write(request(house, keyed(key)))
            status, _, document = await response(reader)
            if refused[0] == 200:  # no rows are answered, and that is kept
                assert status == 422
            else:
                assert (status, document["prediction_id"]) == (200, key)

    asyncio.run(ask())


def test_an_answer_is_kept_for_a_client_that_went_away(stand, house):
    async def ask():
        async with stand() as (made, _, writer):
            key, asked = uuid7(), asyncio.Event()
            add = made.made.front.batches.add

            def gone_meanwhile(row, settle):
                made.protocols[0].transport.abort()
                add(row, settle)
                asked.set()

            made.made.front.batches.add = gone_meanwhile
            writer.write(request(house, keyed(key)))
            await asyncio.wait_for(asked.wait(), 5)
            made.made.front.batches.add = add
            body = [json.dumps(house).encode()]
            again = await made.made.client.request(
                "POST", "/predict/price", body, {"idempotency-key": key}
            )
            assert again.document["prediction_id"] == key
            assert [record["prediction_id"] for record in made.made.log.records] == [key]

    asyncio.run(ask())


def test_a_bad_key_is_refused_in_the_same_words_as_ever(stand, house):
    async def ask():
        async with stand() as (made, reader, writer):
            writer.write(request(house, keyed("mine")))
            status, _, document = await response(reader)
            assert (status, document["errors"][0]["got"]) == (422, "mine")
            assert not made.made.log.lines

    asyncio.run(ask())


HEALTH = b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n"


@pytest.fixture
def sleepy(monkeypatch):
    """Return what makes the model of a stand slow when some rows wait for it, each call a while."""

    def make(made, after=1, seconds=0.05):
        endpoint, batches = made.made.endpoint, made.made.front.batches
        answer, add = endpoint.loaded.predictor.answer_some, batches.add
        added = []

        def slow(rows, options=None):
            time.sleep(seconds)
            return answer(rows, options)

        def adding(asked, settle):
            add(asked, settle)
            added.append(asked)
            if len(added) == after:
                endpoint.calls.slow = True

        monkeypatch.setattr(batches, "_connections", lambda: 1_000)
        monkeypatch.setattr(batches, "add", adding)
        monkeypatch.setattr(endpoint.loaded.predictor, "answer_some", slow)
        return added

    return make


def test_answers_keep_the_order_of_requests_also_where_the_model_turns_slow(stand, house, sleepy):
    async def ask():
        async with stand() as (made, reader, writer):
            sleepy(made, after=3)
            made.made.endpoint.loaded.fallback, before = None, made.made.endpoint.loaded.fallback
            hasty = JSON + b"steelyard-timeout-ms: 10\r\n"
            try:
                writer.write(
                    request({**house, "area": 1.0})
                    + request({**house, "area": 2.0}, hasty)
                    + request({**house, "area": 3.0})
                    + HEALTH
                    + request({**house, "rooms": 0})
                    + request({**house, "area": 4.0})
                )
                found = [await response(reader) for _ in range(6)]
            finally:
                made.made.endpoint.loaded.fallback = before
            assert [status for status, _, _ in found] == [200, 503, 200, 200, 422, 200]
            assert found[3][2] == {"live": True}
            ids = [found[i][2]["prediction_id"] for i in (0, 2, 5)]
            logged = {one["prediction_id"]: one["row"]["area"] for one in made.made.log.records}
            assert [logged[i] for i in ids] == [1.0, 3.0, 4.0]
            assert (made.short, made.long) == (3, 3)

    asyncio.run(ask())


def test_an_error_keeps_behind_a_row_that_waits_for_a_slow_model(stand, house, sleepy):
    async def ask():
        async with stand() as (made, reader, writer):
            sleepy(made)
            writer.write(request(house))
            whole = request({**house, "rooms": 0})
            # Its head comes while the model is fast, its end when it is slow.
            made.made.endpoint.calls.slow = False
            writer.write(whole)
            found = [await response(reader) for _ in range(2)]
            assert [status for status, _, _ in found] == [200, 422]

    asyncio.run(ask())


@pytest.mark.parametrize(
    "ending", ["shutdown", "no request\r\n\r\n", "GET http://here HTTP/1.1\r\n\r\n"]
)
def test_what_waits_for_a_slow_model_is_answered_before_the_connection_ends(
    stand, house, sleepy, ending
):
    async def ask():
        async with stand() as (made, reader, writer):
            added = sleepy(made, after=2)
            writer.write(request(house) * 2)
            while len(added) < 2:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            calls = asyncio.get_running_loop().time()
            if ending == "shutdown":
                made.protocols[0].shutdown()
            else:
                writer.write(ending.encode())
            assert asyncio.get_running_loop().time() - calls < 0.04, "the loop was held up"
            found = [await response(reader) for _ in range(2)]
            assert [status for status, _, _ in found] == [200, 200]
            assert [headers.get("connection") for _, headers, _ in found][1] == "close"
            assert await reader.read() == b""

    asyncio.run(ask())
