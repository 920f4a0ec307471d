"""What MLflow has after recording, and what happens where it cannot record."""

import json
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Version
from steelyard.errors import StoreError

Make = Callable[..., RunRecord]
Number = Callable[[RunRecord, int], Version]

_GOOD = Check("quality", "roc_auc", True, value=0.9, threshold=0.8)
_WAIVED = Check(
    "latency", "p99", False, value=30.0, threshold=10.0,
    waived={"reason": "scored nightly", "by": "ana", "at": "2026-11-24"},
)  # fmt: skip
_BAD = Check("leakage", "total", False, value=0.99, threshold=0.98)


@pytest.fixture
def client(uri: str, tracker: MlflowTracker) -> Any:
    from mlflow import MlflowClient

    tracker.warm()
    return MlflowClient(uri, uri)


def test_a_run_is_whole(tracker: MlflowTracker, client: Any, churn: Any, make_record: Make) -> None:
    run = make_record("whole", churn, _GOOD)
    found = client.get_run(tracker.record_run(run))
    assert found.info.status == "FINISHED"
    assert found.data.params == {"max_depth": "5", "solver": "lbfgs"}
    assert found.data.metrics == {"roc_auc": 0.9, "f1 _contract_year": 0.5}
    expected = {
        "steelyard.snapshot": "s" * 64,
        "steelyard.code": "c" * 64,
        "steelyard.bundle": churn.digest,
        "steelyard.provenance": run.verdict.provenance,
        "steelyard.verdict": run.verdict.hash,
        "steelyard.passed": "true",
        "mlflow.note.content": "# Churn",
    }
    assert expected.items() <= found.data.tags.items()
    folder = Path(client.download_artifacts(found.info.run_id, ""))
    kept = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert sorted(kept) == ["card.md", "definition/churn.py", "plots/roc.png", "verdict.json"]
    assert kept["plots/roc.png"].read_bytes() == b"\x89PNG roc"
    assert json.loads(kept["verdict.json"].read_bytes()) == run.verdict.document()


def test_there_is_one_copy(
    tracker: MlflowTracker, state: Path, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("once", churn, _GOOD)
    for _ in range(2):
        tracker.record_version(tracker.record_run(run), make_version(run, 1))
    graphs = [p for p in state.rglob("model.onnx") if p.parent.resolve() == churn.folder]
    assert {p.resolve() for p in graphs} == {churn.folder / "model.onnx"}
    inside = [p for p in (state / "mlflow").rglob("*") if p.is_file() and not p.is_symlink()]
    assert not [p for p in inside if p.suffix == ".onnx"]


def test_the_source_is_the_store(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("sourced", churn, _GOOD)
    identifier = tracker.record_run(run)
    tracker.record_version(identifier, make_version(run, 4))
    (found,) = client.search_model_versions("name = 'sourced'")
    assert found.source == churn.folder.as_uri()
    assert found.run_id == identifier
    (output,) = client.get_run(identifier).outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert logged.status == "READY"
    assert logged.source_run_id == identifier
    listed = {file.path for file in client.list_logged_model_artifacts(output.model_id)}
    assert {"MLmodel", "model.onnx", "manifest.json"} <= listed
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "sourced", "version": "1"}]


