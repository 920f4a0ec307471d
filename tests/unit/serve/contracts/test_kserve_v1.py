import json

import pytest

from steelyard.serve.answer.limits import Limits

PREDICT = "/v1/models/{}:predict"


def native(made, name, row):
    answer = made.client.call("POST", f"/predict/{name}", row).document
    return {key: value for key, value in answer.items() if key != "prediction_id"}


def test_instances_are_answered_by_the_objects_of_the_native_route(stand, house, customer):
    for name, row in (("price", house), ("offer", house), ("churn", customer)):
        made = stand(name)
        answer = made.client.call("POST", PREDICT.format(name), {"instances": [row, row]})
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        found = answer.document["predictions"]
        ids = [prediction.pop("prediction_id") for prediction in found]
        assert found == [native(made, name, row)] * 2
        assert [record["prediction_id"] for record in made.log.records[:2]] == ids


@pytest.mark.parametrize("name", ["instances", "inputs"])
def test_a_row_may_be_a_list_in_the_order_of_the_fields(stand, house, name):
    made = stand("price")
    values = list(house.values())
    answer = made.client.call("POST", PREDICT.format("price"), {name: [values, house]})
    one, two = answer.document["predictions"]
    assert one["prediction"] == two["prediction"]


def test_no_rows_are_no_predictions(stand):
    answer = stand("price").client.call("POST", PREDICT.format("price"), {"instances": []})
    assert answer.document == {"predictions": []}


@pytest.mark.parametrize("parameters", [0, False, "", [], {"threshold": 0.1}, "x"])
def test_parameters_are_told_that_there_are_none(stand, house, parameters):
    made = stand("price")
    body = {"instances": [house], "parameters": parameters}
    assert made.client.call("POST", PREDICT.format("price"), body).status == 400
    for none in ({}, None):
        body = {"instances": [house], "parameters": none}
        assert made.client.call("POST", PREDICT.format("price"), body).status == 200


def test_models_and_their_readiness(stand):
    made = stand("price")
    get = made.client.call
    assert get("GET", "/v1/models").document == {"models": ["price"]}
    assert get("GET", "/v1/models/price").document == {"name": "price", "ready": True}
    made.log_problem.append("the disk is full")
    answer = get("GET", "/v1/models/price")
    assert (answer.status, answer.document["ready"]) == (503, False)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/prise", 404),
        ("POST", "/v1/models/prise:predict", 404),
        ("POST", "/v1/models/price:explain", 405),
        ("GET", "/v1/models/price:predict", 405),
        ("POST", "/v1/models", 405),
    ],
)
def test_what_is_not_there_says_so(stand, method, path, status):
    answer = stand("price").client.call(method, path, {"instances": []})
    assert answer.status == status
    assert answer.document["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "must be an object with instances"),
        (b"{}", "expected instances"),
        (b'{"instances":5}', "instances: expected a list of rows, got 5"),
        (b'{"instances":[],"inputs":[]}', "expected instances"),
        (b'{"instancs":[]}', "Did you mean instances?"),
        (b'{"instances":[],"parameters":{"a":1}}', "there are no parameters"),
        (b'{"instances":[],"instances":[]}', "instances: expected once"),
        (b'{"instances":[4]}', "rows.0: expected an object, or a list of 3 values"),
        (b'{"instances":[[4,1.5]]}', "a list of 3 values: rooms, area, district"),
        (b'{"instances":[{"rooms":4,"area":NaN,"district":"north"}]}', "rows.0.area"),
        (b'{"instances":[{"rooms":4,"area":-Infinity,"district":"north"}]}', "rows.0.area"),
        (b'{"instances":[{"rooms":4,"rooms":5}]}', "rooms: expected once"),
        (b'{"instances":[{"ro\\u006fms":4,"rooms":5}]}', "rooms: expected once"),
        (b'{"instances":[{"rooms":"4","area":1,"district":"north"}]}', "rows.0.rooms"),
        (b'{"instances":' + b"[" * 50_000, "the body is not JSON"),
        (b'{"instances":["\\ud800"], "NaN": 1}', "the body is not JSON"),
        (b'{"instances":[{"x":"\xff"}]}', "the body is not JSON"),
    ],
)
def test_a_request_that_does_not_fit_is_400_and_says_why(stand, body, says):
    made = stand("price")
    answer = made.client.call("POST", PREDICT.format("price"), body)
    assert answer.status == 400
    assert says in answer.document["error"]
    assert not made.log.lines


