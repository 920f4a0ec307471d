"""docs/collapse.md states the numbers that the code has, and settings that it takes."""

import math
import re
from pathlib import Path

import pytest

import steelyard as sy
from steelyard.serve.answer.collapse import ARL, evidence, limit

_DOC = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text(encoding="utf-8")
_ROWS = re.findall(r"^\| (0\.\d+)(?: or less)? \| ([\d,]+) \| ([\d.]+) % \|$", _DOC, re.MULTILINE)


@pytest.mark.parametrize(("share", "repeats", "others"), _ROWS)
def test_the_table_is_the_formula(share: str, repeats: str, others: str) -> None:
    found = evidence(float(share))
    assert found.fewest == int(repeats.replace(",", ""))
    s = float(share)
    q = (1 - s) / (1 - s + 4 * s)
    g = math.log((1 - q / 10) / (1 - q))
    assert found == pytest.approx((g, -math.log(10)))
    assert found.fewest == math.ceil(math.log(2 * ARL) / g)
    assert 100 * g / (g + math.log(10)) == pytest.approx(float(others), rel=0.02)


def test_the_numbers_of_the_text() -> None:
    assert len(_ROWS) == 4
    assert f"= {limit(ARL):.1f}, with `ARL` = {ARL:,.0f}" in _DOC


def test_the_settings_are_taken() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", _DOC, re.DOTALL)
    for line in block.splitlines():
        assert isinstance(eval(line, {"sy": sy}), sy.Guards)
