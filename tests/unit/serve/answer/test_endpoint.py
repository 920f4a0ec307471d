import json

import pytest

from steelyard.errors import InputError, LogFullError
from steelyard.serve.answer.endpoint import Asked
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import LoadedVersion


def drive(steps):
    """Run steps to their end; return how many there were, and what they return."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return count, done.value
        count += 1


def answered(endpoint, body):
    """Return the answer to a body as the front would get it."""
    asked = endpoint.ask(body)
    if not isinstance(asked, Asked):
        return drive(asked)[1]
    (outcome,) = endpoint.answer([asked])
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


def ask(endpoint, row):
    return endpoint.ask(json.dumps(row).encode())


def rows_body(rows):
    return json.dumps({"rows": rows}).encode()


def test_one_row_is_answered_and_logged(stand, versions, customer):
    made = stand()
    document = json.loads(answered(made.endpoint, json.dumps(customer).encode()))
    loaded = versions["churn"]
    prediction, scores = loaded.predictor.predict_one(loaded.decoder.check_one(customer))
    assert document["prediction"] == prediction
    assert list(document["probabilities"].values()) == scores
    (record,) = made.log.records
    assert record["prediction_id"] == document["prediction_id"]
    assert record["probabilities"] == document["probabilities"]
    assert record["latency_us"] >= 0


def test_nothing_is_answered_that_the_log_did_not_take(stand, house):
    made = stand("price")
    made.log.full = True
    with pytest.raises(LogFullError):
        answered(made.endpoint, json.dumps(house).encode())
    with pytest.raises(LogFullError):
        drive(made.endpoint.ask(rows_body([house])))
    assert not made.counted("predictions")


def test_rows_asked_together_are_answered_with_the_bits_of_each_alone(stand, house):
    made = stand("offer")
    rows = [{**house, "rooms": 1 + i % 7, "area": i * 1.5} for i in range(32)]
    alone = [json.loads(answered(made.endpoint, json.dumps(row).encode())) for row in rows]
    together = [json.loads(a) for a in made.endpoint.answer([ask(made.endpoint, r) for r in rows])]
    for one, other in zip(alone, together, strict=True):
        assert one["probabilities"] == other["probabilities"]
        assert one["prediction"] == other["prediction"]
    records = made.log.records[32:]
    assert [r["prediction_id"] for r in records] == [a["prediction_id"] for a in together]
    assert [r["row"] for r in records] == rows
    assert made.counted("batch_rows") == {(): 33}


@pytest.mark.usefixtures("short_turns")
def test_rows_are_answered_as_if_each_came_alone(stand, house):
    made = stand("price")
    rows = [{**house, "rooms": 1 + i % 7, "area": i * 1.5} for i in range(100)]
    steps, body = drive(made.endpoint.ask(rows_body(rows)))
    answers = json.loads(body)["predictions"]
    alone = [json.loads(answered(made.endpoint, json.dumps(row).encode())) for row in rows]
    assert [a["prediction"] for a in answers] == [a["prediction"] for a in alone]
    assert steps == 6  # four times predicted, once logged, once noted by the watch
    records = made.log.records[:100]
    assert [r["row"] for r in records] == rows
    assert [r["prediction_id"] for r in records] == [a["prediction_id"] for a in answers]


def test_no_rows_are_answered_by_no_predictions(stand):
    made = stand("price")
    assert drive(made.endpoint.ask(b'{"rows": []}'))[1] == b'{"predictions":[]}'
    assert not made.log.lines


@pytest.mark.usefixtures("short_turns")
def test_a_request_ends_on_the_version_on_which_it_began(stand, versions, house):
    made = stand("price")
    steps = made.endpoint.ask(rows_body([house] * 40))
    next(steps)
    served = versions["price"].served
    newer = type(served)(9, served.bundle, served.folder)
    made.endpoint.loaded = LoadedVersion(newer, versions["price"].predictor)
    answers = json.loads(drive(steps)[1])["predictions"]
    assert {answer["version"] for answer in answers} == {2}
    assert json.loads(answered(made.endpoint, json.dumps(house).encode()))["version"] == 9


def test_one_bad_row_refuses_all_rows_and_is_named(stand, house):
    made = stand("price")
    rows = [house, {**house, "rooms": 0, "areaa": 1}, house, {}]
    with pytest.raises(InputError) as caught:
        made.endpoint.ask(rows_body(rows))
    assert [error["field"] for error in caught.value.errors] == [
        "rows.1.rooms",
        "rows.1.areaa",
        "rows.3.rooms",
        "rows.3.area",
        "rows.3.district",
    ]
    assert not made.log.lines
    assert made.counted("refusals") == {
        ("rooms",): 1,
        ("(unknown)",): 1,
        ("area",): 1,
        ("district",): 1,
    }


def test_the_errors_of_thousands_of_rows_are_bounded(stand):
    made = stand("price")
    with pytest.raises(InputError) as caught:
        made.endpoint.ask(rows_body([{}] * 9_000))
    errors = caught.value.errors
    assert len(errors) == 1_001
    assert errors[-1]["field"] == "body"
    assert "more from row 334 on" in errors[-1]["message"]


def test_a_row_without_a_finite_answer_is_named_and_nothing_is_logged(stand, house, monkeypatch):
    made = stand("price")
    predictor = made.endpoint.loaded.predictor
    given = [(1.0, None)] * 40 + [(float("inf"), None)]
    monkeypatch.setattr(
        predictor, "run", lambda feeds, options: [given.pop(0) for _ in feeds["numbers"]]
    )
    steps = made.endpoint.ask(rows_body([house] * 41))
    with pytest.raises(InputError) as caught:
        drive(steps)
    assert [error["field"] for error in caught.value.errors] == ["rows.40.body"]
    assert not made.log.lines
    given[:] = [(float("inf"), None)]
    with pytest.raises(InputError) as caught:
        answered(made.endpoint, json.dumps(house).encode())
    assert [error["field"] for error in caught.value.errors] == ["body"]
    assert not made.log.lines
    given[:] = [(1.0, None), (float("nan"), None), (2.0, None)]
    first, bad, last = made.endpoint.answer([ask(made.endpoint, house) for _ in range(3)])
    assert isinstance(bad, InputError)
    assert [json.loads(a)["prediction"] for a in (first, last)] == [1.0, 2.0]
    assert len(made.log.lines) == 2


def test_rows_of_another_protocol_take_the_same_way(stand, versions, customer):
    made = stand()
    loaded = versions["churn"]
    _, answers = drive(made.endpoint.answer_rows(loaded, [customer, customer]))
    expected = loaded.predictor.predict_one(loaded.decoder.check_one(customer))
    assert [(answer.prediction, answer.probabilities) for answer in answers] == [expected] * 2
    assert [r["prediction_id"] for r in made.log.records] == [a.prediction_id for a in answers]
    with pytest.raises(InputError) as caught:
        drive(made.endpoint.answer_rows(loaded, [customer, {**customer, "plan": "none"}]))
    assert [error["field"] for error in caught.value.errors] == ["rows.1.plan"]


def test_more_rows_than_allowed_are_refused(stand, versions, house):
    made = stand("price", Limits(rows=3))
    with pytest.raises(InputError) as by_body:
        made.endpoint.ask(rows_body([house] * 4))
    steps = made.endpoint.answer_rows(versions["price"], [house] * 4)
    with pytest.raises(InputError) as by_rows:
        drive(steps)
    for caught in (by_body, by_rows):
        assert [error["field"] for error in caught.value.errors] == ["rows"]
