import base64
import hashlib
import re

import pytest


def test_the_process_is_live_and_the_proven_version_ready(stand):
    made = stand("price")
    assert made.client.call("GET", "/health/live").document == {"live": True}
    served = made.endpoint.loaded.served
    answer = made.client.call("GET", "/health/ready")
    assert answer.status == 200
    assert answer.document == {
        "ready": True,
        "model": "price",
        "version": 2,
        "bundle": served.bundle,
    }


def test_a_server_that_should_get_no_requests_says_why(stand):
    made = stand("price")
    made.log_problem.append("the log cannot take records: no space")
    answer = made.client.call("GET", "/health/ready")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.document["problem"] == "the log cannot take records: no space"
    assert made.client.call("GET", "/v2/health/ready").status == 503
    assert made.client.call("GET", "/v2/models/price/ready").status == 503
    assert made.client.call("GET", "/health/live").status == 200


def test_a_version_that_could_not_be_taken_shows_while_the_old_one_answers(stand):
    made = stand("price")
    made.endpoint.behind = "version 9 was refused"
    answer = made.client.call("GET", "/health/ready")
    assert answer.status == 200
    assert answer.document["behind"] == "version 9 was refused"


def test_metrics_are_prometheus_text(stand, house):
    made = stand("price")
    made.client.call("POST", "/predict/price", house)
    answer = made.client.call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'steelyard_predictions_total{model="price",version="2"} 1.0' in answer.body.decode()


@pytest.mark.parametrize("name", ["price", "churn", "offer"])
def test_the_docs_page_needs_nothing_from_elsewhere(stand, name):
    page = stand(name).client.call("GET", "/docs").body.decode()
    assert "{{" not in page
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:|//)""", page)
    assert not outside
    assert page.count("<script") == page.count("</script>") == 2
    assert f"/predict/{name}" in page


def test_a_browser_runs_nothing_but_the_docs_own_script(stand):
    answer = stand("price").client.call("GET", "/docs")
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    page = answer.body.decode()
    for tag in ("script", "style"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self'"  # the page asks for predictions
    # What such a policy forbids would not work: attributes that style, or that run.
    assert not re.findall(r"<[^>]+ (style|on\w+)=", page.partition("<script>")[0])


def test_the_front_page_says_where_things_are(stand):
    answer = stand("price").client.call("GET", "/")
    assert answer.document["predict"] == "/predict/price"


@pytest.mark.parametrize("path", ["/healthz", "/v3", "/docs/x"])
def test_an_unknown_page_offers_what_there_is(stand, path):
    answer = stand("price").client.call("GET", path)
    assert answer.status == 404
    assert answer.document["error"].startswith(f"no page {path!r}. ")


def test_a_page_takes_no_other_method(stand):
    answer = stand("price").client.call("POST", "/health/ready")
    assert answer.status == 405
    assert "error" in answer.document
