"""What a caller gets, whatever the server does: the same of the waiting client and of the async one."""

import asyncio
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import tenacity

import steelyard as sy
from steelyard.client import AsyncClient, Client, Prediction, Service
from steelyard.core.ids import CLOCK_TOLERANCE_MS, is_uuid7, milliseconds_of, row_ids, uuid7
from steelyard.errors import (
    AccessError,
    InputError,
    NotFoundError,
    UnavailableError,
    UsageError,
)

HOUSE = {"rooms": 4}


class House(sy.Row):
    rooms: int = sy.Field(ge=1)


def problem(status: int, message: str, **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": message}).encode()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def gone() -> str:
    return f"http://127.0.0.1:{free_port()}"


# One row.


def test_a_row_is_answered_with_a_record(server, connect) -> None:
    found = connect(server.url).predict(HOUSE)
    key = server.asked[0].key
    assert found == Prediction(
        prediction=1.5, prediction_id=key, model="price", version=2, source="model"
    )
    assert is_uuid7(key)
    assert (found.probabilities, found.flags, found.reason) == (None, (), "")
    assert json.loads(server.asked[0].body) == HOUSE


def test_all_that_a_server_says_of_a_prediction_is_there(server, connect) -> None:
    said = {"prediction": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "source": "fallback",
            "reason": "late", "flags": ["unseen: city"], "new": 1}  # fmt: skip
    server.replies.append(lambda request: server.good(request, **said))
    found = connect(server.url).predict(HOUSE)
    assert (found.prediction, found.probabilities) == ("yes", {"no": 0.25, "yes": 0.75})
    assert (found.source, found.reason, found.flags) == ("fallback", "late", ("unseen: city",))


@pytest.mark.parametrize("end", ["", "/", "/predict/price", "/predict/price/"])
def test_the_url_may_name_the_model(server, connect, end) -> None:
    assert connect(server.url + end).predict(HOUSE).model == "price"
    assert server.asked[0].path == "/predict/price"
    assert len(server.requests) == (1 if "price" in end else 2)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://here", "http://", "/predict/price"])
def test_what_is_no_url_is_refused(connect, url) -> None:
    with pytest.raises(UsageError, match="URL"):
        connect(url)


def test_the_server_says_what_it_offers(server, connect) -> None:
    row = {"type": "integer"}
    found = connect(server.url).service()
    assert found == Service("price", 2, found.row, 10_000, tables=False)
    assert found.row["properties"] == {"rooms": row}


def test_a_row_may_be_an_instance(server, connect) -> None:
    connect(server.url).predict(House(rooms=3))
    assert json.loads(server.asked[0].body) == {"rooms": 3}


@pytest.mark.parametrize("row", [None, 5, "row", [HOUSE]])
def test_what_is_no_row_is_not_sent(server, connect, row) -> None:
    with pytest.raises(UsageError, match="row"):
        connect(server.url).predict(row)
    assert not server.requests


def test_a_row_class_checks_before_anything_is_sent(server, connect) -> None:
    client = connect(server.url, row=House)
    with pytest.raises(InputError) as refused:
        client.predict({"rooms": 0, "more": 1})
    assert [error["field"] for error in refused.value.errors] == ["rooms", "more"]
    with pytest.raises(InputError, match=r"rows\.1\.rooms"):
        client.predict_many([HOUSE, {"rooms": float("nan")}])
    assert not server.requests
    assert client.predict(HOUSE).prediction == 1.5


# What a server refuses.


def test_a_refusal_names_the_fields_as_the_server_does(server, connect) -> None:
    errors = [{"field": "rooms", "message": "expected an integer >= 1", "got": -1}]
    server.replies.append((422, {}, json.dumps({"errors": errors}).encode()))
    with pytest.raises(InputError, match="rooms: expected an integer >= 1, got -1") as refused:
        connect(server.url, fallback=0).predict({"rooms": -1})
    assert refused.value.errors == errors
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, UsageError), (401, AccessError), (403, AccessError), (404, NotFoundError),
     (413, UsageError), (415, UsageError)],
)  # fmt: skip
def test_other_refusals_are_told_and_no_fallback_hides_them(server, connect, status, kind) -> None:
    server.replies.append(problem(status, "why it is so"))
    with pytest.raises(kind, match="why it is so"):
        connect(server.url, fallback=0).predict(HOUSE)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [(500, {}, b'{"error":"broken"}'), (200, {}, b"<html>"), (200, {}, b'{"prediction": 1}'),
     (302, {"Location": "/"}, b""), (404, {}, b"<html>")],
)  # fmt: skip
def test_what_is_no_answer_is_not_asked_for_again(server, connect, reply) -> None:
    server.replies += [reply, reply]
    with pytest.raises(UnavailableError, match="after 1 try"):
        connect(f"{server.url}/predict/price").predict(HOUSE)
    assert len(server.asked) == 1
    found = connect(f"{server.url}/predict/price", fallback=9.5).predict(HOUSE)
    assert (found.prediction, found.source) == (9.5, "client-fallback")


