"""Mutated requests on every route of real servers: in the suite for seconds, by `make fuzz` for minutes."""

import json
import os
import sys

import pytest

from steelyard.testing.fuzz import Report, campaign
from steelyard.testing.fuzz.processes import slope_of

pytestmark = pytest.mark.timeout(3_600)

MEBIBYTE = 1 << 20
SEED = int(os.environ.get("FUZZ_SEED", "20261128"))


def judge(report: Report, keyed, usual) -> None:
    told = report.document()
    told = {name: told[name] for name in told if name != "findings"}
    sys.stdout.write(f"{json.dumps(told, indent=1)}\n")
    assert report.findings == [], "\n\n".join(str(one) for one in report.findings[:10])
    assert usual.errors() == []
    assert keyed.server.errors() == []
    assert report.statuses["401"] > 0  # it came to the admin port, and to where keys are asked for
    assert report.controls > 0


def test_every_route_that_is_described_is_fuzzed(targets, document):
    asked = {request.target.decode() for request in targets[0].requests}
    for path in document["paths"]:
        assert path.replace("{endpoint}", "1").replace("{deployed}", "1") in asked
    kinds = {request.header(b"content-type") for request in targets[0].requests}
    assert {b"application/octet-stream", b"text/csv"} < kinds
    assert any(method == "ModelInfer" for method, _ in targets[0].calls)


def test_mutated_requests_for_seconds(targets, keyed, usual):
    judge(campaign(targets, 8, seed=SEED), keyed, usual)


@pytest.mark.long
def test_mutated_requests_for_ten_minutes(targets, keyed, usual):
    """No failure of ours, no hang, good answers in between, memory and open files that stay."""
    report = campaign(targets, float(os.environ.get("FUZZ_SECONDS", "600")), seed=SEED)
    judge(report, keyed, usual)
    for name, uses in report.uses.items():
        settled = uses[len(uses) // 2 :]
        grown = settled[-1].resident - settled[0].resident
        assert grown < 32 * MEBIBYTE, (name, grown, slope_of(uses))
        assert uses[-1].files <= uses[0].files + 10, name
