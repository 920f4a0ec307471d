"""Models that sleep, raise and hang, behind the calls of a real endpoint."""

import asyncio
import json
import threading
import time

import pytest

from steelyard.errors import InputError
from steelyard.serve.answer.batches import Batches, BusyError
from steelyard.serve.answer.calls import ModelError
from steelyard.serve.answer.limits import Limits

FALLBACK = 42.5


class Model:
    """What a version's model does next: answer, raise, sleep, or hang until it is let go."""

    def __init__(self, loaded, patch):
        self.calls = 0
        self.rows = 0
        self.raises = False
        self.sleeps = 0.0
        self.hangs = threading.Event()
        self.hangs.set()
        self._real = loaded.predictor.answer_some
        patch.setattr(loaded.predictor, "answer_some", self)
        patch.setattr(loaded, "fallback", lambda row: (FALLBACK, None))

    def __call__(self, rows, options):
        self.calls += 1
        self.rows += len(rows)
        time.sleep(self.sleeps)
        self.hangs.wait(30)
        if self.raises:
            raise RuntimeError("the model is broken")
        return self._real(rows, options)


@pytest.fixture
def broken(stand, monkeypatch):
    """Return a function that makes an endpoint with limits, and its model that can be broken."""
    every = []

    def make(**limits):
        made = stand("price", Limits(**limits))
        every.append((made, Model(made.endpoint.loaded, monkeypatch)))
        return every[-1]

    yield make
    for made, model in every:
        model.hangs.set()
        if made.endpoint.calls._pool is not None:
            # The bundle is shared: a call that goes on would be one of the next test's.
            made.endpoint.calls._pool.shutdown(wait=True)


def document(outcome):
    if isinstance(outcome, Exception):
        raise outcome
    return json.loads(outcome)


def answered(made, row, timeout_ms=None):
    return made.client.call(
        "POST",
        "/predict/price",
        row,
        **({} if timeout_ms is None else {"steelyard_timeout_ms": str(timeout_ms)}),
    )


def make_slow(made, model, house):
    """Turn the calls slow by the long calls of one that works."""
    model.sleeps = 0.06
    assert answered(made, house).status == 200
    assert made.endpoint.calls.slow
    model.sleeps = 0.0


def test_a_model_that_raises_is_answered_for_by_the_fallback_and_says_so(broken, house):
    made, model = broken()
    model.raises = True
    answer = answered(made, house)
    assert answer.status == 200
    assert answer.document["source"] == "fallback"
    assert answer.document["reason"] == "failed"
    assert answer.document["prediction"] == FALLBACK
    (record,) = made.log.records
    assert (record["source"], record["reason"]) == ("fallback", "failed")
    assert record["prediction_id"] == answer.document["prediction_id"]
    assert made.counted("fallbacks") == {("failed",): 1}


def test_without_a_fallback_a_failure_is_an_error_and_nothing_is_logged(broken, house, monkeypatch):
    made, model = broken()
    monkeypatch.setattr(made.endpoint.loaded, "fallback", None)
    model.raises = True
    assert answered(made, house).status == 500
    assert answered(made, {"rows": [house, house]}).status == 500
    assert not made.log.lines


def test_a_broken_model_is_left_alone_until_it_answers_its_golden_row(broken, house):
    made, model = broken()
    model.raises = True
    reasons = [answered(made, house).document["reason"] for _ in range(20)]
    assert reasons == ["failed"] * 5 + ["broken"] * 15
    assert model.calls == 6, "five rows and the golden one"
    model.raises = False
    made.endpoint.calls.breaker._again = 0.0
    assert answered(made, house).document["source"] == "model"
    assert not made.endpoint.calls.breaker.is_open


def test_an_open_breaker_without_a_fallback_is_503(broken, house, monkeypatch):
    made, model = broken()
    monkeypatch.setattr(made.endpoint.loaded, "fallback", None)
    model.raises = True
    answers = [answered(made, house) for _ in range(7)]
    assert [answer.status for answer in answers] == [500] * 5 + [503] * 2
    assert answers[-1].headers["retry-after"] == "1"


