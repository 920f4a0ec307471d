"""The Python in docs/one_row.md runs, top to bottom, in a project that `steelyard init` made."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Whole runs; a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)

DOC = Path(__file__).parents[2] / "docs" / "one_row.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_project: Callable[[Path], Path]
) -> None:
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("STEELYARD_STATE", raising=False)
    blocks = BLOCK.findall(DOC.read_text(encoding="utf-8"))
    assert len(blocks) == 6
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{DOC.name}, block {number + 1}", "exec"), names)  # noqa: S102
