"""`steelyard init` writes a project whose own tests pass, and never writes over anything."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "steelyard", "init"]


def test_the_projects_own_tests_pass_and_its_workflow_runs_them(tmp_path: Path) -> None:
    folder = tmp_path / "churn-model"
    subprocess.run([*COMMAND, str(folder)], check=True, stdout=subprocess.DEVNULL)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(tests, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    workflow = (folder / ".github" / "workflows" / "model.yml").read_text()
    for step in ("pytest", "steelyard run churn.py --no-promote", "steelyard verify churn"):
        assert f"run: {step}" in workflow


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    done = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