def test_two_runs_of_a_bundle_share_its_model(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("shared", churn, _GOOD)
    runs = [tracker.record_run(run) for _ in range(2)]
    for identifier in runs:
        tracker.record_version(identifier, make_version(run, 1))
    models = {client.get_run(r).outputs.model_outputs[0].model_id for r in runs}
    assert len(models) == 1
    (found,) = client.search_model_versions("name = 'shared'")
    assert found.run_id == runs[0]
    for identifier in runs:
        assert client.get_run(identifier).info.run_name == "shared@1"
        assert client.get_run(identifier).data.tags["steelyard.version"] == "1"
    assert tracker.versions("shared") == {1: run.verdict.hash}


def test_a_waiver_shows(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("waived", churn, _GOOD, _WAIVED)
    tracker.record_version(tracker.record_run(run), make_version(run, 1))
    (found,) = client.search_model_versions("name = 'waived'")
    assert found.tags["steelyard.waived"] == "latency"
    assert found.tags["steelyard.waiver.latency"] == "scored nightly (ana, 2026-11-24)"
    assert found.tags["steelyard.passed"] == "true"
    assert found.description.startswith("**Waived: latency** · scored nightly (ana")


def test_a_refusal_shows_until_it_is_judged_again(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("refused", churn, _GOOD, _BAD)
    identifier = tracker.record_run(run)
    tracker.record_version(identifier, make_version(run, 1))
    (found,) = client.search_model_versions("name = 'refused'")
    assert client.get_run(identifier).info.status == "FINISHED"
    assert found.tags["steelyard.passed"] == "false"
    assert found.tags["steelyard.failed"] == "leakage: total"
    assert "**refused** (leakage: total)" in found.description
    again = make_record("refused", churn, _GOOD)
    tracker.record_version(tracker.record_run(again), make_version(again, 1))
    (found,) = client.search_model_versions("name = 'refused'")
    assert found.tags["steelyard.passed"] == "true"
    assert found.tags["steelyard.verdict"] == again.verdict.hash
    assert "steelyard.failed" not in found.tags
    assert "refused**" not in found.description


def test_an_alias_set_by_hand_is_told(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, make_version: Number
) -> None:
    run = make_record("by-hand", churn, _GOOD)
    version = make_version(run, 3)
    tracker.record_version(tracker.record_run(run), version)
    tracker.set_alias(version, "champion")
    theirs = client.create_model_version("by-hand", "file:///elsewhere")
    client.set_registered_model_alias("by-hand", "champion", theirs.version)
    client.set_registered_model_alias("by-hand", "mine", "1")
    assert tracker.aliases("by-hand") == {"champion": 0, "mine": 3}
    assert tracker.versions("by-hand") == {3: run.verdict.hash}
    tracker.drop_alias("by-hand", "mine")
    assert tracker.aliases("by-hand") == {"champion": 0}


def test_a_deleted_experiment_comes_back(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make
) -> None:
    run = make_record("deleted", churn, _GOOD)
    tracker.record_run(run)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    assert client.get_run(tracker.record_run(run)).info.status == "FINISHED"


def test_a_run_that_cannot_be_finished_is_marked(
    tracker: MlflowTracker, client: Any, churn: Any, make_record: Make, tmp_path: Path
) -> None:
    run = make_record("broken", churn, _GOOD)
    broken = RunRecord(run.model, run.params, run.metrics, run.tags, run.verdict, tmp_path / "no")
    with pytest.raises(StoreError, match="cannot record a run of broken") as caught:
        tracker.record_run(broken)
    assert caught.value.fix
    experiment = client.get_experiment_by_name("broken")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FAILED"


def test_a_server_that_is_down_is_told_at_once(churn: Any, make_record: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        down = MlflowTracker(f"http://127.0.0.1:{taken.getsockname()[1]}", artifacts=None)
        started = time.monotonic()
        with pytest.raises(StoreError, match="cannot record a run of down") as caught:
            down.record_run(make_record("down", churn, _GOOD))
        with pytest.raises(StoreError, match="aliases of down"):
            down.aliases("down")
    assert time.monotonic() - started < 20
    assert caught.value.fix
    assert "MLFLOW_TRACKING_URI" in caught.value.fix


def test_a_damaged_database_is_told(churn: Any, make_record: Make, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    damaged = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", artifacts=tmp_path / "artifacts")
    with pytest.raises(StoreError, match="not a database"):
        damaged.record_run(make_record("damaged", churn, _GOOD))


def _run(code: str, *arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run code as a user's program does: no test around it, every warning an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=cwd, env={"PATH": "/usr/bin:/bin", "HOME": str(cwd)}, text=True, capture_output=True,
        timeout=110, check=False,
    )  # fmt: skip


def test_nothing_is_said_and_nobody_called(churn: Any, tmp_path: Path) -> None:
    """A first run of a new folder: no output, no warning, no connection, no file elsewhere."""
    work = tmp_path / "work"
    work.mkdir()
    code = """
        import socket, sys
        from pathlib import Path

        called = []
        def refuse(*arguments, **_): called.append(arguments); raise OSError("closed")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

        from steelyard.adapters.mlflow.tracker import MlflowTracker
        from steelyard.core.ports import RunRecord
        from steelyard.core.records import Check, Verdict, Version

        state, bundle = Path(sys.argv[1]), Path(sys.argv[2])
        tracker = MlflowTracker(f"sqlite:///{state}/mlflow.db", artifacts=state / "artifacts")
        verdict = Verdict(bundle.name, "p", (Check("quality", "auc", True),))
        run = RunRecord("churn", {}, {"auc": 0.9}, {}, verdict, bundle)
        version = Version("churn", 1, bundle.name, "p", verdict.hash, True, "now", "ana")
        tracker.record_version(tracker.record_run(run), version)
        tracker.set_alias(version, "champion")
        assert tracker.aliases("churn") == {"champion": 1}
        assert "requests" in sys.modules
        assert not called, called
    """
    done = _run(code, tmp_path / "state", churn.folder, cwd=work)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(work.iterdir()) == []


def test_asking_before_anything_was_recorded_loads_nothing(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from steelyard.adapters.mlflow.mirror import mirror
        from steelyard.adapters.mlflow.tracker import MlflowTracker

        tracker = MlflowTracker("sqlite:///none/mlflow.db", artifacts=Path("none/artifacts"))
        assert tracker.aliases("churn") == {} and tracker.versions("churn") == {}
        loaded = {"mlflow", "sqlalchemy", "pandas", "sklearn"} & set(sys.modules)
        assert not loaded, loaded
    """
    done = _run(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_without_mlflow_the_fix_is_named(tmp_path: Path) -> None:
    code = """
        import sys
        sys.modules["mlflow"] = None
        from steelyard.adapters.mlflow.tracker import MlflowTracker
        from steelyard.errors import StoreError
        try:
            MlflowTracker("sqlite:///x.db", artifacts=None).warm()
        except StoreError as error:
            print(error)
    """
    assert "pip install 'steelyard[train]'" in _run(code, cwd=tmp_path).stdout