def test_every_bad_field_is_named(stand, house):
    rows = [house, {**house, "rooms": 0, "area": "big"}, [0, 1.0, "east"]]
    answer = stand("price").client.call("POST", PREDICT.format("price"), {"instances": rows})
    assert [error["field"] for error in answer.document["errors"]] == [
        "rows.1.rooms", "rows.1.area", "rows.2.rooms", "rows.2.district",
    ]  # fmt: skip


def test_an_endless_list_of_what_is_no_row_is_told_in_bounds(stand):
    body = json.dumps({"instances": [5] * 9_000})
    answer = stand("price").client.call("POST", PREDICT.format("price"), body.encode())
    assert answer.status == 400
    assert len(answer.document["errors"]) == 101
    assert answer.document["errors"][-1]["message"] == "and 8900 more rows"


def test_limits_hold_here_too(stand, house):
    made = stand("price", Limits(body_bytes=600, rows=2))
    call = made.client.call
    assert call("POST", PREDICT.format("price"), {"instances": [house] * 2}).status == 200
    assert call("POST", PREDICT.format("price"), {"instances": [house] * 3}).status == 413
    assert call("POST", PREDICT.format("price"), {"instances": [house] * 90}).status == 413
    made.log.full = True
    answer = call("POST", PREDICT.format("price"), {"instances": [house]})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    "headers", [{"content_type": "text/csv"}, {"content_encoding": "gzip"},
                {"content_type": "application/json; charset=latin-1"}]
)  # fmt: skip
def test_another_type_is_415(stand, house, headers):
    answer = stand("price").client.call(
        "POST", PREDICT.format("price"), {"instances": [house]}, **headers
    )
    assert answer.status == 415


def test_a_failure_nobody_foresaw_is_500_in_words(stand, house, monkeypatch, caplog):
    made = stand("price")

    def fail(rows, options):
        raise RuntimeError("the runtime broke")

    monkeypatch.setattr(made.endpoint.loaded.predictor, "answer_some", fail)
    answer = made.client.call("POST", PREDICT.format("price"), {"instances": [house] * 2})
    assert answer.status == 500
    assert answer.document == {"error": "the server failed; its log says why"}
    assert "the runtime broke" in caplog.text


def test_the_time_that_a_request_gives_is_read_here_too(stand, house):
    made = stand("price")
    path = PREDICT.format("price")
    answer = made.client.call("POST", path, {"instances": [house]}, steelyard_timeout_ms="0")
    assert answer.status == 400
    assert answer.document["errors"][0]["field"] == "Steelyard-Timeout-Ms"
    answer = made.client.call("POST", path, {"instances": [house]}, steelyard_timeout_ms="5000")
    assert answer.status == 200


@pytest.mark.parametrize(
    "district", ['no": rth', 'no" : rth', "\u00fc", "a:b", '\\u0022:', '"":"', '":":":']
)  # fmt: skip
@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_text_is_taken_for_a_repeated_key(stand, house, district, ascii_only):
    made = stand("price")
    body = json.dumps({"instances": [{**house, "district": district}]}, ensure_ascii=ascii_only)
    answer = made.client.call("POST", PREDICT.format("price"), body.encode())
    assert [error["field"] for error in answer.document["errors"]] == ["rows.0.district"]
    hidden = body.replace('"district"', '"area": 5, "district"').replace(
        '"a:b"', '"\\u0022\\u003A"'
    )
    answer = made.client.call("POST", PREDICT.format("price"), hidden.encode())
    assert "area: expected once" in answer.document["error"]
