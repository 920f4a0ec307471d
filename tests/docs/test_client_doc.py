"""The Python in docs/client.md runs, top to bottom, against a real server."""

import re
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import steelyard as sy
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table
from steelyard.flow.serving import started

DOC = Path(__file__).parents[2] / "docs" / "client.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Customer(sy.Row):
    tenure: int
    charge: float | None
    plan: Literal["basic", "pro"]


def customers() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "tenure": [i % 40 for i in range(400)],
            "charge": [None if i % 9 == 0 else float(i) for i in range(400)],
            "plan": [("basic", "pro")[i % 2] for i in range(400)],
            "churn": [("yes", "no")[i % 40 > 20] for i in range(400)],
        }
    )


@pytest.mark.timeout(300)
def test_every_block_runs_in_order(tmp_path: Path) -> None:
    definition = sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive="yes",
        estimator=LogisticRegression(max_iter=500),
    )
    table = read_table(definition, Config(tmp_path / "state"))
    blocks = BLOCK.findall(DOC.read_text(encoding="utf-8"))
    assert len(blocks) == 7
    with started(build(definition, table, tmp_path / "bundles").folder) as url:
        names: dict[str, Any] = {"url": url}
        for number, block in enumerate(blocks):
            exec(compile(block, f"{DOC.name}, block {number + 1}", "exec"), names)  # noqa: S102
