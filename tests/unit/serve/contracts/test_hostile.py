"""Whatever bytes come, every contract answers in words: 200 or a refusal, never a failure."""

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.serve.contracts.table import contracts_of
from steelyard.serve.http.pages import make_pages

ROUTES = [
    (path, chosen)
    for chosen, paths in (
        ((), ["/v1/models/price:predict", "/v2/models/price/infer", "/invocations",
              "/v1/endpoints/1/deployedModels/2:predict"]),
        (("sagemaker",), ["/invocations"]),
    )
    for path in paths
]  # fmt: skip
NAMES = ["instances", "inputs", "dataframe_split", "dataframe_records", "columns", "data", "index",
         "params", "parameters", "features", "values", "name", "datatype", "shape", "outputs",
         "rooms", "area", "district", "binary_data_size", "binary_data_output"]  # fmt: skip
HOUSE = {"rooms": 4, "area": 81.5, "district": "north"}
GOOD = [
    {"instances": [HOUSE, list(HOUSE.values())]},
    {"dataframe_split": {"columns": list(HOUSE), "data": [list(HOUSE.values())]}},
    {"inputs": {name: [value] for name, value in HOUSE.items()}},
    HOUSE,
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from([*NAMES, "north", "FP64", "BYTES", "", "NaT", "\ud800", "\ufdd0"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=16,
)
cells = st.lists(
    st.lists(st.sampled_from(["", "4", "81.5", "north", '"', "NaN", "x", "\r", "[", "9" * 400]),
             max_size=4).map(",".join),
    max_size=4,
).map("\n".join)  # fmt: skip
bodies = (
    st.builds(lambda value: json.dumps(value).encode(), values)
    | st.binary(max_size=200)
    | st.builds(lambda text: text.encode(), cells)
    | st.builds(
        lambda good, place, byte: good[:place] + bytes([byte]) + good[place + 1 :],
        st.sampled_from([json.dumps(good).encode() for good in GOOD]),
        st.integers(0, 60),
        st.integers(0, 255),
    )
)
types = st.sampled_from(
    ["application/json", "text/csv", "application/jsonlines", "application/csv", "x", ""]
)


@pytest.mark.parametrize(("path", "chosen"), ROUTES)
@given(body=bodies, kind=types, length=st.none() | st.integers(-1, 200))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_contract_fail(stand, path, chosen, body, kind, length):
    made = stand("price")
    contracts = contracts_of(chosen, {})
    made.front._make_pages = lambda front: make_pages(front, lambda: "", contracts)
    headers = {"content_type": kind}
    if length is not None:
        headers["inference_header_content_length"] = str(length)
    answer = made.client.call("POST", path, body, **headers)
    assert answer.status in (200, 400, 406, 413, 415), answer.body
    if answer.status != 200:
        document = answer.document
        assert document.get("error") or document["message"]
        assert not made.log.lines


@given(
    raw=st.binary(max_size=40)
    | st.lists(st.binary(max_size=6)).map(
        lambda texts: b"".join(struct.pack("<I", len(text)) + text for text in texts)
    ),
    datatype=st.sampled_from(["INT64", "FP64", "BYTES", "BOOL", "UINT8", "FP16", "BF16"]),
    size=st.integers(-1, 50),
    shape=st.lists(st.integers(-1, 5), max_size=3),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_raw_tensor_makes_v2_fail(stand, raw, datatype, size, shape):
    tensors = [
        {"name": name, "shape": shape, "datatype": datatype,
         "parameters": {"binary_data_size": size}}
        for name in HOUSE
    ]  # fmt: skip
    text = json.dumps({"inputs": tensors}).encode()
    made = stand("price")
    answer = made.client.call(
        "POST",
        "/v2/models/price/infer",
        text + raw,
        inference_header_content_length=str(len(text)),
    )
    assert answer.status == 400
    assert answer.document["error"]
