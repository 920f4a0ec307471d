"""Our own server by every contract's suite."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steelyard.cli import app
from steelyard.errors import UsageError
from steelyard.testing.conformance import CONTRACTS, conform


@pytest.mark.parametrize("contract", [name for name in CONTRACTS if name != "v2-grpc"])
def test_the_server_conforms(contract, servers):
    report = conform(servers.url(contract), contract)
    assert [(case.name, case.sent, case.got) for case in report.cases if not case.passed] == []
    assert report.skipped == {}
    assert report.passed > 15
    assert report.model == "churn"


def test_the_command_says_so_and_ends_well(server):
    done = CliRunner().invoke(app, ["conform", server, "--contract", "native", "--json"])
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["failed"] == 0
    assert document["passed"] == len(document["cases"]) > 15
    assert {"name", "passed", "expected", "got", "sent"} <= document["cases"][0].keys()
    shown = CliRunner().invoke(app, ["conform", server, "--contract", "v2"])
    assert shown.exit_code == 0
    assert "0 failed" in shown.stdout
    assert "GET /v2/health/live" in shown.stdout


def test_the_command_shows_what_came_where_a_case_fails(liars, rows, tmp_path: Path):
    liar = liars("native")
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    liar.sin = lambda exchange: (
        exchange.answering({"error": "no"}, 500) if exchange.path == "/health/live" else exchange
    )
    words = ["conform", liar.url, "--contract", "native", "--rows", str(file)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "1 failed" in done.stdout
    assert "GET /health/live" in done.stdout
    assert '500 {"error": "no"}' in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contract", "v3"], "no contract 'v3'"),
        (["--contract", "native", "--rows", "none.csv"], "there is no file none.csv"),
        (["--contract", "native", "--header", "Authorization"], "is no header"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(words, said, server):
    done = CliRunner().invoke(app, ["conform", server, *words])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_headers_go_with_every_request(liars):
    liar = liars("native")
    seen = []
    liar.sin = lambda exchange: seen.append(exchange.headers.get("authorization")) or exchange
    words = ["conform", liar.url, "--contract", "native", "--header", "Authorization: Bearer k"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert set(seen) == {"Bearer k"}
