"""Microseconds per logged prediction, beside the bare write(2) that it cannot beat.

    python bench/predictions.py [--rounds 15] [--number 20000] [--bytes 400] [--json]

Rivals take turns within each round, so that a busy neighbour hits all of them; the median and
the fastest round are shown. The log is written below the working folder, on a real disk.
"""

import argparse
import json
import os
import statistics
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from steelyard.predictions import PredictionWriter, read_segment, uuid7

_BATCH = 64


def _payload(size: int) -> bytes:
    record: dict[str, Any] = {
        "prediction_id": uuid7(),
        "time": "2026-11-24T15:04:05.123456Z",
        "model": "churn",
        "version": 3,
        "bundle": "sha256:" + "ab" * 32,
        "source": "model",
        "row": {"text": ""},
        "outputs": [{"name": "prediction", "value": 0.25}],
        "prediction": 0.25,
    }
    record["row"]["text"] = "x" * max(0, size - len(msgspec.json.encode(record)))
    return msgspec.json.encode(record)


def _repeat(call: Callable[[], object], number: int) -> float:
    start = perf_counter()
    for _ in range(number):
        call()
    return (perf_counter() - start) / number * 1e6


def measure(folder: Path, rounds: int, number: int, size: int) -> dict[str, list[float]]:
    """Return the microseconds per call, or per record, of every rival in every round."""
    payload = _payload(size)
    line = payload + b"\n"
    batch = [payload] * _BATCH
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = PredictionWriter(folder / "group", model="churn")
    single = PredictionWriter(folder / "power", model="churn", durability="power")
    rivals: dict[str, Callable[[], float]] = {
        "bare os.write": lambda: _repeat(lambda: os.write(bare, line), number),
        "append": lambda: _repeat(lambda: log.append(payload), number),
        f"append_many of {_BATCH}, a record": lambda: (
            _repeat(lambda: log.append_many(batch), number // _BATCH) / _BATCH
        ),
        "append, durability power": lambda: _repeat(lambda: single.append(payload), 50),
        "str(uuid.uuid4())": lambda: _repeat(lambda: str(uuid.uuid4()), number),
        "uuid7": lambda: _repeat(uuid7, number),
    }
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, rival in rivals.items():
            times[name].append(rival())
    log.close()
    single.close()
    os.close(bare)
    times["read_segment, a record"] = [_read(folder / "group") for _ in range(3)]
    return times


def _read(folder: Path) -> float:
    start = perf_counter()
    count = sum(1 for path in folder.glob("segments/*.log") for _ in read_segment(path))
    return (perf_counter() - start) / count * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        times = measure(Path(folder), options.rounds, options.number, options.bytes)
    medians = {name: statistics.median(values) for name, values in times.items()}
    if options.json:
        print(json.dumps({"bytes": options.bytes, "microseconds": medians}, indent=2))
        return
    print(f"microseconds, records of {options.bytes} bytes{'median':>26}{'fastest':>10}")
    for name, values in times.items():
        print(f"{name:<50}{medians[name]:>8.2f}{min(values):>10.2f}")
    above = medians["append"] - medians["bare os.write"]
    print(f"{'append above the bare write':<50}{above:>8.2f}")


if __name__ == "__main__":
    main()
