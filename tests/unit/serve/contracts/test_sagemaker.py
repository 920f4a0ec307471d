import asyncio
import csv
import io
import json

import pytest

from steelyard.core.answers import Flag
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.limits import Limits
from steelyard.serve.contracts.table import contracts_of
from steelyard.serve.http.pages import make_pages

URL = "/invocations"
ODD = Flag("area", "range", "far outside")


@pytest.fixture
def hosted(stand):
    """A stand whose server was started with `--contract sagemaker`."""

    def make(name="offer", limits=None):
        made = stand(name, limits)
        ready = lambda: made.log_problem[0] if made.log_problem else ""  # noqa: E731
        made.front._make_pages = lambda f: make_pages(f, ready, contracts_of(["sagemaker"], {}))
        return made

    return make


@pytest.fixture
def expected(versions, house):
    loaded = versions["offer"]
    return loaded.predictor.predict_one(loaded.decoder.check_one(house))


JSON_FORMS = {
    "row": lambda r: r,
    "list": lambda r: [r],
    "instances": lambda r: {"instances": [r]},
    "values": lambda r: {"instances": [list(r.values())]},
    "features": lambda r: {"instances": [{"features": list(r.values())}]},
    "data": lambda r: {"instances": [{"data": {"features": {"values": list(r.values())}}}]},
}


@pytest.mark.parametrize("form", JSON_FORMS)
def test_json_is_answered_by_predictions(hosted, house, expected, form):
    made = hosted()
    answer = made.client.call("POST", URL, JSON_FORMS[form](house), accept="*/*")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    (found,) = answer.document["predictions"]
    assert found["prediction"] == expected[0]
    assert list(found["probabilities"].values()) == expected[1]
    assert found["prediction_id"] == made.log.records[0]["prediction_id"]
    assert found["source"] == "model"


def test_a_line_of_json_a_row(hosted, house, expected):
    made = hosted()
    lines = [house, list(house.values()), {"features": list(house.values())}]
    body = "\r\n".join(json.dumps(line) for line in lines).encode() + b"\n\n"
    answer = made.client.call("POST", URL, body, content_type="application/jsonlines")
    assert answer.headers["content-type"] == "application/jsonlines"
    found = [json.loads(line) for line in answer.body.splitlines()]
    assert [one["prediction"] for one in found] == [expected[0]] * 3


def test_csv_has_no_header_and_is_answered_by_prediction_and_probabilities(hosted, house, expected):
    text = io.StringIO()
    csv.writer(text).writerows([house.values()] * 2)
    answer = hosted().client.call("POST", URL, text.getvalue().encode(), content_type="text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.reader(io.StringIO(answer.body.decode())))
    assert [line[0] for line in lines] == [expected[0]] * 2
    assert [[float(cell) for cell in line[1:]] for line in lines] == [expected[1]] * 2


def test_numbers_and_booleans_in_csv(hosted, house, customer):
    one = hosted("price").client.call("POST", URL, house, accept="text/csv")
    assert float(one.body) == hosted("price").client.call(
        "POST", "/predict/price", house
    ).document["prediction"]  # fmt: skip
    two = hosted("churn").client.call("POST", URL, customer, accept="text/csv")
    assert two.body.split(b",")[0] in (b"true", b"false")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/jsonlines", "application/jsonlines"),
        ("application/x-jsonlines, text/csv", "application/jsonlines"),
        ("text/html, TEXT/CSV;q=0.5", "text/csv"),
        ("image/png, */*", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_wanted_type_is_given(hosted, house, accept, kind):
    answer = hosted().client.call("POST", URL, house, accept=accept)
    assert answer.headers["content-type"].partition(";")[0] == kind


def test_a_type_that_there_is_none_of_is_406(hosted, house):
    made = hosted()
    answer = made.client.call("POST", URL, house, accept="application/x-npy")
    assert answer.status == 406
    assert "application/jsonlines" in answer.document["error"]
    assert not made.log.lines


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("application/json", b"", "the body is not JSON"),
        ("application/json", b"5", "instances: expected a list of rows"),
        ("application/json", b'{"instances":5}', "expected a list of rows"),
        ("application/json", b'{"instances":[],"x":1}', "no member 'x'"),
        ("application/json", b'{"features":[4,1]}', "expected an object, or a list of 3"),
        ("application/json", b'{"features":5}', "rows.0.features: unknown field"),
        ("application/json", b'{"rooms":0,"area":1,"district":"north"}', "rows.0.rooms"),
        ("application/jsonlines", b'{"rooms":4}\n{', "line 2: the body is not JSON"),
        ("application/jsonlines", b"5\n", "rows.0: expected an object"),
        ("text/csv", b"4,80\n", "rows.0: expected 3 cells"),
        ("text/csv", b"rooms,area,district\n4,80,north\n", "rows.0.rooms: expected an integer"),
        ("text/csv", b",80,north\n", "rows.0.rooms: expected an integer"),
        ("text/csv", b'"4', "is no CSV"),
    ],
)
def test_a_request_that_does_not_fit_is_400_and_says_why(hosted, kind, body, says):
    made = hosted("price")
    answer = made.client.call("POST", URL, body, content_type=kind)
    assert answer.status == 400
    assert says in answer.document["error"]
    assert not made.log.lines


def test_another_type_is_415(hosted):
    answer = hosted().client.call("POST", URL, b"x", content_type="application/x-recordio-protobuf")
    assert answer.status == 415
    assert "application/jsonlines" in answer.document["error"]


def test_limits_hold_here_too(hosted):
    made = hosted("price", Limits(rows=2))
    for kind, row in (("text/csv", b"4,80,north\n"), ("application/jsonlines", b"[4,80,null]\n")):
        assert made.client.call("POST", URL, row * 3, content_type=kind).status == 413


def test_ping_is_empty_and_says_by_its_status(hosted):
    made = hosted()
    answer = made.client.call("GET", "/ping")
    assert (answer.status, answer.body) == (200, b"")
    made.log_problem.append("the disk is full")
    answer = made.client.call("GET", "/ping")
    assert (answer.status, answer.body) == (503, b"")


def test_as_many_requests_as_batch_transform_is_told_are_taken_at_once(hosted, house):
    made = hosted("price")
    told = made.client.call("GET", "/execution-parameters").document
    assert told["BatchStrategy"] == "MultiRecord"
    assert told["MaxPayloadInMB"] * 2**20 <= made.front.limits.body_bytes
    body = json.dumps([house] * 64).encode()

    async def at_once():
        asked = [
            made.client.request("POST", URL, [body]) for _ in range(told["MaxConcurrentTransforms"])
        ]
        return await asyncio.gather(*asked)

    assert {answer.status for answer in asyncio.run(at_once())} == {200}


def test_a_fallback_is_marked_in_csv_as_well(hosted, house, monkeypatch):
    made = hosted("price")
    answers = [
        Answered(1.5, None, "a"),
        Answered(2.5, None, "b", "fallback", "late", (ODD,)),
    ]

    async def answer(loaded, rows, terms):
        return answers

    monkeypatch.setattr(made.front, "answer", answer)
    found = made.client.call("POST", URL, [house] * 2, accept="text/csv")
    assert found.body == b"1.5\n2.5\n"
    assert found.headers["x-amzn-sagemaker-custom-attributes"] == "fallback=1; flagged=1"
    one, two = made.client.call("POST", URL, [house] * 2).document["predictions"]
    assert "reason" not in one
    assert (two["source"], two["reason"], two["flags"]) == (
        "fallback", "late", [{"field": "area", "rule": "range", "message": "far outside"}],
    )  # fmt: skip
