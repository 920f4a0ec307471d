"""A request with a key is answered once, whoever asks how often, and keeps its id."""

import asyncio
import json
import time

import pytest

from steelyard.core.ids import CLOCK_TOLERANCE_MS, floor_of, is_uuid7, uuid7
from steelyard.errors import InputError
from steelyard.serve.answer.idempotency import KeptAnswers, request_key


def headers(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"here"), (b"idempotency-key", key.encode())]


def test_no_header_is_no_key() -> None:
    assert request_key([(b"host", b"here")]) == ""


def test_a_key_comes_bare_or_in_quotes() -> None:
    key = uuid7()
    assert request_key(headers(key)) == request_key(headers(f'"{key}"')) == key


@pytest.mark.parametrize(
    "key", ["", "x" * 500, "8e03978e-40d5-43dd-bc93-6894a57f9324", "01A20E21-9020-7E2A-B4B1-0230B800B3EB"]
)  # fmt: skip
def test_other_keys_are_refused(key) -> None:
    with pytest.raises(InputError) as refused:
        request_key(headers(key))
    (error,) = refused.value.errors
    assert error["field"] == "Idempotency-Key"
    assert "UUIDv7" in error["message"]
    assert len(error["got"]) <= 100


@pytest.mark.parametrize("off", [-CLOCK_TOLERANCE_MS - 1, CLOCK_TOLERANCE_MS + 1])
def test_a_key_of_a_wrong_clock_is_refused(off) -> None:
    now = time.time_ns() // 1_000_000
    key = f"{floor_of(now + off)}-7000-8000-000000000000"
    with pytest.raises(InputError, match="clock"):
        request_key(headers(key), now)
    assert request_key(headers(key), now + off // 2) == key


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Answers:
    """Counts how often it is asked; each answer is another."""

    def __init__(self, size: int = 1) -> None:
        self.asked = 0
        self.size = size

    async def __call__(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        return b"%d" % self.asked * self.size


def test_the_same_request_gets_the_same_answer() -> None:
    async def ask() -> None:
        kept, answers = KeptAnswers(), Answers()
        assert await kept.once("a", b"row", answers) == b"1"
        assert await kept.once("a", b"row", answers) == b"1"
        assert await kept.once("b", b"row", answers) == b"2"
        assert answers.asked == 2
        with pytest.raises(InputError, match="was used for another request"):
            await kept.once("a", b"other", answers)

    asyncio.run(ask())


def test_requests_at_the_same_time_share_one_answer() -> None:
    async def ask() -> None:
        kept, answers = KeptAnswers(), Answers()
        found = await asyncio.gather(*(kept.once("a", b"row", answers) for _ in range(5)))
        assert found == [b"1"] * 5

    asyncio.run(ask())


def test_a_failure_is_not_kept_and_who_waits_tries_itself() -> None:
    asked = 0

    async def fails_once() -> bytes:
        nonlocal asked
        asked += 1
        first = asked == 1
        await asyncio.sleep(0)
        if first:
            raise OSError("the first time")
        return b"good"

    async def ask() -> None:
        kept = KeptAnswers()
        tries = (kept.once("a", b"row", fails_once) for _ in range(3))
        found = await asyncio.gather(*tries, return_exceptions=True)
        assert isinstance(found[0], OSError)
        assert found[1:] == [b"good", b"good"]
        assert asked == 2

    asyncio.run(ask())


def test_what_is_kept_is_bounded_in_number_age_and_bytes() -> None:
    async def ask() -> None:
        clock, answers = Clock(), Answers()
        kept = KeptAnswers(most=3, seconds=10, clock=clock)
        for key in "abcd":
            await kept.once(key, b"row", answers)
        assert len(kept) == 3
        assert await kept.once("d", b"row", answers) == b"4"
        assert await kept.once("a", b"row", answers) == b"5"
        clock.now = 11
        await kept.once("e", b"row", answers)
        assert len(kept) == 1

        large = Answers(size=100)
        kept = KeptAnswers(most_bytes=250)
        for key in "abcd":
            await kept.once(key, b"row", large)
        assert len(kept) == 3
        assert await kept.once("d", b"row", large) == b"4" * 100
        assert await kept.once("a", b"row", large) == b"5" * 100

    asyncio.run(ask())


# Through the front: the id of the prediction, the log, the answer.


def test_the_prediction_has_the_key_as_its_id_and_is_logged_once(stand, house) -> None:
    made, key = stand("price"), uuid7()
    answers = [
        made.client.call("POST", "/predict/price", house, idempotency_key=key) for _ in range(3)
    ]
    assert [answer.status for answer in answers] == [200] * 3
    assert answers[0].body == answers[1].body == answers[2].body
    assert answers[0].document["prediction_id"] == key
    assert [record["prediction_id"] for record in made.log.records] == [key]
    changed = made.client.call("POST", "/predict/price", {**house, "rooms": 5}, idempotency_key=key)
    assert changed.status == 422
    assert changed.document["errors"][0]["field"] == "Idempotency-Key"
    assert len(made.log.lines) == 1


def test_rows_have_ids_that_follow_from_the_key(stand, house) -> None:
    key, body = uuid7(), json.dumps({"rows": [house] * 40}).encode()
    found = []
    for made in (stand("price"), stand("price")):  # two workers
        answer = made.client.call("POST", "/predict/price", body, idempotency_key=key)
        again = made.client.call("POST", "/predict/price", body, idempotency_key=key)
        assert again.body == answer.body
        ids = [prediction["prediction_id"] for prediction in answer.document["predictions"]]
        assert [record["prediction_id"] for record in made.log.records] == ids
        found.append(ids)
    assert found[0] == found[1]
    assert len(set(found[0])) == 40
    assert all(is_uuid7(one) and one[:19] == key[:19] for one in found[0])


def test_a_refusal_is_not_kept(stand, house) -> None:
    made, key = stand("price"), uuid7()
    made.log.full = True
    assert made.client.call("POST", "/predict/price", house, idempotency_key=key).status == 503
    made.log.full = False
    answer = made.client.call("POST", "/predict/price", house, idempotency_key=key)
    assert (answer.status, answer.document["prediction_id"]) == (200, key)


def test_a_bad_key_is_422_and_leaves_nothing(stand, house) -> None:
    made = stand("price")
    answer = made.client.call("POST", "/predict/price", house, idempotency_key="mine")
    assert answer.status == 422
    assert answer.document["errors"][0]["got"] == "mine"
    assert not made.log.lines
