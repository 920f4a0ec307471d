import socket

import pytest

from steelyard.errors import UsageError
from steelyard.testing.conformance import CONTRACTS, conform
from steelyard.testing.conformance.suite import NotApplicable, Subject, Suite
from steelyard.testing.conformance.talk import Talk, Violation, expect, shown


@pytest.fixture
def suite():
    made = Suite("made", lambda talk, model, rows: Subject(talk, model or "m", rows or [{"a": 1}]))

    @made.case("good", "nothing")
    def good(subject):
        expect(len(subject.rows) == 3, "rows")

    @made.case("bad", "something")
    def bad(subject):
        raise Violation("nothing came")

    @made.case("odd", "a member")
    def odd(subject):
        return {}["predictions"]

    @made.case("elsewhere", "nothing")
    def elsewhere(subject):
        raise NotApplicable("it has none")

    return made


def test_a_report_counts_what_passed_and_keeps_what_was_not_asked(suite):
    document = suite.run(Talk("http://localhost:1")).document()
    assert (document["passed"], document["failed"]) == (1, 2)
    assert [case["passed"] for case in document["cases"]] == [True, False, False]
    assert document["cases"][1]["expected"] == "something"
    assert document["cases"][1]["got"] == "nothing came"
    assert "predictions" in document["cases"][2]["got"]
    assert document["skipped"] == [{"name": "elsewhere", "why": "it has none"}]


def test_one_case_may_be_asked_alone(suite):
    assert [case.name for case in suite.run(Talk("http://localhost:1"), only="bad").cases] == [
        "bad"
    ]
    with pytest.raises(UsageError, match="Did you mean good"):
        suite.run(Talk("http://localhost:1"), only="god")


@pytest.mark.parametrize("contract", list(CONTRACTS))
def test_a_server_that_is_not_there_is_no_verdict(contract):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else answers there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match="no server answers"):
            conform(url, contract, model="m")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "", "http://"])
def test_what_is_no_url_is_told(url):
    with pytest.raises(UsageError, match="base URL"):
        conform(url, "v2")


def test_what_is_shown_is_bounded():
    assert len(shown(b"x" * 10_000)) == 300
    assert shown(b"\xff") == "\\xff"
