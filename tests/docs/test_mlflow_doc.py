"""The Python in docs/mlflow.md runs, top to bottom, after a real run of a real model."""

import csv
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

_DOC = Path(__file__).parents[2] / "docs" / "mlflow.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DEFINITION = """
from typing import Literal

import steelyard as sy
from sklearn.linear_model import LogisticRegression


class Customer(sy.Row):
    tenure: int
    charge: float
    plan: Literal["basic", "pro"]


churn = sy.Model(
    name="churn", row=Customer, data=sy.Csv("customers.csv"), label="left", positive="yes",
    key="id", estimator=LogisticRegression(),
    gates=[sy.waive("latency", reason="the test's machine may be busy")],
)
"""


def _run(*command: str, folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "STEEL"))}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, text=True, capture_output=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder in which a champion was made by the command line."""
    chance = random.Random(0)
    with (tmp_path / "customers.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "tenure", "charge", "plan", "left"])
        for i in range(1500):
            tenure, plan = chance.randint(0, 60), chance.choice(["basic", "pro"])
            left = tenure + chance.gauss(0, 15) < (30 if plan == "basic" else 20)
            charge = round(chance.uniform(10, 90), 2)
            table.writerow([i, tenure, charge, plan, "yes" if left else "no"])
    (tmp_path / "churn.py").write_text(_DEFINITION)
    _run("-m", "steelyard", "run", "churn.py", folder=tmp_path)
    return tmp_path


def test_the_code_runs(project: Path) -> None:
    blocks = _BLOCK.findall(_DOC.read_text(encoding="utf-8"))
    assert len(blocks) == 3
    (project / "doc.py").write_text("\n".join(blocks))
    said = _run("doc.py", folder=project)
    assert "probability_no  probability_yes" in said
    assert "['tenure', 'plan']" in said
    assert re.search(r"^1 true \{.*'roc_auc': 0\.\d+", said, re.MULTILINE)
