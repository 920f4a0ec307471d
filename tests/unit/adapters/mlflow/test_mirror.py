"""MLflow is brought to what the ledger says, and then left alone."""

from collections.abc import Callable
from typing import Any

from steelyard.adapters.mlflow.mirror import mirror
from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Version

Make = Callable[..., RunRecord]
Number = Callable[[RunRecord, int], Version]


def test_what_is_missing_comes_and_what_is_foreign_goes(
    tracker: MlflowTracker, uri: str, churn: Any, grade: Any, make_record: Make,
    make_version: Number,
) -> None:  # fmt: skip
    from mlflow import MlflowClient

    runs = [make_record("late", churn), make_record("late", grade)]
    versions = [make_version(run, number) for number, run in enumerate(runs, start=1)]
    asked: list[int] = []

    def record(number: int) -> Callable[[], RunRecord]:
        def make() -> RunRecord:
            asked.append(number)
            return runs[number - 1]

        return make

    pairs = [(version, record(version.number)) for version in versions]
    tracker.record_version(tracker.record_run(runs[1]), versions[1])
    tracker.set_alias(versions[1], "champion")
    MlflowClient(uri, uri).set_registered_model_alias("late", "mine", "1")

    ledger = {"champion": 1, "challenger": 2}
    assert mirror(tracker, pairs, ledger) == [
        "recorded late@1",
        "moved late@challenger to 2",
        "moved late@champion to 1",
        "removed late@mine",
    ]
    assert asked == [1]
    assert tracker.aliases("late") == ledger
    assert tracker.versions("late") == {v.number: v.verdict for v in versions}
    assert mirror(tracker, pairs, ledger) == []


def test_a_newer_verdict_is_recorded(
    tracker: MlflowTracker, churn: Any, make_record: Make, make_version: Number
) -> None:
    old = make_record("rejudged", churn, Check("quality", "roc_auc", False))
    new = make_record("rejudged", churn, Check("quality", "roc_auc", True))
    tracker.record_version(tracker.record_run(old), make_version(old, 1))
    assert mirror(tracker, [(make_version(new, 1), lambda: new)], {}) == ["recorded rejudged@1"]
    assert tracker.versions("rejudged") == {1: new.verdict.hash}


def test_a_model_without_versions_is_left(tracker: MlflowTracker) -> None:
    assert mirror(tracker, [], {}) == []
