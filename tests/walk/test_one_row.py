"""One row, from the source table to the log: the tour of Steelyard for newcomers.

Each step hands a frozen record to the next; the assertions say what holds between them. The last
ones are the promise: the answer given offline and the one given over HTTP are the same bits, and
the served one is in the log under its id.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from steelyard.bundle.predictor import Predictor
from steelyard.core.config import Config
from steelyard.core.loading import load_definition
from steelyard.flow.logs import read_log
from steelyard.flow.scoring import predict_file
from steelyard.flow.stores import resolved
from steelyard.flow.training import train_model

# Whole runs; a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)

ROW = {"tenure": 3, "monthly_charge": 95.5, "plan": "monthly", "support_calls": None}


@contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    """Start `steelyard serve` as a person would; give its base URL; end it as a platform would."""
    command = [sys.executable, "-m", "steelyard", "serve", name, "--port", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def post(url: str, document: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_project: Callable[[Path], Path]
) -> Path:
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def test_one_row_from_the_table_to_the_log(project: Path) -> None:
    config = Config.load()

    # A definition becomes a judged, registered and promoted version.
    definition = load_definition("churn.py")
    run = train_model(definition, config)
    assert run.verdict.passed, [c for c in run.verdict.checks if not c.passed]
    assert run.promoted

    # The version is a bundle, a provenance and a verdict, each named by its hash.
    ledger, version, folder = resolved("churn", config)
    assert version == run.version
    assert run.verdict.bundle == version.bundle == folder.name
    assert ledger.verdict(version).hash == version.verdict
    assert ledger.provenance(version)["snapshot"] == run.snapshot

    # The bundle answers offline ...
    predictor = Predictor.load(folder, expected=version.bundle)
    prediction, scores = predictor.predict_one(predictor.decoder.check_one(ROW))
    Path("row.json").write_text(json.dumps(ROW))
    offline = predict_file("churn", "row.json", config)[0]
    assert offline["prediction"] == prediction
    assert list(offline["probabilities"].values()) == scores

    # ... and over HTTP, bit for bit.
    with served(project, "churn") as url:
        answer = post(f"{url}/predict/churn", ROW)
    assert answer["prediction"] == offline["prediction"]
    assert answer["probabilities"] == offline["probabilities"]
    assert (answer["model"], answer["version"]) == ("churn", version.number)

    # What was answered is in the log, with the row and the version that answered.
    (record,) = read_log("churn", config, prediction_id=answer["prediction_id"])
    assert record["row"] == ROW
    assert record["bundle"] == version.bundle
    assert record["prediction"] == answer["prediction"]
    assert os.listdir(config.predictions) == ["churn"]