def test_one_poisonous_row_does_not_take_the_model_from_the_others(broken, house, monkeypatch):
    made, model = broken()

    def picky(rows, options):
        if any(row[1] == 666.0 for row in rows):
            raise RuntimeError("poison")
        return model._real(rows, options)

    monkeypatch.setattr(made.endpoint.loaded.predictor, "answer_some", picky)
    for _ in range(30):
        assert answered(made, {**house, "area": 666.0}).document["reason"] == "failed"
    assert answered(made, house).document["source"] == "model"


def test_an_answer_that_is_not_finite_is_the_fallbacks(broken, house, monkeypatch):
    made, _ = broken()
    monkeypatch.setattr(
        made.endpoint.loaded.predictor,
        "run",
        lambda feeds, options: [(float("nan"), None)] * len(feeds["numbers"]),
    )
    answer = answered(made, house)
    assert (answer.document["source"], answer.document["reason"]) == ("fallback", "not_finite")
    many = answered(made, {"rows": [house] * 3}).document["predictions"]
    assert [one["reason"] for one in many] == ["not_finite"] * 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_answer_that_is_not_finite_leaves_even_past_the_guards(
    broken, house, monkeypatch, number
):
    made, _ = broken()
    monkeypatch.setattr(
        made.endpoint.loaded.predictor,
        "answer_some",
        lambda rows, options: ([(number, None)] * len(rows), None),
    )
    answers = [answered(made, house).document]
    answers += answered(made, {"rows": [house] * 40}).document["predictions"]
    assert {(one["source"], one["reason"]) for one in answers} == {("fallback", "not_finite")}
    assert {record["source"] for record in made.log.records} == {"fallback"}
    monkeypatch.setattr(made.endpoint.loaded, "fallback", None)
    assert answered(made, house).status == 422
    refused = answered(made, {"rows": [house] * 40})
    assert (refused.status, refused.document["errors"][0]["field"]) == (422, "rows.0.body")
    assert len(made.log.records) == 41


def test_a_late_answer_is_the_fallbacks(broken, house):
    made, model = broken()
    model.sleeps = 0.02
    assert answered(made, house, timeout_ms=5).document["reason"] == "late"
    assert answered(made, house, timeout_ms=10_000).document["source"] == "model"
    assert made.counted("fallbacks") == {("late",): 1}


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "soon", "3600001", ""])
def test_a_time_that_is_none_is_refused_by_name(broken, house, given):
    made, _ = broken()
    answer = answered(made, house, timeout_ms=given)
    assert answer.status == 422
    assert answer.document["errors"][0]["field"] == "Steelyard-Timeout-Ms"


def test_a_model_that_hangs_is_given_up_in_time_and_the_server_goes_on(broken, house):
    made, model = broken(timeout_ms=50)
    make_slow(made, model, house)
    model.hangs.clear()

    async def go():
        body = json.dumps(house).encode()
        asked = [made.client.request("POST", "/predict/price", [body]) for _ in range(8)]
        answers = await asyncio.gather(*asked)
        assert (await made.client.request("GET", "/health/live")).status == 200
        rows = json.dumps({"rows": [house] * 40}).encode()
        many = await made.client.request("POST", "/predict/price", [rows])
        model.hangs.set()
        return answers, many

    answers, many = asyncio.run(asyncio.wait_for(go(), 20))
    assert {answer.document["reason"] for answer in answers} <= {"late", "broken"}
    assert answers[0].document["reason"] == "late"
    assert {one["reason"] for one in many.document["predictions"]} <= {"late", "broken"}
    assert len(made.log.lines) == 1 + 8 + 40


def test_who_has_little_time_does_not_wait_for_who_has_much(broken, house):
    made, model = broken(timeout_ms=20_000)
    make_slow(made, model, house)
    model.hangs.clear()

    async def go():
        body = json.dumps(house).encode()
        headers = {"steelyard-timeout-ms": "30"}
        patient = asyncio.create_task(made.client.request("POST", "/predict/price", [body]))
        await asyncio.sleep(0.01)
        hurried = await made.client.request("POST", "/predict/price", [body], headers)
        assert not patient.done()
        model.hangs.set()
        return hurried, await patient

    hurried, patient = asyncio.run(asyncio.wait_for(go(), 20))
    assert hurried.document["reason"] == "late"
    assert patient.document["source"] == "model"


