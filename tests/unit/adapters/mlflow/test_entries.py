"""Names, values and tags within what MLflow takes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.adapters.mlflow.entries import (
    batches,
    keys_of,
    run_tags,
    version_note,
    version_tags,
)
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Version


@pytest.fixture(scope="session")
def validate() -> Callable[[str], None]:
    """Return MLflow's own check of a metric's name; to import it takes longer than to run it."""
    from mlflow.utils.validation import _validate_metric_name

    check: Callable[[str], None] = _validate_metric_name
    return check


@given(names=st.lists(st.text(max_size=300), max_size=20, unique=True))
def test_keys_are_distinct_and_taken_by_mlflow(
    validate: Callable[[str], None], names: list[str]
) -> None:
    keys = keys_of(names)
    assert list(keys) == names
    assert len(set(keys.values())) == len(names)
    for key in keys.values():
        validate(key)


@given(st.from_regex(r"[a-z][a-z0-9_.-]{0,40}(/[a-z]{1,5})?", fullmatch=True))
def test_a_good_name_is_kept(name: str) -> None:
    assert keys_of([name]) == {name: "/".join(step.strip("_") for step in name.split("/"))}


def test_batches_are_small_and_whole(churn: Any, make_record: Callable[..., RunRecord]) -> None:
    run = replace(
        make_record("churn", churn),
        params={f"p{i}": i for i in range(250)},
        metrics={f"m{i}": i for i in range(130)},
    )
    found = list(batches(run, identifier="r", model="m", at=7))
    assert all(len(part["params"]) <= 100 and len(part["metrics"]) <= 100 for part in found)
    assert [p.key for part in found for p in part["params"]] == list(run.params)
    metrics = [m for part in found for m in part["metrics"]]
    assert [(m.key, m.value) for m in metrics] == list(run.metrics.items())
    assert {(m.timestamp, m.model_id, m.run_id) for m in metrics} == {(7, "m", "r")}


def test_a_check_that_was_waived_did_not_fail(
    churn: Any, make_record: Callable[..., RunRecord]
) -> None:
    waiver = {"reason": "nightly", "by": "ana", "at": "today"}
    checks = [
        Check("latency", "p99", False, waived=waiver),
        Check("leakage", "total", False),
        Check("quality", "roc_auc", True),
    ]
    tags = run_tags(make_record("churn", churn, *checks))
    assert tags["steelyard.failed"] == "leakage: total"
    assert tags["steelyard.waived"] == "latency"
    assert tags["steelyard.waiver.latency"] == "nightly (ana, today)"
    assert tags["steelyard.passed"] == "false"


def test_a_version_says_what_the_ledger_says(
    churn: Any,
    make_record: Callable[..., RunRecord],
    make_version: Callable[[RunRecord, int], Version],
) -> None:
    run = make_record("churn", churn, Check("quality", "roc_auc", True))
    version = replace(make_version(run, 3), verdict="newer")
    tags = version_tags(version, {**run_tags(run), "steelyard.version": "1"})
    assert tags["steelyard.version"] == "3"
    assert tags["steelyard.verdict"] == "newer"
    assert tags["steelyard.snapshot"] == "s" * 64
    assert not [name for name in tags if not name.startswith("steelyard.")]
    note = version_note(version, tags)
    assert note.startswith("`churn@3`, registered 2026-11-24T10:00:00+00:00 by ana")
    assert "Verdict: passed" in note
