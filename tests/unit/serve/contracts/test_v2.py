import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.errors import UsageError
from steelyard.serve.contracts.tensors import rows_of
from steelyard.serve.contracts.v2 import tensors_of

INFER = "/v2/models/{}/infer"


def tensor(name, datatype, data, shape=None):
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def house_tensors(rows=1):
    return [
        tensor("rooms", "INT64", [4] * rows),
        tensor("area", "FP64", [81.5] * rows),
        tensor("district", "BYTES", ["north"] * rows),
    ]


def customer_tensors():
    return [
        tensor("tenure", "INT32", [5, 6]),
        tensor("charge", "FP32", [70.5, 80.5]),
        tensor("total", "FP64", [math.nan, 12.5]),
        tensor("plan", "BYTES", ["basic", "pro"]),
        tensor("city", "BYTES", ["Rome", "Ürümqi"]),
        tensor("since", "BYTES", ["2021-03-01", "2021-03-02"]),
        tensor("at", "BYTES", ["", "2024-01-01T02:00:00+02:00"]),
        tensor("active", "BOOL", [True, False]),
    ]


def infer(made, name, inputs, **more):
    return made.client.call("POST", INFER.format(name), {"inputs": inputs, **more})


def test_a_tensor_a_column_is_answered_with_the_native_bits(stand, versions):
    made = stand()
    answer = infer(made, "churn", customer_tensors(), id="q1")
    assert answer.status == 200, answer.body
    loaded = versions["churn"]
    rows = [
        {
            "tenure": 5,
            "charge": 70.5,
            "total": None,
            "plan": "basic",
            "city": "Rome",
            "since": "2021-03-01",
            "at": None,
            "active": True,
        },
        {
            "tenure": 6,
            "charge": 80.5,
            "total": 12.5,
            "plan": "pro",
            "city": "Ürümqi",
            "since": "2021-03-02",
            "at": "2024-01-01T00:00:00Z",
            "active": False,
        },
    ]
    found = loaded.predictor.predict_many([loaded.decoder.check_one(row) for row in rows])
    assert answer.document == {
        "model_name": "churn",
        "model_version": "1",
        "id": "q1",
        "parameters": {
            "prediction_ids": ",".join(record["prediction_id"] for record in made.log.records)
        },
        "outputs": [
            tensor("prediction", "BOOL", [prediction for prediction, _ in found]),
            tensor("probabilities", "FP64", [p for _, scores in found for p in scores], [2, 2]),
        ],
    }
    assert [record["row"]["total"] for record in made.log.records] == [None, 12.5]


def test_a_regression_answers_the_number_of_the_native_route(stand, house):
    made = stand("price")
    native = made.client.call("POST", "/predict/price", house).document["prediction"]
    (output,) = infer(made, "price", house_tensors()).document["outputs"]
    assert output == tensor("prediction", "FP64", [native])


def test_only_the_outputs_that_are_asked_for_are_sent(stand):
    answer = infer(stand("offer"), "offer", house_tensors(), outputs=[{"name": "probabilities"}])
    (output,) = answer.document["outputs"]
    assert (output["name"], output["shape"]) == ("probabilities", [1, 3])


@pytest.mark.parametrize("shape", [[2, 1], [2, 1, 1]])
def test_data_may_be_nested_as_its_shape(stand, shape):
    inputs = house_tensors(2)
    nested = [[4], [4]] if len(shape) == 2 else [[[4]], [[4]]]
    inputs[0] = tensor("rooms", "INT64", nested, shape)
    assert infer(stand("price"), "price", inputs).status == 200


def test_metadata_names_the_columns_of_the_graph(stand):
    document = stand().client.call("GET", "/v2/models/churn/versions/1").document
    assert document["platform"] == "onnx_onnxruntime"
    assert document["versions"] == ["1"]
    kinds = {entry["name"]: entry["datatype"] for entry in document["inputs"]}
    assert kinds == {
        "tenure": "INT64",
        "charge": "FP64",
        "total": "FP64",
        "plan": "BYTES",
        "city": "BYTES",
        "since": "BYTES",
        "at": "BYTES",
        "active": "BOOL",
    }
    assert document["outputs"] == [
        {"name": "prediction", "datatype": "BOOL", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/price/ready", 200),
        ("/v2/models/price/versions/2/ready", 200),
        ("/v2/models/prise", 404),
        ("/v2/models/price/versions/1", 404),
        ("/v2/models/price/versions/1/ready", 404),
    ],
)
def test_health_and_places(stand, path, status):
    assert stand("price").client.call("GET", path).status == status


