"""The commands in docs/security.md run, top to bottom, after a real run of a real model."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steelyard.serve.http import bounds
from steelyard.serve.secure.keys import SCOPES

pytestmark = pytest.mark.timeout(600)

DOC = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
COMMANDS = """set -euo pipefail
steelyard() { "$PYTHON" -m steelyard "$@"; }
python() { "$PYTHON" "$@"; }
"""


def test_the_commands_of_the_page_run(tmp_path: Path, make_project: Callable[[Path], Path]) -> None:
    folder = make_project(tmp_path / "project")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "STEEL"))}
    script = "\n".join([COMMANDS, "steelyard run churn.py --no-promote", *BLOCKS])
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**environment, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "signed by the trusted key" in done.stdout
    assert "champion → 1" in done.stdout
    assert "Verification succeeded" in done.stdout


def test_the_page_names_what_there_is() -> None:
    for scope in SCOPES:
        assert f"| `{scope}`" in DOC
    assert f"{bounds.HEADERS} headers" in DOC
    events = set(re.findall(r"`([a-z]+_[a-z]+|drained)`", DOC.partition("## Audit log")[2]))
    source = Path(__file__).parents[2] / "src" / "steelyard"
    code = "".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py"))
    assert events
    assert [event for event in events if f'"{event}"' not in code] == []