def test_a_page_that_is_no_openapi_says_that_this_is_no_server(server, connect) -> None:
    server.reply = lambda request: (200, {}, b'{"paths": {}}')
    with pytest.raises(UnavailableError, match="no Steelyard server"):
        connect(server.url).predict(HOUSE)


# Asking again.


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_not_now_is_asked_again_under_the_same_key(server, connect, status) -> None:
    server.replies += [problem(status, "busy"), problem(status, "busy")]
    found = connect(server.url).predict(HOUSE)
    assert [request.key for request in server.asked] == [found.prediction_id] * 3
    assert len({request.body for request in server.asked}) == 1


def test_a_broken_connection_is_asked_again_under_the_same_key(server, connect) -> None:
    logged = []

    def log_and_break(request):
        logged.append(request.key)
        return server.BREAK

    server.replies += [log_and_break, log_and_break]
    found = connect(server.url).predict(HOUSE)
    assert logged == [found.prediction_id] * 2


def test_it_gives_up_after_so_many_tries_and_says_how_many(server, connect) -> None:
    server.replies += [problem(503, "the log is full")] * 9
    with pytest.raises(
        UnavailableError, match="after 3 tries: it answered 503: the log is full"
    ) as e:
        connect(server.url, attempts=3).predict(HOUSE)
    assert len(server.asked) == 3
    assert (e.value.status, e.value.retry_after, e.value.exit_code) == (503, 0.0, 1)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for_but_not_beyond_the_deadline(server, connect, as_date) -> None:
    later = format_datetime(datetime.fromtimestamp(time.time() + 60, UTC), usegmt=True)
    server.replies.append(problem(503, "busy", Retry_After=later if as_date else "60"))
    with pytest.raises(UnavailableError, match="after 1 try: it answered 503") as refused:
        connect(server.url, timeout=20).predict(HOUSE)
    assert refused.value.retry_after == pytest.approx(60, abs=5)


def test_the_wait_is_full_jitter_on_top_of_retry_after() -> None:
    client = Client("http://127.0.0.1:1/predict/price")
    call = client._settings.one(HOUSE, None, None)
    wait = client._settings.policy(call, None)["wait"]

    def waits(tries: int, error: UnavailableError) -> list[float]:
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = tries
        state.set_exception((type(error), error, None))
        return [wait(state) for _ in range(300)]

    plain = waits(5, UnavailableError("", retry_after=0.0))
    assert 0 <= min(plain) < 0.004 < 0.012 < max(plain) <= 0.016  # a thousandth, doubled four times
    told = waits(1, UnavailableError("", retry_after=7.0))
    assert 7 <= min(told) < max(told) <= 7.001
    assert max(waits(60, UnavailableError("", retry_after=0.0))) <= 2.0


def test_the_caller_may_choose_the_id(server, connect) -> None:
    mine = uuid7()
    assert connect(server.url).predict(HOUSE, prediction_id=mine).prediction_id == mine
    with pytest.raises(UsageError, match="UUIDv7"):
        connect(server.url).predict(HOUSE, prediction_id="mine")


