"""Who was champion before, as the ledger tells; and that it stands in, offline as served."""

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

import steelyard as sy
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict, Version
from steelyard.core.reference import CHAMPION, Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.champions import previous_champion
from steelyard.flow.following import subject
from steelyard.flow.scoring import predict_file
from steelyard.flow.stores import open_ledger
from steelyard.registry.ledger import Ledger
from steelyard.serve.answer.version import load


class House(sy.Row):
    rooms: int


def houses() -> pl.DataFrame:
    return pl.DataFrame({"rooms": range(100), "price": [10.0 * i for i in range(100)]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path / "state")


@pytest.fixture
def ledger(config: Config) -> Ledger:
    return open_ledger(config)


def register(
    ledger: Ledger, config: Config, constant: float, passed: bool = True, output: Any = "refuse"
) -> Version:
    """Register a version whose bundle differs by the constant that it falls back on at last."""
    definition = sy.Model(
        name="price",
        row=House,
        data=sy.Python(houses),
        label="price",
        estimator=LinearRegression(),
        guards=sy.Guards(output=output),
        fallback=sy.PreviousChampion(otherwise=sy.Constant(constant)),
    )
    built = build(definition, read_table(definition, config), config.state / "candidates")
    provenance: dict[str, Any] = {"snapshot": "s"}
    verdict = Verdict(built.bundle, hash_json(provenance), (Check("quality", "r2", passed),))
    return ledger.register(
        "price",
        bundle=built.folder,
        bundle_hash=built.bundle,
        provenance=provenance,
        verdict=verdict,
        documents={},
        by="ann",
    )


def promote(ledger: Ledger, version: Version, alias: str = CHAMPION) -> None:
    ledger.promote(Reference("price", version=version.number), alias=alias, reason="", by="ann")


def before(ledger: Ledger, version: Version) -> int | None:
    found = previous_champion(ledger, version)
    return None if found is None else found.number


def test_the_ledger_tells_who_was_champion_before(ledger: Ledger, config: Config) -> None:
    one, two, three, four = (register(ledger, config, i) for i in range(4))
    assert before(ledger, one) is None
    promote(ledger, one)
    promote(ledger, four, alias="challenger")
    assert [before(ledger, v) for v in (one, two, four)] == [None, 1, 1]
    promote(ledger, two)
    promote(ledger, three)
    assert [before(ledger, v) for v in (one, two, three, four)] == [None, 1, 2, 3]
    # What was rolled back was no good, and does not stand in either.
    ledger.rollback("price", reason="worse", by="ann")
    assert [before(ledger, v) for v in (one, two, three)] == [None, 1, 2]
    promote(ledger, four)
    assert before(ledger, four) == 2
    promote(ledger, two)
    assert before(ledger, two) == 4


def test_one_whose_proof_is_gone_is_passed_over(
    ledger: Ledger, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = (register(ledger, config, i) for i in range(3))
    for version in (one, two, three):
        promote(ledger, version)
    register(ledger, config, 1, passed=False)  # judged again, and it failed
    with caplog.at_level(logging.WARNING):
        assert before(ledger, three) == 1
    assert "price@2 cannot stand in for price@3" in caplog.text


def test_it_stands_in_offline_as_served(ledger: Ledger, config: Config, tmp_path: Path) -> None:
    one = register(ledger, config, -1.0)
    lax = register(ledger, config, -2.0, output="flag")
    two = register(ledger, config, -3.0)
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"rooms": 5}, {"rooms": 5_000}]))
    promote(ledger, one)
    near, far = predict_file("price", str(rows), config)
    assert (near["source"], near["prediction"]) == ("model", pytest.approx(50))
    assert "flags" not in near
    assert "reason" not in near
    assert (far["source"], far["reason"], far["prediction"]) == ("fallback", "out_of_range", -1.0)
    (flag,) = far["flags"]
    assert (flag["field"], flag["rule"]) == ("rooms", "range")
    promote(ledger, lax)
    promote(ledger, two)
    far = predict_file("price", str(rows), config)[1]
    assert (far["source"], far["version"], far["prediction"]) == ("fallback", 3, pytest.approx(5e4))
    served = subject("price", config).follow()
    assert served.version == 3
    assert served.previous == (ledger.bundle_folder(lax), lax.bundle)
    stands = load(served).fallback
    assert stands is not None
    assert stands((5_000,)) == (far["prediction"], None)
    # The champion before may refuse its own answer as well.
    promote(ledger, one)
    promote(ledger, two)
    assert predict_file("price", str(rows), config)[1]["prediction"] == -3.0
