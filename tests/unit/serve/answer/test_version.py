import json

import pytest

from steelyard.errors import IntegrityError
from steelyard.serve.answer.version import Entry, LoadedVersion, Served, load

ID = "01936f3a-7d5c-7e2a-b4b1-0230b800b3eb"


def answered(loaded: LoadedVersion, row):
    answer = loaded.predictor.predict_one(loaded.decoder.check_one(row))
    return answer, json.loads(loaded.answer(loaded.texts(answer), ID))


def test_an_answer_reads_back_as_the_bits_that_the_model_gave(versions, customer):
    (prediction, scores), document = answered(versions["churn"], customer)
    assert document == {
        "prediction": prediction,
        "probabilities": dict(zip(["False", "True"], scores, strict=True)),
        "prediction_id": ID,
        "model": "churn",
        "version": 1,
        "source": "model",
    }
    assert type(document["prediction"]) is bool


def test_a_regression_answers_a_number_and_no_probabilities(versions, house):
    (prediction, _), document = answered(versions["price"], house)
    assert document["prediction"] == prediction
    assert type(document["prediction"]) is float
    assert "probabilities" not in document


def test_labels_with_signs_of_their_own_come_through(versions, house):
    document = answered(versions["offer"], house)[1]
    assert list(document["probabilities"]) == ["50% off", 'say "yes"', "Übung"]
    assert document["prediction"] in document["probabilities"]


def test_a_record_says_what_was_asked_and_answered(versions, house):
    loaded = versions["price"]
    values = loaded.decoder.check_one(house)
    answer = loaded.predictor.predict_one(values)
    row = loaded.logged_row(values, None)
    record = json.loads(
        loaded.record(loaded.texts(answer), Entry(ID, "2026-11-24T15:04:05Z", 12), row)
    )
    assert record == {
        "prediction_id": ID,
        "time": "2026-11-24T15:04:05Z",
        "model": "price",
        "version": 2,
        "source": "model",
        "bundle": loaded.served.bundle,
        "outputs": [{"name": "prediction", "value": answer[0]}],
        "prediction": answer[0],
        "latency_us": 12,
        "row": house,
    }


def test_the_logged_row_is_the_request_where_nothing_has_to_change(versions, house):
    loaded = versions["price"]
    values = loaded.decoder.check_one(house)
    body = b' {"rooms": 4, "area": 81.5, "district": "north"} '
    assert loaded.logged_row(values, body) == body.strip()


def test_the_logged_row_is_one_line(versions, house):
    loaded = versions["price"]
    body = json.dumps(house, indent=1).encode()
    logged = loaded.logged_row(loaded.decoder.decode_one(body), body)
    assert b"\n" not in logged
    assert json.loads(logged) == house


def test_private_and_unknown_fields_are_not_logged(versions, customer, house):
    loaded = versions["churn"]
    body = json.dumps(customer).encode()
    logged = loaded.logged_row(loaded.decoder.decode_one(body), body)
    assert json.loads(logged) == {
        **{name: value for name, value in customer.items() if name != "city"},
        "at": "2024-01-01T00:00:00Z",
    }
    loaded = versions["offer"]
    body = json.dumps(house | {"name": "Ann"}).encode()
    assert json.loads(loaded.logged_row(loaded.decoder.decode_one(body), body)) == house


def test_another_bundle_than_the_one_that_was_named_is_refused(bundles):
    with pytest.raises(IntegrityError):
        load(Served(1, "0" * 64, bundles["price"].folder))
