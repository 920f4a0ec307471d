"""Tensors as raw bytes behind the JSON, written and read by the protocol's own client."""

import json
import struct

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype

from steelyard.serve.answer.answered import Answered

INFER = "/v2/models/{}/infer"
HOUSES = {
    "rooms": np.array([4, 2], np.int64),
    "area": np.array([81.5, 30.25]),
    "district": np.array(["north", "south"], np.object_),
}
CUSTOMERS = {
    "tenure": np.array([5, 6], np.uint8),
    "charge": np.array([70.1, 80.5], np.float32),
    "total": np.array([np.nan, 12.5]),
    "plan": np.array(["basic", "pro"], np.object_),
    "city": np.array(["Ürümqi", "Rome"], np.object_),
    "since": np.array(["2021-03-01", "2021-03-02"], np.object_),
    "at": np.array(["", "2024-01-01T02:00:00+02:00"], np.object_),
    "active": np.array([True, False]),
}


def body_of(columns, outputs=None, binary=True, shape=(2,)):
    inputs = []
    for name, column in columns.items():
        inputs.append(InferInput(name, list(shape), np_to_triton_dtype(column.dtype)))
        inputs[-1].set_data_from_numpy(column.reshape(shape), binary_data=binary)
    return InferenceServerClient.generate_request_body(inputs, outputs=outputs)


def infer(made, name, columns, outputs=None, **how):
    body, length = body_of(columns, outputs, **how)
    headers = {} if length is None else {"inference-header-content-length": str(length)}
    answer = made.client.call("POST", INFER.format(name), body, **headers)
    assert answer.status == 200, answer.body
    length = answer.headers.get("inference-header-content-length")
    length = None if length is None else int(length)
    return InferResult.from_response_body(answer.body, header_length=length), answer


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_raw_tensors_are_answered_with_the_native_bits(stand, versions, shape):
    made = stand()
    result, answer = infer(made, "churn", CUSTOMERS, shape=shape)
    assert answer.headers["content-type"] == "application/octet-stream"
    loaded = versions["churn"]
    nulls = {"": None}
    rows = [
        {name: nulls.get(value, value) for name, value in zip(CUSTOMERS, values, strict=True)}
        for values in zip(*(column.tolist() for column in CUSTOMERS.values()), strict=True)
    ]
    rows[0]["total"] = None
    found = loaded.predictor.predict_many([loaded.decoder.check_one(row) for row in rows])
    assert result.as_numpy("prediction").tolist() == [prediction for prediction, _ in found]
    assert result.as_numpy("probabilities").tolist() == [scores for _, scores in found]
    assert [record["row"]["total"] for record in made.log.records] == [None, 12.5]
    ids = [record["prediction_id"] for record in made.log.records]
    assert result.get_response()["parameters"] == {"prediction_ids": ",".join(ids)}