def test_the_server_says_who_it_is(stand):
    document = stand("price").client.call("GET", "/v2").document
    assert document["name"] == "steelyard"
    assert document["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.pop("inputs"), "inputs must be a list of tensors"),
        (lambda r: r.update(inputs=[]), "expected inputs"),
        (lambda r: r["inputs"][0].update(name="rooom"), "Did you mean rooms?"),
        (lambda r: r["inputs"][0].update(name=[1]), "no input 'list'"),
        (lambda r: r["inputs"].append(r["inputs"][0]), "rooms is given twice"),
        (lambda r: r["inputs"][0].update(datatype="BYTES"), "expected INT64, got BYTES"),
        (lambda r: r["inputs"][0].update(datatype=[]), "expected INT64, got none"),
        (lambda r: r["inputs"][0].update(shape=[2]), "shape [2] does not hold 1 values"),
        (lambda r: r["inputs"][0].update(shape=[-1]), "expected the shape [N] or [N, 1]"),
        (lambda r: r["inputs"][0].update(shape=[1, 2]), "expected the shape [N] or [N, 1]"),
        (lambda r: r["inputs"][0].update(data=4), "data must be a list"),
        (lambda r: r["inputs"][0].update(data=[[4]]), "rows.0.rooms: expected an integer"),
        (lambda r: r["inputs"][0].update(data=[0]), "rows.0.rooms: expected an integer >= 1"),
        (lambda r: r["inputs"][0].update(data=[4, 4], shape=[2]), "the same number of rows"),
        (lambda r: r["inputs"].pop(), "rows.0.district: expected one of"),
        (lambda r: r.update(outputs=[{"name": "score"}]), "no output 'score'"),
        (lambda r: r.update(outputs=5), "outputs must be a list"),
        (lambda r: r.update(outputs=[{"name": {}}]), "no output 'dict'"),
    ],
)
def test_a_request_that_does_not_fit_is_400_and_says_why(stand, change, says):
    made = stand("price")
    request = {"inputs": house_tensors()}
    change(request)
    answer = made.client.call("POST", INFER.format("price"), request)
    assert answer.status == 400
    assert says in answer.document["error"]
    assert not made.log.lines


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"inputs": ' + b"[" * 50_000,
        b'{"inputs":[{"name":"rooms","data":[' + b"9" * 5_000 + b"]}]}",
        b'{"id":"\\ud800","inputs":[{"name":"NaN"}]}',
        b'{"inputs":[{"name":"\\ud800","a":"NaN"}]}',
        b'{"inputs":[{"name":"\xff"}]}',
    ],
)
def test_a_body_that_is_no_json_is_400(stand, body):
    answer = stand("price").client.call("POST", INFER.format("price"), body)
    assert answer.status == 400
    assert answer.document["error"]


def test_limits_hold_here_too(stand, house):
    from steelyard.serve.answer.limits import Limits

    made = stand("price", Limits(body_bytes=600, rows=2))
    assert infer(made, "price", house_tensors(2)).status == 200
    assert infer(made, "price", house_tensors(3)).status == 413
    assert infer(made, "price", house_tensors(90)).status == 413
    made.log.full = True
    answer = infer(made, "price", house_tensors(1))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(["rooms", "area", "FP64", "INT64", "BYTES", "north", ""])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "datatype", "shape", "data", "inputs"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional={"inputs": json_values, "outputs": json_values}))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_that_json_can_say_crashes(stand, request_):
    body = json.dumps(request_).encode()
    answer = stand("price").client.call("POST", INFER.format("price"), body)
    assert answer.status == 400
    assert answer.document["error"]


@given(st.lists(st.fixed_dictionaries({"name": json_values, "data": json_values})))
@settings(max_examples=100, deadline=None)
def test_hostile_tensors_are_refused_in_words(inputs):
    with pytest.raises(UsageError):
        rows_of([], tensors_of({"inputs": inputs}))
