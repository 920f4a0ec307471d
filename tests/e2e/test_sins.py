"""Six definitions, each with one sin: the right gate stops each, and its message names the sin."""

import random
from pathlib import Path
from typing import Any

import pytest

from steelyard.core.config import Config
from steelyard.core.loading import load_definition
from steelyard.core.records import Check
from steelyard.errors import NotFoundError
from steelyard.flow.stores import resolved
from steelyard.flow.training import TrainingRun, train_model

# Whole runs; a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)

DEFINITION = """\
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import steelyard as sy


class Loan(sy.Row):
    income: float = sy.Field(gt=0)
    debt: float = sy.Field(ge=0)
    region: str
    {field}


loan = sy.Model(
    name="loan",
    row=Loan,
    data=sy.Csv("loans.csv"),
    label="defaulted",
    positive="yes",
    estimator={estimator},
    available_after={{"collected": "the loan has ended"}},
    split={split},
    gates=[{gates}],
    {more}
)
"""
PATIENT = "sy.Latency(p99_ms=2000)"
FOREST = "RandomForestClassifier(20, max_depth=5)"


def loans(folder: Path, rows: int = 1500) -> None:
    draw = random.Random(3)
    lines = ["customer,income,debt,region,score,collected,broken,part,defaulted"]
    for number in range(rows):
        income, debt = draw.lognormvariate(8, 0.6), draw.lognormvariate(7, 0.8)
        bad = draw.gauss(debt / income - 0.5, 0.5) > 0
        region = draw.choice(["north", "south", "east"])
        score = 0.9 * bad + draw.gauss(0, 0.01)
        broken = "n/a" if draw.random() < 0.02 else str(draw.randint(1, 9))
        # The last rows belong to customers that are also among the first.
        customer = number if number < rows * 0.75 else number - rows // 2
        part = "train" if number < rows * 0.75 else "test"
        lines.append(
            f"C{customer},{income:.2f},{debt:.2f},{region},{score:.4f},{draw.gauss(0, 1):.3f},"
            f"{broken},{part},{'yes' if bad else 'no'}"
        )
    (folder / "loans.csv").write_text("\n".join(lines) + "\n")


def judged(folder: Path, **changes: str) -> TrainingRun:
    loans(folder)
    given = {
        "field": "",
        "estimator": FOREST,
        "split": "sy.Stratified(test=0.25)",
        "more": "",
        "gates": PATIENT,
    }
    (folder / "loan.py").write_text(DEFINITION.format(**given | changes))
    return train_model(load_definition(str(folder / "loan.py")), Config(folder / "state"))


def failures(run: TrainingRun) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for check in run.verdict.checks:
        if not check.passed:
            found.setdefault(check.gate, []).append(check)
    return found


def test_the_definition_without_a_sin_passes(tmp_path: Path) -> None:
    run = judged(tmp_path)
    assert failures(run) == {}
    assert run.promoted


@pytest.mark.parametrize(
    ("gate", "words", "changes"),
    [
        ("leakage", ["collected", "the loan has ended"], {"field": "collected: float"}),
        ("leakage", ["score"], {"field": "score: float"}),
        (
            "split",
            ["customer", "both parts"],
            {"split": 'sy.ColumnSplit("part")', "more": 'key="customer",'},
        ),
        ("schema", ["broken"], {"field": "broken: int"}),
        (
            "baseline",
            ["worse"],
            {"estimator": "RandomForestClassifier(1, max_depth=None, max_features=1)"},
        ),
        ("latency", ["ms"], {"gates": "sy.Latency(p99_ms=0.0001)"}),
    ],
    ids=["leak by name", "leak by value", "shared key", "unparseable column", "worse than constant",
         "impossible latency"],
)  # fmt: skip
def test_a_sin_is_stopped_by_its_gate_and_named(
    tmp_path: Path, gate: str, words: list[str], changes: dict[str, Any]
) -> None:
    run = judged(tmp_path, **changes)
    found = failures(run)
    assert list(found) == [gate]
    said = " ".join(f"{c.name} {c.evidence.get('message')} {c.evidence}" for c in found[gate])
    for word in words:
        assert word in said
    assert not run.promoted
    with pytest.raises(NotFoundError):
        resolved("loan", Config(tmp_path / "state"))


def test_a_waived_gate_lets_the_version_through_and_shows(tmp_path: Path) -> None:
    gates = 'sy.Latency(p99_ms=0.0001), sy.waive("latency", reason="scored at night")'
    run = judged(tmp_path, gates=gates)
    assert run.promoted
    (check,) = [c for c in run.verdict.checks if c.waived]
    assert not check.passed
    assert check.waived is not None
    assert check.waived["reason"] == "scored at night"
    assert check.waived["by"]
    assert check.waived["at"]