@pytest.mark.parametrize(
    ("outputs", "raw"),
    [
        (None, {"prediction", "probabilities"}),
        ([InferRequestedOutput("probabilities")], {"probabilities"}),
        ([InferRequestedOutput("prediction", binary_data=False)], set()),
        (
            [
                InferRequestedOutput("prediction", binary_data=False),
                InferRequestedOutput("probabilities"),
            ],
            {"probabilities"},
        ),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_each_output_comes_as_it_is_asked_for(stand, versions, outputs, raw, binary):
    result, answer = infer(stand("offer"), "offer", HOUSES, outputs, binary=binary)
    documents = {output["name"]: output for output in result.get_response()["outputs"]}
    assert {n for n, document in documents.items() if "parameters" in document} == raw
    assert ("inference-header-content-length" in answer.headers) == bool(raw)
    loaded = versions["offer"]
    lists = {name: column.tolist() for name, column in HOUSES.items()}
    rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    found = loaded.predictor.predict_many([loaded.decoder.check_one(row) for row in rows])
    if "prediction" in documents:
        labels = [
            label.decode() if isinstance(label, bytes) else label
            for label in result.as_numpy("prediction").tolist()
        ]
        assert labels == [prediction for prediction, _ in found]
    if "probabilities" in documents:
        assert result.as_numpy("probabilities").tolist() == [scores for _, scores in found]


def test_an_output_may_differ_from_what_is_usual_in_its_request(stand):
    body, length = body_of(HOUSES)
    request = json.loads(body[:length])
    request["outputs"] = [{"name": "prediction", "parameters": {"binary_data": False}},
                          {"name": "probabilities"}]  # fmt: skip
    text = json.dumps(request).encode()
    answer = stand("offer").client.call(
        "POST",
        INFER.format("offer"),
        text + body[length:],
        inference_header_content_length=str(len(text)),
    )
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    assert ["data" in output for output in head["outputs"]] == [True, False]


def house(**raw):
    """A request of one house, `raw` columns as (datatype, bytes, size that is told)."""
    inputs = [
        {"name": "rooms", "datatype": "INT64", "shape": [1], "data": [4]},
        {"name": "area", "datatype": "FP64", "shape": [1], "data": [81.5]},
        {"name": "district", "datatype": "BYTES", "shape": [1], "data": ["north"]},
    ]
    blob = b""
    for entry in inputs:
        if entry["name"] in raw:
            datatype, data, size = raw[entry["name"]]
            del entry["data"]
            entry |= {"datatype": datatype, "parameters": {"binary_data_size": size}}
            blob += data
    return inputs, blob


INT = struct.pack("<q", 4)
NORTH = struct.pack("<I", 5) + b"north"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"rooms": ("INT64", INT[:7], 7)}, "input rooms: 7 bytes do not hold 1 values of INT64"),
        ({"rooms": ("INT64", INT, 9)}, "input rooms: expected no data and a binary_data_size"),
        ({"rooms": ("INT64", INT, -1)}, "input rooms: expected no data"),
        ({"rooms": ("INT64", INT, True)}, "input rooms: expected no data"),
        ({"rooms": ("INT64", INT, "8")}, "input rooms: expected no data"),
        ({"rooms": ("INT64", INT + b"x", 8)}, "1 bytes behind the JSON belong to no input"),
        ({"rooms": ("FP64", INT, 8)}, "input rooms: expected INT64, got FP64"),
        ({"rooms": ("BF16", INT, 8)}, "input rooms: expected INT64, got BF16"),
        ({"rooms": ("INT64", bytes(8), 8)}, "rows.0.rooms: expected an integer >= 1"),
        ({"area": ("FP64", struct.pack("<d", float("nan")), 8)}, "rows.0.area"),
        ({"district": ("BYTES", NORTH[:-1], 8)}, "input district: its 8 bytes do not hold 1"),
        ({"district": ("BYTES", NORTH[:3], 3)}, "input district: its 3 bytes do not hold 1"),
        ({"district": ("BYTES", NORTH * 2, 18)}, "input district: its 18 bytes do not hold 1"),
        ({"district": ("BYTES", struct.pack("<I", 2**32 - 1), 4)}, "input district: its 4 bytes"),
        ({"district": ("BYTES", struct.pack("<I", 1) + b"\xff", 5)}, "is not text in UTF-8"),
        ({"district": ("BYTES", struct.pack("<I", 0), 4)}, "rows.0.district: expected one of"),
    ],
)
def test_raw_data_that_does_not_fit_is_400_and_names_the_input(stand, raw, says):
    made = stand("price")
    inputs, blob = house(**raw)
    text = json.dumps({"inputs": inputs}).encode()
    answer = made.client.call(
        "POST",
        INFER.format("price"),
        text + blob,
        inference_header_content_length=str(len(text)),
    )
    assert answer.status == 400
    assert says in answer.document["error"]
    assert not made.log.lines


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "²", "9" * 30, "100000", "0", "7"])
def test_a_length_of_json_that_is_none_is_400(stand, length):
    inputs, _ = house()
    answer = stand("price").client.call(
        "POST",
        INFER.format("price"),
        {"inputs": inputs},
        inference_header_content_length=length,
    )
    assert answer.status == 400
    assert answer.document["error"]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"shared_memory_region": "r"}, "output prediction: there is no shared_memory_region"),
        ({"classification": 2}, "output prediction: there is no classification"),
    ],
)
def test_an_output_that_cannot_be_given_so_is_400(stand, output, says):
    inputs, _ = house()
    request = {"inputs": inputs, "outputs": [{"name": "prediction", "parameters": output}]}
    answer = stand("price").client.call("POST", INFER.format("price"), request)
    assert answer.status == 400
    assert says in answer.document["error"]


def test_a_compressed_body_is_415(stand):
    answer = stand("price").client.call(
        "POST", INFER.format("price"), b"x", content_encoding="gzip"
    )
    assert answer.status == 415


def test_marks_come_as_a_parameter(stand, monkeypatch):
    made = stand("price")

    async def answer(loaded, rows, terms):
        return [Answered(1.5, None, "a"), Answered(2.5, None, "b", "fallback", "late")]

    monkeypatch.setattr(made.front, "answer", answer)
    result, _ = infer(made, "price", HOUSES)
    assert result.as_numpy("prediction").tolist() == [1.5, 2.5]
    assert result.get_response()["parameters"] == {
        "prediction_ids": "a,b",
        "marks": '[{"row":1,"source":"fallback","reason":"late"}]',
    }