def test_a_server_whose_clock_is_another_gets_keys_by_its_clock(server, connect) -> None:
    ahead = 3600
    date = {"Date": format_datetime(datetime.fromtimestamp(time.time() + ahead, UTC), usegmt=True)}
    error = {"field": "Idempotency-Key", "message": "expected another clock", "got": "x"}
    refusal = (422, date, json.dumps({"errors": [error]}).encode())

    def strict(request):
        off = milliseconds_of(request.key) - (time.time() + ahead) * 1000
        return server.good(request) if abs(off) < CLOCK_TOLERANCE_MS else refusal

    server.replies += [strict] * 5
    client = connect(server.url)
    for _ in range(2):
        client.predict(HOUSE)
    assert len(server.asked) == 3  # learnt once
    # Whoever chose the key is told, and a server that minds all the same is not asked for ever.
    with pytest.raises(InputError, match="another clock"):
        client.predict(HOUSE, prediction_id=uuid7())
    server.replies.insert(0, refusal)
    with pytest.raises(InputError, match="another clock"):
        client.predict(HOUSE)


# Deadlines.


def test_the_server_is_told_how_much_time_is_left(server, connect) -> None:
    server.replies.append(problem(503, "busy"))
    connect(server.url).predict(HOUSE, timeout=8.0)
    first, second = (int(request.headers["steelyard-timeout-ms"]) for request in server.asked)
    assert 0 < second <= first <= 8_000


def test_a_server_that_is_too_late_is_no_answer(server, connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/predict/price"
        with pytest.raises(UnavailableError, match="no answer in time"):
            connect(url, timeout=0.05).predict(HOUSE)


# Fallbacks.


def test_where_no_server_is_the_fallback_answers_and_says_so(connect) -> None:
    url = gone()
    found = connect(f"{url}/predict/price", fallback=7.5, attempts=2).predict(HOUSE)
    assert (found.prediction, found.source, found.version) == (7.5, "client-fallback", None)
    assert found.model == "price"
    assert is_uuid7(found.prediction_id)
    assert "refused" in found.reason or "connect" in found.reason
    with pytest.raises(UnavailableError, match=r"after 2 tries"):
        connect(url, attempts=2).predict(HOUSE)


def test_a_fallback_may_be_a_function_of_the_row_as_it_was_given(connect) -> None:
    client = connect(gone(), fallback=lambda row: row.rooms * 10, attempts=1)
    assert client.predict(House(rooms=3)).prediction == 30
    found = client.predict_many([House(rooms=1), House(rooms=2)])
    assert [one.prediction for one in found] == [10, 20]
    assert len({one.prediction_id for one in found}) == 2


def test_a_server_that_comes_back_answers_again(server, connect) -> None:
    client = connect(f"{server.url}/predict/price", fallback=0, attempts=1)
    server.replies += [server.BREAK]
    sources = [client.predict(HOUSE).source for _ in range(2)]
    assert sources == ["client-fallback", "model"]


# Several rows.


def test_many_rows_are_parted_and_keep_their_order(server, connect, monkeypatch) -> None:
    monkeypatch.setattr("steelyard.client.rows._MOST_ROWS", 10)
    found = connect(server.url).predict_many({"rooms": i} for i in range(25))
    assert [one.prediction for one in found] == list(range(25))
    assert [len(json.loads(request.body)["rows"]) for request in server.asked] == [10, 10, 5]
    ids = [one for r in server.asked for one, _ in zip(row_ids(r.key), range(10), strict=False)]
    assert [one.prediction_id for one in found] == ids[:25]


def test_bodies_are_bounded_in_bytes(server, connect, monkeypatch) -> None:
    monkeypatch.setattr("steelyard.client.rows._MOST_BYTES", 60)
    assert len(connect(server.url).predict_many([HOUSE] * 20)) == 20
    assert max(len(request.body) for request in server.asked) <= 60 + len(b'{"rows":[]}')
    assert connect(server.url).predict_many([]) == []


def test_the_servers_own_limit_is_kept(server, connect) -> None:
    client = connect(server.url)
    client.service()
    client._settings.service = Service("price", 2, {}, 3, tables=False)
    client.predict_many([HOUSE] * 7)
    assert [len(json.loads(request.body)["rows"]) for request in server.asked] == [3, 3, 1]


def test_a_bad_row_is_named_by_its_number_among_all(server, connect, monkeypatch) -> None:
    monkeypatch.setattr("steelyard.client.rows._MOST_ROWS", 10)
    error = {"field": "rows.3.rooms", "message": "expected an integer", "got": "x"}
    server.replies += [server.usual, (422, {}, json.dumps({"errors": [error]}).encode())]
    with pytest.raises(InputError, match=r"rows\.13\.rooms"):
        connect(server.url).predict_many([HOUSE] * 25)
    assert len(server.asked) == 2


def test_of_a_wrong_number_of_answers_none_is_taken(server, connect) -> None:
    server.replies.append((200, {}, b'{"predictions":[]}'))
    with pytest.raises(UnavailableError, match="0 rows of 2"):
        connect(server.url).predict_many([HOUSE] * 2)


def test_a_server_that_goes_away_is_waited_for_once(server, connect, monkeypatch) -> None:
    monkeypatch.setattr("steelyard.client.rows._MOST_ROWS", 2)
    client = connect(server.url, fallback=-1, attempts=3)
    client.service()
    server.replies += [server.BREAK] * 4  # three tries of the first chunk, one of the second
    found = client.predict_many([HOUSE] * 6)
    assert [one.source for one in found] == ["client-fallback"] * 4 + ["model"] * 2
    assert len(server.asked) == 5


# Connections.


def test_one_connection_serves_one_call_after_the_other(server, connect) -> None:
    client = connect(server.url)
    for _ in range(20):
        client.predict(HOUSE)
    assert server.connections == 1
    client.close()
    assert client.predict(HOUSE).prediction == 1.5  # a closed client opens again
    assert server.connections == 2


def test_threads_share_a_client(server) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: client.predict({"rooms": i}), range(40)))
    assert len({one.prediction_id for one in found}) == 40
    assert server.connections <= 5


