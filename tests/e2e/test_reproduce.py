"""The same run is the same bundle anywhere; what changed is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Whole runs; a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)


def steelyard(folder: Path, *words: str, code: int = 0, path: str = "") -> Any:
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(len(str(folder)))}
    environment.pop("STEELYARD_STATE", None)
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", *words, "--json"],
        cwd=folder, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, make_project: Callable[[Path], Path]
) -> tuple[Path, Any]:
    folder = make_project(tmp_path_factory.mktemp("first") / "project")
    return folder, steelyard(folder, "run", "churn.py")


def changed(project: Path, to: Path) -> Path:
    return Path(shutil.copytree(project, to, ignore=shutil.ignore_patterns(".steelyard")))


def test_another_process_in_another_folder_gives_the_same_bundle(
    project: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, first = project
    second = steelyard(changed(folder, tmp_path / "deeper" / "copy"), "run", "churn.py")
    assert second["bundle"] == first["bundle"]
    assert second["snapshot"] == first["snapshot"]


def test_a_rerun_is_the_same_version(project: tuple[Path, Any]) -> None:
    folder, first = project
    again = steelyard(folder, "run", "churn.py")
    assert (again["version"], again["bundle"]) == (first["version"], first["bundle"])


def test_reproduce_says_equal(project: tuple[Path, Any]) -> None:
    folder, first = project
    found = steelyard(folder, "reproduce", f"churn@{first['version']}")
    assert found["equal"]
    assert found["differences"] == []


def test_a_changed_cell_is_another_snapshot_and_bundle(
    project: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = changed(project[0], tmp_path / "copy")
    table = folder / "data" / "customers.csv"
    lines = table.read_text().splitlines()
    cells = lines[7].split(",")
    cells[2] = "77.77"
    lines[7] = ",".join(cells)
    table.write_text("\n".join(lines) + "\n")
    run = steelyard(folder, "run", "churn.py")
    assert run["snapshot"] != project[1]["snapshot"]
    assert run["bundle"] != project[1]["bundle"]


def test_a_changed_line_of_the_definition_shows_in_the_difference(
    project: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(project[0], tmp_path / "copy"))
    definition = folder / "churn.py"
    definition.write_text(definition.read_text().replace('"max_depth", 4', '"max_depth", 3'))
    run = steelyard(folder, "run", "churn.py", "--no-promote")
    assert run["snapshot"] == project[1]["snapshot"]
    assert run["bundle"] != project[1]["bundle"]
    told = steelyard(folder, "diff", "churn@1", f"churn@{run['version']}")["differences"]
    what = {entry["what"]: (entry["from"], entry["to"]) for entry in told}
    assert what["provenance.params.max_depth"] == (4, 3)
    assert "provenance.definition.sha256" in what
    # The older one is still made again from its own records, not from the file as it is now.
    assert steelyard(folder, "reproduce", "churn@1")["equal"]


def test_a_changed_package_is_named(project: tuple[Path, Any], tmp_path: Path) -> None:
    # What an installer leaves of another version of a package, found before the installed one.
    other = tmp_path / "site" / "threadpoolctl-99.0.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: threadpoolctl\nVersion: 99.0.0\n")
    found = steelyard(project[0], "reproduce", "churn", path=str(other.parent))
    assert found["equal"]
    (difference,) = found["differences"]
    assert difference["what"] == "environment.packages.threadpoolctl"
    assert difference["to"] == "99.0.0"
    run = steelyard(project[0], "run", "churn.py", "--no-promote", path=str(other.parent))
    assert run["bundle"] == project[1]["bundle"]
    assert run["version"] != project[1]["version"]
