"""The latency gate: really measured over HTTP, both ways, once more where it was over."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import steelyard as sy
from steelyard.validate.candidate import Candidate
from steelyard.validate.latency import check_latency
from steelyard.validate.probe import Probe

Make = Callable[..., Candidate]


def test_a_quick_server_passes(good: Candidate) -> None:
    (found,) = check_latency(good)
    assert found.passed
    assert isinstance(found.value, float)
    assert 0 < found.evidence["p50"] <= found.evidence["p95"] <= found.evidence["p99"]
    assert found.evidence["requests"] >= 200
    assert len(found.evidence["runs"]) == 1
    assert found.flagged  # 500 ms is looser than usual


def test_an_impossible_limit_is_refused_after_a_few_measurements(make: Make) -> None:
    (found,) = check_latency(make(gates=(sy.Latency(p99_ms=0.0001),)))
    assert not found.passed
    assert len(found.evidence["runs"]) == 5
    assert found.value == min(run["p99"] for run in found.evidence["runs"])
    assert "Latency(p99_ms=...)" in found.evidence["message"]


def test_without_a_server_nothing_is_measured(good: Candidate) -> None:
    (found,) = check_latency(replace(good, server=None))
    assert not found.passed


def test_a_slow_server_is_measured_for_a_bounded_time(
    good: Candidate, serve: Callable[..., Any]
) -> None:
    import time

    def slowly(answer: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.002)
        return answer

    server = serve(good.definition, good.packed, slowly)
    with server() as address, Probe(address) as probe:
        row = {
            "tenure": 1, "charge": 2.5, "total": None, "plan": "pro", "city": None,
            "since": "2020-01-01", "active": True,
        }  # fmt: skip
        taken = probe.measure([row], warm_up=1, fewest=20, most=1000, seconds=0.1)
    assert 20 <= len(taken) < 100
    assert taken.min() >= 2.0
