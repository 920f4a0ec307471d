import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.utils.proto_json_utils import dump_input_data

import steelyard
from steelyard.core.answers import Flag

URL = "/invocations"
ODD = Flag("area", "range", "far outside")


def split(*rows):
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


@pytest.fixture
def expected(versions, house):
    loaded = versions["offer"]
    return loaded.predictor.predict_one(loaded.decoder.check_one(house))


FORMS = {
    "dataframe_split": lambda r: {"dataframe_split": {**split(r, r), "index": [7, 8]}},
    "split in the fields' order": lambda r: {"dataframe_split": {"data": [list(r.values())] * 2}},
    "dataframe_records": lambda r: {"dataframe_records": [r, r]},
    "instances": lambda r: {"instances": [r, r]},
    "inputs, rows": lambda r: {"inputs": [r, r], "params": None},
    "inputs, lists": lambda r: {"inputs": [list(r.values())] * 2},
    "inputs, columns": lambda r: {"inputs": {name: [value] * 2 for name, value in r.items()}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_answered_with_the_prediction_of_each_row(stand, house, expected, form):
    made = stand("offer")
    answer = made.client.call("POST", URL, FORMS[form](house))
    assert answer.status == 200, answer.body
    assert answer.document == {
        "predictions": [expected[0]] * 2,
        "prediction_ids": [record["prediction_id"] for record in made.log.records],
        "model": "offer",
        "version": 3,
    }


def test_one_row_may_come_as_one_value_a_column(stand, house, expected):
    answer = stand("offer").client.call("POST", URL, {"inputs": house})
    assert answer.document["predictions"] == [expected[0]]


@pytest.mark.parametrize("kind", ["text/csv", "application/csv; charset=utf-8", "TEXT/CSV"])
def test_csv_has_a_header_and_perhaps_other_columns(stand, house, expected, kind):
    table = pd.DataFrame([house, house])
    table["key"] = "k"
    body = table.to_csv(index=False).encode()
    answer = stand("offer").client.call("POST", URL, body, content_type=kind)
    assert answer.document["predictions"] == [expected[0]] * 2


def test_probabilities_come_where_they_are_asked_for(stand, house, expected, versions):
    made = stand("offer")
    request = {"inputs": [house], "params": {"probabilities": True}}
    (found,) = made.client.call("POST", URL, request).document["predictions"]
    classes = versions["offer"].predictor.classes
    names = [f"probability_{label}" for label in classes]
    assert found == {"prediction": expected[0], **dict(zip(names, expected[1], strict=True))}
    request = {"inputs": [house], "params": {"probabilities": False}}
    assert made.client.call("POST", URL, request).document["predictions"] == [expected[0]]
    (found,) = (
        stand("price")
        .client.call("POST", URL, {"inputs": [house], "params": {"probabilities": True}})
        .document["predictions"]
    )
    assert list(found) == ["prediction"]


def test_what_mlflow_writes_of_a_table_is_read_as_the_row_that_it_stands_for(stand, customer):
    made = stand("churn")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        {**customer, "total": None, "at": None, "tenure": 5},
        {**customer, "total": 2.5, "at": start + timedelta(hours=1), "tenure": 7},
    ]
    table = pd.DataFrame(rows)
    table["since"] = pd.to_datetime(table["since"])
    table["at"] = pd.to_datetime(table["at"])
    body = dump_input_data(table).encode()
    assert b"NaN" in body and b"NaT" in body and b"T00:00:00" in body
    answer = made.client.call("POST", URL, body)
    assert answer.status == 200, answer.body
    found = PredictionsResponse.from_json(answer.body).get_predictions("ndarray")
    one = [
        made.client.call("POST", "/predict/churn", {**row, "at": at}).document["prediction"]
        for row, at in zip(rows, (None, "2024-01-01T01:00:00Z"), strict=True)
    ]
    assert found.tolist() == one
    assert [r["row"]["total"] for r in made.log.records[:2]] == [None, 2.5]
    assert [r["row"]["since"] for r in made.log.records[:2]] == ["2021-03-01"] * 2


def test_a_table_may_have_columns_that_are_no_fields_but_rows_may_not(stand, house):
    made = stand("price")
    more = {**house, "key": "k"}
    for form in ("dataframe_split", "dataframe_records"):
        assert made.client.call("POST", URL, FORMS[form](more)).status == 200
    for form in ("instances", "inputs, rows", "inputs, columns"):
        answer = made.client.call("POST", URL, FORMS[form](more))
        assert answer.status == 400
        assert answer.document["errors"][0]["field"] == "rows.0.key"


def test_health_and_version(stand):
    made = stand("price")
    for path in ("/ping", "/health"):
        answer = made.client.call("GET", path)
        assert (answer.status, answer.body) == (200, b"\n")
    assert made.client.call("GET", "/version").body.decode() == steelyard.__version__
    made.log_problem.append("the disk is full")
    assert made.client.call("GET", "/ping").status == 503
    assert made.client.call("GET", "/health").status == 503


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "must be an object"),
        (b"{}", "expected exactly one of dataframe_split"),
        (b'{"inputs":[],"instances":[]}', "expected exactly one of"),
        (b'{"input":[]}', "Did you mean inputs?"),
        (b'{"inputs":5}', "inputs: expected a list of rows"),
        (b'{"inputs":[],"params":5}', "params: expected an object"),
        (b'{"inputs":[],"params":{"threshold":1}}', "params.threshold: is no parameter"),
        (b'{"inputs":[],"params":{"probabilities":1}}', "params.probabilities: expected true"),
        (b'{"inputs":{"rooms":[1,2],"area":[1]}}', "area: expected 2 values"),
        (b'{"inputs":{"rooms":[1,2],"area":1}}', "area: expected 2 values"),
        (b'{"dataframe_split":[]}', "must be an object with columns"),
        (b'{"dataframe_split":{"data":5}}', "data: expected a list of rows"),
        (b'{"dataframe_split":{"data":[[1]],"colums":["rooms"]}}', "Did you mean columns?"),
        (b'{"dataframe_split":{"data":[[1]],"columns":["rooms","area"]}}', "list of 2 values"),
        (b'{"dataframe_split":{"data":[[1]],"columns":[1]}}', "expected a list of different names"),
        (b'{"dataframe_split":{"data":[[1,2]],"columns":["rooms","rooms"]}}', "different names"),
        (b'{"dataframe_split":{"data":[{"rooms":1}],"columns":["rooms"]}}', "lists of values"),
        (b'{"dataframe_records":{"rooms":4}}', "expected a list of rows"),
        (b'{"inputs":[{"rooms":4,"area":NaN,"district":"north"}]}', "rows.0.area"),
        (b'{"inputs":[{"rooms":4,"rooms":5}]}', "rooms: expected once"),
    ],
)
def test_a_request_that_does_not_fit_is_400_in_mlflow_form(stand, body, says):
    made = stand("price")
    answer = made.client.call("POST", URL, body)
    assert answer.status == 400
    assert answer.document["error_code"] == "BAD_REQUEST"
    assert says in answer.document["message"]
    assert not made.log.lines


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("rooms,area,district\n4,80\n4,80,north\n4,80,north,\n", ["rows.0", "rows.2"]),
        ("rooms,area,district\n4,80,east\n,x,north\n",
         ["rows.0.district", "rows.1.rooms", "rows.1.area"]),
        ("rooms,area\n4,80\n", ["rows.0.district"]),
    ],
)  # fmt: skip
def test_bad_cells_are_named(stand, text, fields):
    answer = stand("price").client.call("POST", URL, text.encode(), content_type="text/csv")
    assert answer.status == 400
    assert [error["field"] for error in answer.document["errors"]] == fields


