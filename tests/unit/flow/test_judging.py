"""A definition whose guards refuse much is judged like any other, by what it does answer."""

from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from sklearn.linear_model import LinearRegression

import steelyard as sy
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table
from steelyard.flow.judging import judge_bundle
from steelyard.flow.stores import open_ledger


class House(sy.Row):
    rooms: int
    area: float | None
    district: Literal["north", "south"]
    seen: date


def houses() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rooms, area = rng.integers(1, 9, 400), rng.uniform(20, 200, 400)
    return pl.DataFrame(
        {
            "rooms": rooms,
            "area": area,
            "district": ["north"] * 399 + ["south"],
            "seen": [date(2024, 1, 1)] * 400,
            "price": rooms * 10 + area + rng.normal(0, 5, 400),
        }
    )


def test_strict_guards_do_not_fail_the_gates(tmp_path: Path) -> None:
    definition = sy.Model(
        name="price",
        row=House,
        data=sy.Python(houses),
        label="price",
        estimator=LinearRegression(),
        guards=sy.Guards("refuse"),
        gates=[sy.Latency(p99_ms=2_000)],
    )
    config = Config(tmp_path / "state")
    table = read_table(definition, config)
    built = build(definition, table, tmp_path / "candidates")
    verdict, _ = judge_bundle(definition, table, built, {}, open_ledger(config), lambda gate: None)
    found = {(check.gate, check.name): check for check in verdict.checks}
    server = found["parity", "server over HTTP"]
    assert server.passed, server.evidence
    assert 0 < server.evidence["kept_from_the_model"] < server.evidence["rows"]
    assert found["latency", "p99 of one row"].passed
