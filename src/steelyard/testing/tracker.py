"""What every `core.ports.Tracker` must do. Subclass it in a test module and say how one is made.

    class TestMyTracker(TrackerConformance):
        @pytest.fixture
        def tracker(self, tmp_path):
            return MyTracker(...)

Tests may share a tracker: each gives its models names of their own.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from steelyard.bundle.format import seal
from steelyard.core.fields import FieldSpec, row_json_schema
from steelyard.core.hashing import canonical_json, hash_bytes
from steelyard.core.ports import RunRecord, Tracker
from steelyard.core.records import Check, Verdict, Version
from steelyard.errors import StoreError

__all__ = ["MakeRun", "TrackerConformance"]

MakeRun = Callable[..., RunRecord]
_FIELDS = (FieldSpec("age", "int"), FieldSpec("plan", "str", optional=True, default=None))
_THREADS = 4


def _bundle(model: str, answer: float, parent: Path) -> tuple[str, Path]:
    """Seal a small folder of the form that trackers read; it holds no graph."""
    document = {"model": model, "task": "binary", "label": "left", "classes": ["no", "yes"]}
    schema = row_json_schema(_FIELDS, title="Customer", allow_unknown=False)
    files = {
        "model.json": canonical_json({**document, "threshold": answer}),
        "schema.json": canonical_json(schema),
    }
    return seal(files, parent)


def _version(run: RunRecord, number: int) -> Version:
    verdict = run.verdict
    return Version(
        model=run.model,
        number=number,
        bundle=verdict.bundle,
        provenance=verdict.provenance,
        verdict=verdict.hash,
        passed=verdict.passed,
        at="2026-11-24T10:00:00+00:00",
        by="ana",
    )


class TrackerConformance:
    """The suite: runs, versions once each, aliases that follow, odd names, refusals."""

    @pytest.fixture
    def tracker(self) -> Tracker:
        """Return a tracker; subclasses say which."""
        raise NotImplementedError

    @pytest.fixture
    def model(self) -> str:
        """Return a model's name that no other test uses."""
        return f"churn-{uuid4().hex[:12]}"

    @pytest.fixture
    def make_run(self, model: str, tmp_path: Path) -> MakeRun:
        """Return a function that makes a run's record; each `answer` gives another bundle."""

        def make(answer: float = 0.5, *, passed: bool = True) -> RunRecord:
            digest, folder = _bundle(model, answer, tmp_path / "bundles")
            check = Check("quality", "roc_auc", passed, value=0.9, threshold=0.8)
            return RunRecord(
                model=model,
                params={"max_depth": 5},
                metrics={"roc_auc": 0.9},
                tags={"snapshot": "s" * 64},
                verdict=Verdict(digest, hash_bytes(b"provenance"), (check,)),
                bundle=folder,
                plots={"roc": b"\x89PNG"},
                documents={"card.md": b"# churn", "definition/churn.py": b"churn = ..."},
            )

        return make

    def test_an_unknown_model_has_no_alias(self, tracker: Tracker, model: str) -> None:
        """Asking is no error before anything was recorded."""
        assert dict(tracker.aliases(model)) == {}

    def test_every_run_has_an_id(self, tracker: Tracker, make_run: MakeRun) -> None:
        """The same run twice is two runs."""
        first, second = tracker.record_run(make_run()), tracker.record_run(make_run())
        assert first
        assert second
        assert first != second

    def test_an_alias_tells_its_version(self, tracker: Tracker, make_run: MakeRun) -> None:
        """Recorded, named, and told back under Steelyard's number."""
        version = _version(make_run(), 7)
        tracker.record_version(tracker.record_run(make_run()), version)
        assert dict(tracker.aliases(version.model)) == {}
        tracker.set_alias(version, "champion")
        assert dict(tracker.aliases(version.model)) == {"champion": 7}

    def test_aliases_move(self, tracker: Tracker, make_run: MakeRun) -> None:
        """Forth and back; several may stand at one version; a second move is none."""
        versions = []
        for number in (1, 2):
            run = make_run(number / 10)
            versions.append(_version(run, number))
            tracker.record_version(tracker.record_run(run), versions[-1])
        first, second = versions
        tracker.set_alias(first, "champion")
        tracker.set_alias(second, "champion")
        tracker.set_alias(second, "champion")
        tracker.set_alias(second, "challenger")
        assert dict(tracker.aliases(first.model)) == {"champion": 2, "challenger": 2}
        tracker.set_alias(first, "champion")
        assert dict(tracker.aliases(first.model)) == {"champion": 1, "challenger": 2}

    def test_a_version_is_recorded_once(self, tracker: Tracker, make_run: MakeRun) -> None:
        """Again for its run, or for a later run of the same bundle: the alias stays whole."""
        version = _version(make_run(), 1)
        first, second = tracker.record_run(make_run()), tracker.record_run(make_run())
        tracker.record_version(first, version)
        tracker.set_alias(version, "champion")
        tracker.record_version(first, version)
        tracker.record_version(second, version)
        assert dict(tracker.aliases(version.model)) == {"champion": 1}

    def test_a_refused_version_is_recorded(self, tracker: Tracker, make_run: MakeRun) -> None:
        """What failed its gates is kept, without alias."""
        run = make_run(passed=False)
        version = _version(run, 1)
        tracker.record_version(tracker.record_run(run), version)
        assert not version.passed
        assert dict(tracker.aliases(version.model)) == {}

    def test_a_newer_verdict_is_taken(self, tracker: Tracker, make_run: MakeRun) -> None:
        """The version is the same one, judged again."""
        refused, passed = make_run(passed=False), make_run()
        tracker.record_version(tracker.record_run(refused), _version(refused, 1))
        version = _version(passed, 1)
        tracker.record_version(tracker.record_run(passed), version)
        tracker.set_alias(version, "champion")
        assert dict(tracker.aliases(version.model)) == {"champion": 1}

    def test_an_unrecorded_version_takes_no_alias(
        self, tracker: Tracker, make_run: MakeRun
    ) -> None:
        """With the model unknown, and with another version of it known."""
        run = make_run()
        with pytest.raises(StoreError, match=f"{run.model}@1"):
            tracker.set_alias(_version(run, 1), "champion")
        tracker.record_version(tracker.record_run(run), _version(run, 1))
        with pytest.raises(StoreError, match=f"{run.model}@2"):
            tracker.set_alias(_version(run, 2), "champion")

    def test_a_version_of_another_bundle_is_refused(
        self, tracker: Tracker, make_run: MakeRun
    ) -> None:
        """A run stands for the bundle that it made."""
        run = tracker.record_run(make_run(0.1))
        with pytest.raises(StoreError):
            tracker.record_version(run, _version(make_run(0.2), 1))

    def test_an_unknown_run_is_refused(self, tracker: Tracker, make_run: MakeRun) -> None:
        """An id that the tracker never gave."""
        with pytest.raises(StoreError):
            tracker.record_version("0" * 32, _version(make_run(), 1))

    def test_whatever_a_run_is_called(self, tracker: Tracker, make_run: MakeRun) -> None:
        """Many and odd names, long values, numbers that are none: nothing stops a record."""
        odd = ["f1 [Contract=Two year]", "a/../b", "/", "..", "é·ü", "x" * 400, "x" * 400 + "y", ""]
        names = [*odd, *(f"m{i}" for i in range(300))]
        values = [math.nan, math.inf, -math.inf, 1, True, 1e308, -0.0, 5e-324]
        run = replace(
            make_run(),
            params={name: "v" * (30 * i) for i, name in enumerate(names)},
            metrics={name: values[i % len(values)] for i, name in enumerate(names)},
            tags={"snapshot": "ü" * 20_000, "a.b": ""},
            documents={"card.md": b"# \xff\n" * 5000},
        )
        assert tracker.record_run(run)

    def test_runs_may_come_together(self, tracker: Tracker, make_run: MakeRun) -> None:
        """Threads that record runs of a new model at the same moment: each has its own."""
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(tracker.record_run, [make_run() for _ in range(_THREADS)]))
        assert len(set(found)) == _THREADS
