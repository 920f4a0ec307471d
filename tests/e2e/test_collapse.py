"""A served model that a change upstream drives into one leaf: its alarm is raised, told, and ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

import steelyard as sy
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger

IN_SMALL = {"kilo": 1_000, "hour": 3_600}


class Parcel(sy.Row):
    kilos: float
    hours: float


def parcels() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    kilos, hours = draw.uniform(0, 30, 600), draw.uniform(0, 72, 600)
    late = kilos + hours / 2 + draw.normal(0, 10, 600) > 33
    return pl.DataFrame({"kilos": kilos, "hours": hours, "late": np.where(late, "yes", "no")})


def model(name: str, **settings: Any) -> sy.Model:
    return sy.Model(
        name=name,
        row=Parcel,
        data=sy.Python(parcels),
        label="late",
        positive="yes",
        estimator=HistGradientBoostingClassifier(max_iter=20, random_state=0),
        **settings,
    )


class Served:
    """A server of one model, and what it says on standard error."""

    def __init__(self, made: sy.Model, folder: Path) -> None:
        self.name = made.name
        state = folder / "state"
        ledger = open_ledger(Config(state))
        built = build(made, read_table(made, Config(state)), folder / "candidates")
        checks = (Check("schema", "rows", True),)
        ledger.register(
            made.name,
            bundle=built.folder,
            bundle_hash=built.bundle,
            provenance={},
            verdict=Verdict(built.bundle, hash_json({}), checks),
            documents={},
            by="test",
        )
        ledger.promote(Reference(made.name, version=1), alias="champion", reason="", by="test")
        self._said = folder / "said.txt"
        with self._said.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "steelyard", "serve", made.name, "--port", "0"],
                env={**os.environ, "STEELYARD_STATE": str(state)},
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        assert self._process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", self._process.stdout.readline())
        assert found, self._said.read_text()
        self._url = found[0]

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def get(self, path: str, body: Any = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()  # type: ignore[no-any-return]

    def ask(self, rows: int, seed: int, *, kilo: float = 1, hour: float = 1) -> set[str]:
        """Ask about rows that all differ, in units of `kilo` and `hour`; return what was answered."""
        draw = np.random.default_rng(seed)
        answers = set()
        for kilos, hours in draw.uniform((1, 1), (30, 72), (rows, 2)).tolist():
            row = {"kilos": kilos * kilo, "hours": hours * hour}
            answer = json.loads(self.get(f"/predict/{self.name}", row))
            assert answer["source"] == "model"
            answers.add(json.dumps([answer["prediction"], answer["probabilities"]]))
        return answers

    def raised(self) -> bool:
        line = f'steelyard_alarm{{alarm="collapse",model="{self.name}"}} '
        found = re.search(re.escape(line) + r"([\d.]+)", self.get("/metrics"))
        assert found, self.get("/metrics")
        return float(found[1]) > 0

    def ready(self) -> dict[str, Any]:
        return json.loads(self.get("/health/ready"))  # type: ignore[no-any-return]

    def told(self) -> list[dict[str, Any]]:
        lines = [json.loads(text) for text in self._said.read_text().splitlines()]
        return [line for line in lines if line["event"] == "collapse"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    running: list[Served] = []

    def run(made: sy.Model) -> Served:
        running.append(Served(made, tmp_path))
        return running[-1]

    yield run
    for served in running:
        served.end()


def eventually(look: Any, seconds: float = 20) -> Any:
    late = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < late:
        time.sleep(0.1)
    return found


def test_the_alarm_is_raised_told_once_and_ends(serve):
    served = serve(model("parcels"))
    assert len(served.ask(520, 1)) > 100
    assert not served.raised()
    assert served.told() == []
    assert "collapse" not in served.ready()

    # Grams and seconds come in place of kilograms and hours: every row falls into the last leaves.
    assert len(served.ask(260, 2, **IN_SMALL)) == 1
    assert eventually(served.raised)
    ready = served.ready()
    assert ready["ready"] is True
    assert ready["collapse"] == "the model gives one answer to nearly every row"
    served.ask(100, 3, **IN_SMALL)
    (begun,) = served.told()
    assert (begun["level"], begun["state"], begun["what"]) == ("error", "raised", "answer")
    assert (begun["model"], begun["version"], begun["prediction"]) == ("parcels", 1, "yes")

    served.ask(60, 4)
    assert eventually(lambda: not served.raised())
    assert "collapse" not in served.ready()
    _, ended = served.told()
    assert (ended["level"], ended["state"]) == ("warning", "cleared")


def test_a_definition_that_ignores_it_is_let_alone(serve):
    served = serve(model("parcels", guards=sy.Guards(collapse="ignore")))
    assert len(served.ask(300, 2, **IN_SMALL)) == 1
    assert not served.raised()
    assert served.told() == []
