import asyncio
import json
from itertools import pairwise

import pytest

from steelyard.errors import InputError, StoreError
from steelyard.serve.answer.limits import Limits


def test_the_right_request_is_answered(stand, house):
    made = stand("price")
    answer = made.client.call("POST", "/predict/price", house)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.document["prediction_id"] == made.log.records[0]["prediction_id"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "says"),
    [
        ("POST", "/predict/prise", {}, 404, "Did you mean price?"),
        ("POST", "/predict/", {}, 404, "There is: price."),
        ("GET", "/predict/price", {}, 405, "use POST"),
        ("POST", "/predict/price", {"content_type": "text/csv"}, 415, "application/json"),
        ("POST", "/predict/price", {"content_encoding": "gzip"}, 415, "Content-Encoding"),
        ("GET", "/predictions", {}, 404, "no page '/predictions'"),
    ],
)
def test_what_is_no_request_for_a_prediction_says_so(stand, method, path, headers, status, says):
    made = stand("price")
    answer = made.client.call(method, path, b"{}", **headers)
    assert answer.status == status
    assert says in answer.document["error"]
    route = "/predict" if path.startswith("/predict/") else "other"
    assert made.counted("responses") == {(route, str(status)): 1}


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"]
)
def test_other_ways_to_say_json_are_taken(stand, house, content_type):
    answer = stand("price").client.call("POST", "/predict/price", house, content_type=content_type)
    assert answer.status == 200


def test_a_bad_field_is_422_and_named(stand, house):
    answer = stand("price").client.call("POST", "/predict/price", {**house, "rooms": -1})
    assert answer.status == 422
    assert answer.document == {
        "errors": [{"field": "rooms", "message": "expected an integer >= 1", "got": -1}]
    }


@pytest.mark.parametrize("cuts", [[1], [0, 5], [10, 20, 30], [46], [47], list(range(1, 47))])
def test_a_body_may_come_in_any_parts(stand, cuts):
    body = b'{"rooms": 4, "area": 81.5, "district": "north"}'
    made = stand("price")
    edges = [0, *cuts, len(body)]
    parts = [body[start:end] for start, end in pairwise(edges)]
    answer = asyncio.run(made.client.request("POST", "/predict/price", parts))
    assert answer.status == 200
    assert made.log.records[0]["row"] == json.loads(body)


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        ([b"x" * 101], {}),
        ([b"x" * 60, b"x" * 60, b"x" * 60], {}),
        ([b"", b"x"], {"content-length": "101"}),
    ],
)
def test_a_large_body_is_refused_unread(stand, parts, headers):
    made = stand("price", Limits(body_bytes=100))
    answer = asyncio.run(made.client.request("POST", "/predict/price", parts, headers))
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert "100 bytes" in answer.document["error"]


def test_more_rows_than_allowed_are_too_many(stand, house):
    made = stand("price", Limits(rows=3))
    assert made.client.call("POST", "/predict/price", {"rows": [house] * 3}).status == 200
    answer = made.client.call("POST", "/predict/price", {"rows": [house] * 4})
    assert answer.status == 413
    assert "expected at most 3 rows" in answer.document["error"]


def test_a_client_that_goes_away_leaves_nothing_behind(stand):
    made = stand("price")

    async def go():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            raise AssertionError(message)

        scope = {"type": "http", "method": "POST", "path": "/predict/price", "headers": []}
        await made.front(scope, receive, send)

    asyncio.run(go())
    assert made.counted("responses") == {("/predict", "499"): 1}
    assert not made.log.lines


def test_a_full_log_is_503_with_when_to_come_again(stand, house):
    made = stand("price")
    made.log.full = True
    for body in (house, {"rows": [house]}):
        answer = made.client.call("POST", "/predict/price", body)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.document == {"error": "the log is full"}


def test_a_failure_nobody_foresaw_is_500_and_the_server_goes_on(stand, house, monkeypatch, caplog):
    made = stand("price")

    def fail(rows, options=None):
        raise RuntimeError("the runtime broke")

    with monkeypatch.context() as patch:
        patch.setattr(made.endpoint.loaded.predictor, "answer_some", fail)
        answer = made.client.call("POST", "/predict/price", house)
    assert answer.status == 500
    assert "the runtime broke" not in answer.body.decode()
    assert "the runtime broke" in caplog.text
    assert made.client.call("POST", "/predict/price", house).status == 200


def test_a_log_that_is_closed_is_500_as_well(stand, house, monkeypatch, caplog):
    made = stand("price")

    def closed(payloads):
        raise StoreError("the log is closed")

    monkeypatch.setattr(made.log, "append_many", closed)
    answer = made.client.call("POST", "/predict/price", house)
    assert answer.status == 500
    assert "the log is closed" in caplog.text


@pytest.mark.usefixtures("short_turns")
def test_single_rows_are_answered_between_the_steps_of_many(stand, house):
    made = stand("price")
    order = []

    async def ask(name, body):
        answer = await made.client.request("POST", "/predict/price", [json.dumps(body).encode()])
        order.append((name, answer.status))

    async def both():
        many = asyncio.create_task(ask("many", {"rows": [house] * 2_000}))
        await asyncio.sleep(0)
        for _ in range(5):
            await ask("one", house)
        assert not many.done()
        await many

    asyncio.run(both())
    assert order == [("one", 200)] * 5 + [("many", 200)]


@pytest.mark.usefixtures("short_turns")
def test_more_requests_of_rows_than_may_wait_are_503(stand, house):
    made = stand("price", Limits(row_requests=2))
    body = json.dumps({"rows": [house] * 64}).encode()

    async def all_at_once():
        asked = [made.client.request("POST", "/predict/price", [body]) for _ in range(4)]
        return await asyncio.gather(*asked)

    async def twice():
        return await all_at_once(), await all_at_once()

    answers, later = asyncio.run(twice())
    assert sorted(answer.status for answer in answers) == [200, 200, 503, 503]
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.headers["retry-after"] == "1"
    # Their places are free again.
    assert [answer.status for answer in later].count(200) == 2


def test_one_row_in_rows_is_not_turned_away_by_a_failed_one_before_it(stand, house):
    made = stand("price", Limits(row_requests=1))
    made.log.full = True
    assert made.client.call("POST", "/predict/price", {"rows": [house]}).status == 503
    made.log.full = False
    assert made.client.call("POST", "/predict/price", {"rows": [house]}).status == 200


def test_the_one_row_of_any_contract_is_batched_and_its_errors_keep_its_place(stand, house):
    made = stand("price")
    loaded = made.endpoint.loaded
    (answer,) = asyncio.run(made.front.answer(loaded, [house]))
    assert made.log.records[0]["prediction"] == answer.prediction
    assert made.counted("batch_rows") == {(): 1}
    with pytest.raises(InputError) as caught:
        asyncio.run(made.front.answer(loaded, [{**house, "rooms": 0, "area": "x"}]))
    assert [error["field"] for error in caught.value.errors] == ["rows.0.rooms", "rows.0.area"]
    assert made.counted("refusals") == {("rooms",): 1, ("area",): 1}