def test_calls_of_one_loop_go_at_the_same_time(server) -> None:
    together = 8
    at_once = asyncio.Barrier(together)

    async def ask() -> list[Prediction]:
        loop = asyncio.get_running_loop()

        def meet(request):
            # Answers only when so many are being asked: one after the other would never end.
            asyncio.run_coroutine_threadsafe(at_once.wait(), loop).result(30)
            return server.good(request)

        server.replies += [meet] * together
        async with AsyncClient(f"{server.url}/predict/price") as client:
            found = await asyncio.gather(*(client.predict(HOUSE) for _ in range(together)))
            assert server.connections == together
            await asyncio.gather(*(client.predict(HOUSE) for _ in range(together)))
            assert server.connections == together  # kept
        return found

    assert len({one.prediction_id for one in asyncio.run(ask())}) == together


def test_a_forked_child_makes_its_own_connections(server) -> None:
    with Client(server.url) as client:
        client.predict(HOUSE)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if client.predict(HOUSE).prediction == 1.5 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.predict(HOUSE).prediction == 1.5
    assert server.connections == 2


# Keys and certificates.


def test_the_api_key_is_sent_and_never_shown(server, connect, monkeypatch) -> None:
    client = connect(server.url, api_key="sy_secret")
    client.predict(HOUSE)
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer sy_secret"}
    assert "secret" not in repr(Client(server.url, api_key="sy_secret"))
    monkeypatch.setenv("STEELYARD_API_KEY", "sy_other")
    connect(server.url).predict(HOUSE)
    assert server.asked[-1].headers["authorization"] == "Bearer sy_other"


def test_a_client_without_a_key_sends_none(server, connect) -> None:
    connect(server.url).predict(HOUSE)
    assert "authorization" not in server.asked[0].headers
