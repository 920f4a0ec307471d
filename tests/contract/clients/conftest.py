"""Two proven models, rows that they never saw, and servers started as people and platforms do."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pydantic
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor

import steelyard as sy
from steelyard import Field
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger

TRAINED = 2_000
HELD_OUT = 1_000
CITIES = ["Rome", "Oslo", "Ürümqi", 'St. "X", 3', "São\nPaulo"]


class Customer(sy.Row):
    """Somebody who may leave; every kind of field, with and without null."""

    tenure: int = Field(ge=0, le=100)
    calls: int | None = None
    charge: float = Field(gt=0)
    total: float | None
    plan: Literal["basic", "pro", "max"]
    city: str | None
    since: date
    seen: pydantic.AwareDatetime | None
    active: bool
    paperless: bool | None


@sy.row_features(Customer)
def features(xp: Any, c: Any) -> dict[str, Any]:
    return {
        "charge_per_month": c.total / xp.maximum(c.tenure, 1),
        "year": xp.year(c.since),
        "hour": xp.hour(c.seen),
    }


def customers(seed: int, rows: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)

    def nulls(values: list[Any], share: float) -> list[Any]:
        return [
            None if drawn < share else value
            for value, drawn in zip(values, random.random(rows), strict=True)
        ]

    tenure = random.integers(0, 100, rows)
    charge = np.round(random.uniform(1, 120, rows), 2) + 1 / 3
    hours = random.integers(0, 8_760, rows)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    leaves = tenure + random.normal(0, 20, rows) < charge
    return pl.DataFrame(
        {
            "tenure": tenure,
            "calls": nulls(random.integers(0, 20, rows).tolist(), 0.3),
            "charge": charge,
            "total": nulls((charge * tenure).tolist(), 0.2),
            "plan": random.choice(["basic", "pro", "max"], rows),
            "city": nulls([CITIES[i] for i in random.integers(0, len(CITIES), rows)], 0.2),
            "since": [date(2015, 1, 1) + timedelta(days=int(i)) for i in hours // 3],
            "seen": nulls([start + timedelta(hours=int(hour)) for hour in hours], 0.2),
            "active": tenure > 30,
            "paperless": nulls((hours % 2 == 0).tolist(), 0.2),
            "churn": np.where(leaves, "Yes", "No"),
            "spent": charge * 12 + random.normal(0, 5, rows),
        }
    )


def definitions() -> list[sy.Model]:
    table = sy.Python(lambda: customers(0, TRAINED))
    return [
        sy.Model(
            name="churn",
            row=Customer,
            features=features,
            data=table,
            label="churn",
            positive="Yes",
            estimator=HistGradientBoostingClassifier(max_iter=20, random_state=0),
        ),
        sy.Model(
            name="spent",
            row=Customer,
            features=features,
            data=table,
            label="spent",
            estimator=RandomForestRegressor(10, random_state=0, max_depth=8),
        ),
    ]


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with a champion of each model."""
    folder = tmp_path_factory.mktemp("clients") / "state"
    config = Config(folder)
    ledger = open_ledger(config)
    for definition in definitions():
        built = build(definition, read_table(definition, config), folder / "candidates")
        made = {"seed": 0}
        ledger.register(
            definition.name,
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance=made,
            verdict=Verdict(built.bundle, hash_json(made), (Check("schema", "rows", True),)),
            documents={},
            by="test",
        )
        champion = Reference(definition.name, version=1)
        ledger.promote(champion, alias="champion", reason="", by="test")
    return folder


@pytest.fixture(scope="session")
def held_out() -> list[dict[str, Any]]:
    """Rows that no model saw, as JSON has them."""
    table = customers(1, HELD_OUT).drop("churn", "spent")
    return [
        {n: v.isoformat() if isinstance(v, date) else v for n, v in row.items()}
        for row in table.iter_rows(named=True)
    ]


def steelyard(*words: str) -> list[str]:
    return [sys.executable, "-m", "steelyard", *words]


@pytest.fixture(scope="session")
def predicted(state: Path, held_out: list[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    """What `steelyard predict` says of the held-out rows, by model."""
    file = state.parent / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in held_out))
    return {
        name: json.loads(
            subprocess.run(
                steelyard("predict", name, str(file), "--json"),
                env=os.environ | {"STEELYARD_STATE": str(state)},
                check=True,
                capture_output=True,
            ).stdout
        )["predictions"]
        for name in ("churn", "spent")
    }


@contextmanager
def serving(*words: str, **variables: str) -> Iterator[str]:
    process = subprocess.Popen(
        steelyard("serve", *words),
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if found := re.search(r'"grpc":"([^"]+)"', said):
            yield found[1]
        else:
            found = re.search(r"http://[\d.]+(:\d+)", said)
            assert found
            yield f"http://127.0.0.1{found[1]}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def server(state: Path) -> Iterator[Callable[[str, str], str]]:
    """Return a function that gives the URL of a server of a model, started once: as by default, or
    as on a platform, which says where the bundle lies and what the routes are; or where one answers
    over gRPC."""
    with ExitStack() as stack:
        urls: dict[tuple[str, str], str] = {}

        def start(model: str, platform: str) -> str:
            if (model, platform) not in urls:
                home = {"STEELYARD_STATE": str(state)}
                if platform == "none":
                    started = serving(model, "--port", "0", **home)
                elif platform == "gRPC":
                    started = serving(model, "--port", "0", "--grpc-port", "0", **home)
                else:
                    ledger = open_ledger(Config(state))
                    bundle = ledger.bundle_folder(ledger.resolve(Reference.parse(model)))
                    started = serving(
                        *("--contract", "sagemaker"),
                        STEELYARD_STATE=str(state / "elsewhere"),
                        AIP_HTTP_PORT="0",
                        AIP_STORAGE_URI=str(bundle),
                        AIP_HEALTH_ROUTE="/is-healthy",
                        AIP_PREDICT_ROUTE="/predictions",
                    )
                urls[model, platform] = stack.enter_context(started)
            return urls[model, platform]

        yield start