def test_a_slow_model_is_called_for_all_that_wait_and_keeps_nothing_else_waiting(broken, house):
    made, model = broken(timeout_ms=20_000)
    make_slow(made, model, house)
    model.hangs.clear()
    before, batches = model.calls, made.front.batches

    async def go():
        body = json.dumps(house).encode()
        asked = []
        for waiting in (0, *range(1, 21)):
            asked.append(asyncio.create_task(made.client.request("POST", "/predict/price", [body])))
            while model.calls == before or batches.waiting < waiting:
                await asyncio.sleep(0.001)
        assert (await made.client.request("GET", "/health/live")).status == 200
        assert not any(one.done() for one in asked)
        model.hangs.set()
        return await asyncio.gather(*asked)

    answers = asyncio.run(asyncio.wait_for(go(), 20))
    assert [answer.document["source"] for answer in answers] == ["model"] * 21
    assert len({answer.document["prediction"] for answer in answers}) == 1
    assert model.calls - before == 2


def test_a_model_that_is_fast_again_is_called_in_place_again(broken, house):
    made, model = broken(timeout_ms=0)
    make_slow(made, model, house)
    for _ in range(5_000):
        assert answered(made, house).document["source"] == "model"
        if not made.endpoint.calls.slow:
            break
    assert not made.endpoint.calls.slow


def test_no_more_rows_wait_than_may(broken, house):
    made, _ = broken(waiting_rows=4)

    async def go():
        batches = Batches(made.endpoint, lambda: 1_000)
        body = json.dumps(house).encode()
        futures = [batches.answer(made.endpoint.ask(body)) for _ in range(6)]
        return await asyncio.gather(*futures, return_exceptions=True)

    outcomes = asyncio.run(go())
    assert [type(outcome) for outcome in outcomes] == [bytes] * 4 + [BusyError] * 2


def test_a_call_that_goes_on_for_long_is_stopped_by_the_watch(broken, house, monkeypatch):
    made, _ = broken(timeout_ms=0)
    stopped = []

    def endless(rows, options):
        late = time.monotonic() + 20
        while not options.terminate and time.monotonic() < late:
            time.sleep(0.01)
        stopped.append(options.terminate)
        raise RuntimeError("stopped")

    monkeypatch.setattr(made.endpoint.loaded.predictor, "answer_some", endless)
    done = threading.Event()

    def watching():
        while not done.wait(0.05):
            made.endpoint.calls.watch()

    watcher = threading.Thread(target=watching)
    watcher.start()
    try:
        assert answered(made, house).document["reason"] == "failed"
    finally:
        done.set()
        watcher.join()
    assert stopped == [True]


def test_a_model_that_never_comes_back_makes_the_server_say_that_it_is_not_alive(
    broken, house, monkeypatch
):
    made, model = broken(timeout_ms=30)
    make_slow(made, model, house)
    model.hangs.clear()

    async def go():
        body = json.dumps(house).encode()
        assert (await made.client.request("POST", "/predict/price", [body])).status == 200
        assert (await made.client.request("GET", "/health/live")).status == 200
        monkeypatch.setattr("steelyard.serve.answer.calls._STUCK_SECONDS", 0.0)
        assert (await made.client.request("GET", "/health/live")).status == 503
        model.hangs.set()

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_row_that_a_guard_refuses_is_never_the_fallbacks(broken, house, monkeypatch):
    made, _ = broken()
    error = InputError([{"field": "rooms", "message": "expected what training had", "got": 900}])
    monkeypatch.setattr(
        made.endpoint.loaded.predictor,
        "answer_some",
        lambda rows, options: ([(1.0, None)] * len(rows), [error] * len(rows)),
    )
    answer = answered(made, house)
    assert answer.status == 422
    assert answer.document["errors"][0]["field"] == "rooms"
    many = answered(made, {"rows": [house, house]})
    assert many.document["errors"][0]["field"] == "rows.0.rooms"
    assert not made.log.lines


def test_an_error_of_the_model_says_why():
    assert ModelError("late", "the model did not answer in time").reason == "late"
    with pytest.raises(ModelError, match="in time"):
        document(ModelError("late", "the model did not answer in time"))
