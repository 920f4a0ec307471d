import pytest

from steelyard.errors import UsageError
from steelyard.serve.contracts.table import contracts_of
from steelyard.serve.contracts.vertex import VERTEX_BYTES, vertex_paths
from steelyard.serve.http.pages import make_pages

AIP = {"AIP_HEALTH_ROUTE": "/ping", "AIP_PREDICT_ROUTE": "/invocations"}
DEPLOYED = "/v1/endpoints/12/deployedModels/34"


@pytest.fixture
def hosted(stand):
    """A stand whose server was started by Vertex, with routes that are MLflow's too."""

    def make(name="offer"):
        made = stand(name)
        ready = lambda: made.log_problem[0] if made.log_problem else ""  # noqa: E731
        made.front._make_pages = lambda f: make_pages(f, ready, contracts_of([], AIP))
        return made

    return make


def test_instances_are_answered_on_the_routes_that_vertex_names(hosted, house):
    made = hosted()
    request = {"instances": [house, list(house.values())], "parameters": None}
    answer = made.client.call("POST", "/invocations", request)
    assert answer.status == 200, answer.body
    one, two = answer.document["predictions"]
    assert one["probabilities"] == two["probabilities"]
    assert (one["model"], one["version"], one["source"]) == ("offer", 3, "model")
    assert made.client.call("GET", "/ping").document == {"ready": True}
    # The counters name the contract, whatever path it was given.
    assert made.counted("responses") == {("/vertex", "200"): 1, ("/health", "200"): 1}
    made.log_problem.append("the disk is full")
    assert made.client.call("GET", "/ping").status == 503


def test_a_whole_number_may_come_as_a_float(hosted, house):
    """Vertex hands numbers on as protobuf's, which are all doubles."""
    answer = hosted().client.call(
        "POST", "/invocations", {"instances": [{**house, "rooms": 4.0}], "parameters": {}}
    )
    assert answer.status == 200


def test_without_variables_the_routes_are_those_of_vertex(stand, house):
    made = stand("price")
    assert made.client.call("GET", DEPLOYED).document == {"ready": True}
    answer = made.client.call("POST", f"{DEPLOYED}:predict", {"instances": [house]})
    assert len(answer.document["predictions"]) == 1


def test_bad_fields_are_named(hosted, house):
    answer = hosted().client.call("POST", "/invocations", {"instances": [{**house, "rooms": 0}]})
    assert answer.status == 400
    assert answer.document["errors"][0]["field"] == "rows.0.rooms"


def test_what_vertex_would_not_pass_is_413_before_anything_is_predicted(stand, house):
    made = stand("offer")
    padded = {"instances": [{**house, "district": "x" * VERTEX_BYTES}]}
    answer = made.client.call("POST", f"{DEPLOYED}:predict", padded)
    assert answer.status == 413
    assert str(VERTEX_BYTES) in answer.document["error"]
    # The rows are small; their answers would not be.
    rows = {"instances": [list(house.values())] * 9_000}
    answer = made.client.call("POST", f"{DEPLOYED}:predict", rows)
    assert answer.status == 413
    assert "expected at most" in answer.document["error"]
    assert not made.log.lines


def test_as_many_answers_as_are_taken_fit(stand, house):
    made = stand("offer")
    rows = {"instances": [list(house.values())] * 9_000}
    answer = made.client.call("POST", f"{DEPLOYED}:predict", rows)
    most = int(answer.document["error"].split("at most ")[1].split(" ")[0])
    rows = {"instances": [list(house.values())] * most}
    answer = made.client.call("POST", f"{DEPLOYED}:predict", rows)
    assert answer.status == 200
    assert VERTEX_BYTES * 0.6 < len(answer.body) <= VERTEX_BYTES


@pytest.mark.parametrize("path", ["predictions", "/a/{b}", "/predict/churn"])
def test_a_route_that_cannot_be_served_is_told(path):
    with pytest.raises(UsageError, match="AIP_PREDICT_ROUTE"):
        vertex_paths({"AIP_PREDICT_ROUTE": path})