@pytest.mark.parametrize("body", [b'rooms\n"4', b"rooms,rooms\n", b"\xff\xfe\n"])
def test_what_is_no_csv_is_400(stand, body):
    answer = stand("price").client.call("POST", URL, body, content_type="text/csv")
    assert answer.status == 400
    assert answer.document["message"]


def test_more_csv_rows_than_allowed_are_413(stand):
    from steelyard.serve.answer.limits import Limits

    made = stand("price", Limits(rows=2))
    body = b"rooms,area,district\n" + b"4,80,north\n" * 3
    answer = made.client.call("POST", URL, body, content_type="text/csv")
    assert (answer.status, answer.document["error_code"]) == (413, "BAD_REQUEST")


@pytest.mark.parametrize(
    "kind", ["application/vnd.apache.parquet", "text/plain", "text/csv; charset=latin-1", ""]
)
def test_another_type_is_415(stand, kind):
    answer = stand("price").client.call("POST", URL, b"{}", content_type=kind)
    assert answer.status == 415
    assert answer.document["message"]


def test_what_is_not_now_says_when(stand, house):
    made = stand("price")
    made.log.full = True
    answer = made.client.call("POST", URL, {"inputs": [house]})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.document["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_a_fallback_and_an_odd_row_are_marked(stand, house, monkeypatch):
    from steelyard.serve.answer.answered import Answered

    made = stand("price")
    answers = [
        Answered(1.5, None, "a"),
        Answered(2.5, None, "b", "fallback", "late"),
        Answered(3.5, None, "c", flags=(ODD,)),
    ]

    async def answer(loaded, rows, terms):
        return answers

    monkeypatch.setattr(made.front, "answer", answer)
    document = made.client.call("POST", URL, {"inputs": [house] * 3}).document
    assert document["predictions"] == [1.5, 2.5, 3.5]
    assert document["marks"] == [
        {"row": 1, "source": "fallback", "reason": "late"},
        {
            "row": 2,
            "source": "model",
            "flags": [{"field": "area", "rule": "range", "message": "far outside"}],
        },
    ]
    assert json.dumps(document)
