import base64
import json
import struct

import pytest

from steelyard.errors import InputError
from steelyard.serve.contracts.aws_lambda import PAYLOAD_BYTES, Function, FunctionError


@pytest.fixture
def function(stand):
    made = []

    def make(name="price"):
        stood = stand(name)
        made.append(Function(stood.front))
        return made[-1], stood

    yield make
    for one in made:
        one.close()


def http_event(method="POST", path="/", body=None, stage="$default", **more):
    """Return an event as a function URL, or a stage of an HTTP API, sends it."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "x.lambda-url.eu-west-1.on.aws"},
        "requestContext": {
            "accountId": "anonymous",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4"},
            "requestId": "id",
            "stage": stage,
            "timeEpoch": 1659687279885,
        },
        "isBase64Encoded": False,
    }
    return event | ({} if body is None else {"body": body}) | more


def call(function, event, **more):
    return json.loads(function(json.dumps(event).encode(), **more))


def test_a_row_is_answered_as_by_the_native_route(function, house):
    made, stood = function()
    answer = call(made, house)
    native = stood.client.call("POST", "/predict/price", house).document
    assert {**answer, "prediction_id": 0} == {**native, "prediction_id": 0}
    assert [record["prediction_id"] for record in stood.log.records] == [
        answer["prediction_id"],
        native["prediction_id"],
    ]


def test_rows_are_answered_in_their_order(function, house):
    made, _ = function()
    rows = [house, house | {"rooms": 7}]
    found = call(made, {"rows": rows})["predictions"]
    assert [one["prediction"] for one in found] == [call(made, row)["prediction"] for row in rows]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (b'{"rooms": "4"}', "rooms"),
        (b'{"rooms": NaN, "area": 1.0, "district": "north"}', "rooms"),
        (b'{"rooms": 4, "rooms": 4, "area": 1.0, "district": "north"}', "rooms"),
        (b'{"rows": [{"rooms": true}]}', "rows.0.rooms"),
        (b"null", "body"),
        (b"[", "body"),
        (b"\xff", "body"),
    ],
)
def test_a_row_that_is_refused_is_a_function_error(function, event, field):
    made, stood = function()
    with pytest.raises(InputError) as refused:
        made(event)
    assert field in [error["field"] for error in refused.value.errors]
    assert stood.log.records == []


def test_a_full_log_is_a_function_error(function, house):
    made, stood = function()
    stood.log.full = True
    with pytest.raises(FunctionError, match="503: the log is full") as failed:
        made(json.dumps(house).encode())
    assert failed.value.status == 503


def test_a_function_url_answers_at_its_root(function, house):
    made, stood = function()
    answer = call(made, http_event(body=json.dumps(house)))
    assert answer["statusCode"] == 200
    assert answer["isBase64Encoded"] is False
    assert answer["headers"]["content-type"] == "application/json"
    document = json.loads(answer["body"])
    assert stood.log.records[0]["prediction_id"] == document["prediction_id"]


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("/predict/price", "$default"),
        ("/prod/predict/price", "prod"),
        ("/prod", "prod"),
        ("/prod/", "prod"),
        ("/predict/pric%65", "$default"),
    ],
)
def test_the_path_is_the_route_behind_the_stage(function, house, path, stage):
    made, _ = function()
    event = http_event(path=path, stage=stage, body=json.dumps(house))
    assert call(made, event)["statusCode"] == 200


def test_a_body_may_come_in_base64(function, house):
    made, _ = function()
    body = base64.b64encode(json.dumps(house).encode()).decode()
    event = http_event(path="/predict/price", body=body)
    assert call(made, event | {"isBase64Encoded": True})["statusCode"] == 200
    assert call(made, event)["statusCode"] == 422
    broken = call(made, event | {"isBase64Encoded": True, "body": "%"})
    assert broken["statusCode"] == 400
    assert json.loads(broken["body"]) == {"error": "the body is no base64"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("GET", "/health/ready", 200),
        ("GET", "/docs", 200),
        ("GET", "/v2/models/price", 200),
        ("POST", "/predict/other", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_every_route_of_the_server_is_there(function, method, path, status):
    made, _ = function()
    answer = call(made, http_event(method, path))
    assert answer["statusCode"] == status
    assert answer["body"]


def test_another_contract_answers_the_same_numbers(function, house):
    made, _ = function()
    body = json.dumps({"instances": [house]})
    event = http_event(path="/v1/models/price:predict", body=body)
    (found,) = json.loads(call(made, event)["body"])["predictions"]
    assert found["prediction"] == call(made, house)["prediction"]


def test_bytes_go_back_in_base64(function, house):
    made, _ = function()
    tensors = [
        {"name": "rooms", "datatype": "INT64", "shape": [1], "data": [house["rooms"]]},
        {"name": "area", "datatype": "FP64", "shape": [1], "data": [house["area"]]},
        {"name": "district", "datatype": "BYTES", "shape": [1], "data": [house["district"]]},
    ]
    body = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}})
    answer = call(made, http_event(path="/v2/models/price/infer", body=body))
    assert answer["isBase64Encoded"] is True
    data = base64.b64decode(answer["body"])
    rest = data[int(answer["headers"]["inference-header-content-length"]) :]
    assert struct.unpack("<d", rest) == (call(made, house)["prediction"],)


def test_refusals_of_a_request_are_responses(function):
    made, _ = function()
    answer = call(made, http_event(body='{"rooms": "4"}'))
    assert answer["statusCode"] == 422
    assert "rooms" in [error["field"] for error in json.loads(answer["body"])["errors"]]
    event = http_event(body="x", headers={"content-type": "text/plain"})
    assert call(made, event)["statusCode"] == 415
    assert call(made, http_event(body=None, headers=None))["statusCode"] == 422


def test_an_event_of_the_older_format_is_told_apart_from_a_row(function):
    made, _ = function("offer")  # it allows unknown fields
    old = {"httpMethod": "POST", "path": "/", "resource": "/", "requestContext": {"stage": "prod"}}
    with pytest.raises(FunctionError, match=r"payload format 1\.0"):
        made(json.dumps(old).encode())


def test_what_is_larger_than_lambda_passes_is_told_so(function, house, monkeypatch):
    made, _ = function()
    monkeypatch.setattr("steelyard.serve.contracts.aws_lambda.PAYLOAD_BYTES", 1_000)
    rows = {"rows": [house] * 10}
    with pytest.raises(FunctionError, match="send fewer rows") as failed:
        made(json.dumps(rows).encode())
    assert failed.value.status == 413
    answer = call(made, http_event(body=json.dumps(rows)))
    assert answer["statusCode"] == 413
    assert "send fewer rows" in answer["body"]
    assert PAYLOAD_BYTES == 6_291_456


@pytest.mark.parametrize(
    ("given", "remaining", "left"),
    [
        (None, 3_000, 2_900),
        ("500", 3_000, 500),
        ("9000", 3_000, 2_900),
        (None, 20, 1),
        ("x", 300, 200),
    ],
)
def test_the_time_that_lambda_leaves_is_the_requests_own(stand, house, given, remaining, left):
    front = stand("price").front
    seen = []

    class Spy:
        route = front.route

        async def __call__(self, scope, receive, send):
            seen.append(dict(scope["headers"]).get(b"steelyard-timeout-ms"))
            await front(scope, receive, send)

    spied = Function(Spy())
    headers = {"content-type": "application/json"}
    if given:
        headers["Steelyard-Timeout-Ms"] = given
    spied(json.dumps(http_event(body=json.dumps(house), headers=headers)).encode(), remaining)
    spied.close()
    assert seen == [b"%d" % left]


def test_something_is_done_before_each_event(stand, house):
    calls = []
    function = Function(stand("price").front, lambda: calls.append(1))
    for _ in range(2):
        function(json.dumps(house).encode())
    function.close()
    assert calls == [1, 1]
