"""Payloads as the server writes them, and real processes that write them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import steelyard
from steelyard.predictions import uuid7

MakePayload = Callable[..., bytes]
StartPython = Callable[..., "subprocess.Popen[bytes]"]


def _payload(prediction_id: str | None = None, **changes: Any) -> bytes:
    record = {
        "prediction_id": prediction_id or uuid7(),
        "time": datetime.now(UTC),
        "model": "churn",
        "version": 3,
        "bundle": "sha256:ab12",
        "source": "model",
        "row": {"tenure": 12, "MonthlyCharges": 70.35, "Contract": "Zwölf Monate"},
        "outputs": [{"name": "prediction", "value": "Yes"}],
        "prediction": "Yes",
        "probabilities": {"No": 0.25, "Yes": 0.75},
    }
    return msgspec.json.encode(record | changes)


@pytest.fixture(scope="session")
def make_payload() -> MakePayload:
    """Return a function that builds a record's JSON; keywords replace or add keys."""
    return _payload


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Return a function that starts a script in a fresh interpreter; kills what is left."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        sources = str(Path(steelyard.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": sources},
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
