import asyncio
import json

import pytest

from steelyard.errors import LogFullError
from steelyard.serve.answer.batches import Batches
from steelyard.serve.answer.calls import ModelError
from steelyard.serve.answer.version import LoadedVersion, Served


@pytest.fixture
def made(stand):
    return stand("price")


def gathered(made, rows, *, between=lambda i: None, connections=1_000):
    """Ask rows in one turn of a loop; return their answers or errors, and the calls of the model."""
    calls = []
    answer = made.endpoint.answer

    def counting(asked):
        calls.append(len(asked))
        return answer(asked)

    made.endpoint.answer = counting
    try:

        async def all_at_once():
            batches = Batches(made.endpoint, lambda: connections)
            futures = []
            for i, row in enumerate(rows):
                between(i)
                futures.append(batches.answer(made.endpoint.ask(json.dumps(row).encode())))
            return await asyncio.gather(*futures, return_exceptions=True)

        return asyncio.run(all_at_once()), calls
    finally:
        made.endpoint.answer = answer


def test_rows_of_one_turn_are_one_call_of_the_model_each_with_its_own_answer(made, house):
    rows = [{**house, "area": float(i)} for i in range(10)]
    answers, calls = gathered(made, rows)
    assert calls == [10]
    numbers = [json.loads(answer)["prediction"] for answer in answers]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 10
    assert [record["row"] for record in made.log.records] == rows


def test_many_rows_are_several_calls(made, house):
    answers, calls = gathered(made, [house] * 70)
    assert calls == [32, 32, 6]
    assert len({json.loads(answer)["prediction_id"] for answer in answers}) == 70


@pytest.mark.parametrize("connections", [1, 3])
def test_a_row_that_nobody_joins_does_not_wait(made, house, connections):
    async def alone():
        batches = Batches(made.endpoint, lambda: connections)
        for _ in range(3):
            future = batches.answer(made.endpoint.ask(json.dumps(house).encode()))
            assert future.done() == (connections == 1)
            await future

    asyncio.run(alone())
    assert made.counted("batch_rows") == {(): 3}


def test_the_last_that_can_join_answers_for_all(made, house):
    answers, calls = gathered(made, [house] * 6, connections=3)
    assert calls == [3, 3]
    assert len({json.loads(answer)["prediction_id"] for answer in answers}) == 6


def test_rows_of_two_versions_are_answered_each_by_its_own(made, house, versions):
    old = versions["price"]
    newer = LoadedVersion(Served(9, old.served.bundle, old.served.folder), old.predictor)

    def swap(i):
        if i == 2:
            made.endpoint.loaded = newer

    answers, calls = gathered(made, [house] * 5, between=swap)
    assert calls == [2, 3]
    assert [json.loads(answer)["version"] for answer in answers] == [2, 2, 9, 9, 9]


def test_a_full_log_answers_none_of_them(made, house):
    made.log.full = True
    answers, _ = gathered(made, [house] * 3)
    assert [type(answer) for answer in answers] == [LogFullError] * 3


def test_a_row_that_breaks_the_call_does_not_take_the_others_along(made, house, monkeypatch):
    predictor = made.endpoint.loaded.predictor
    answer_some = predictor.answer_some

    def picky(rows, options=None):
        if any(row[1] == 2.0 for row in rows):
            raise RuntimeError("the row broke")
        return answer_some(rows, options)

    monkeypatch.setattr(predictor, "answer_some", picky)
    answers, calls = gathered(made, [{**house, "area": float(i)} for i in range(4)])
    assert calls == [4]
    assert [type(answer) for answer in answers] == [bytes, bytes, ModelError, bytes]
    assert len(made.log.lines) == 3


def test_one_that_no_longer_waits_does_not_disturb_the_others(made, house):
    async def cancelled():
        batches = Batches(made.endpoint, lambda: 1_000)
        futures = [batches.answer(made.endpoint.ask(json.dumps(house).encode())) for _ in range(3)]
        futures[1].cancel()
        return await asyncio.gather(*futures, return_exceptions=True)

    first, gone, last = asyncio.run(cancelled())
    assert isinstance(gone, asyncio.CancelledError)
    assert json.loads(first)["prediction"] == json.loads(last)["prediction"]


def test_a_row_of_another_contract_joins_and_is_answered_as_a_record(made, house, versions):
    loaded = versions["price"]

    async def both():
        batches = Batches(made.endpoint, lambda: 1_000)
        native = batches.answer(made.endpoint.ask(json.dumps(house).encode()))
        other = batches.answer(made.endpoint.ask_row(loaded, house))
        return await native, await other

    native, other = asyncio.run(both())
    assert other.prediction == json.loads(native)["prediction"]
    assert made.counted("batch_rows") == {(): 1}
    assert made.counted("predictions") == {("2",): 2}
    assert made.counted("request_seconds") == {("/predict",): 1}
    records = made.log.records
    assert [record["row"] for record in records] == [house, house]
    assert records[1]["prediction_id"] == other.prediction_id


def test_an_answer_that_cannot_be_given_keeps_none_of_the_others_waiting(made, house, caplog):
    given = []

    def broken(outcome):
        raise OSError("nobody there")

    async def all_at_once():
        batches = Batches(made.endpoint, lambda: 3)
        for settle in (given.append, broken, given.append):
            batches.add(made.endpoint.ask(json.dumps(house).encode()), settle)

    asyncio.run(all_at_once())
    assert [json.loads(answer)["model"] for answer in given] == ["price"] * 2
    assert "An answer could not be given" in caplog.text


def test_where_a_slow_model_cannot_be_called_every_row_is_told(made, house):
    made.endpoint.calls.slow = True

    async def all_at_once():
        await Batches(made.endpoint, lambda: 1).answer(ask(made, house))
        made.endpoint.calls.close()
        batches = Batches(made.endpoint, lambda: 1)
        futures = [batches.answer(ask(made, house)) for _ in range(40)]
        return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 10)

    assert {type(answer) for answer in asyncio.run(all_at_once())} == {RuntimeError}


def ask(made, row):
    return made.endpoint.ask(json.dumps(row).encode())


def test_rows_that_wait_for_a_slow_model_never_hold_up_the_loop(made, house):
    in_place = []
    answer = made.endpoint.answer

    def turning_slow(asked):
        in_place.append(len(asked))
        made.endpoint.calls.slow = True
        return answer(asked)

    async def all_at_once():
        batches = Batches(made.endpoint, lambda: 1_000)
        futures = [batches.answer(ask(made, house)) for _ in range(70)]
        batches.answer_all()
        batches.answer_all()
        assert [future.done() for future in futures].count(True) == 32
        return await asyncio.gather(*futures)

    made.endpoint.answer = turning_slow
    try:
        answers = asyncio.run(all_at_once())
    finally:
        made.endpoint.answer = answer
        made.endpoint.calls.close()
    assert in_place == [32]
    assert len({json.loads(answer)["prediction_id"] for answer in answers}) == 70
