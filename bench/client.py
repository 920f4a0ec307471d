"""What the client costs a call, beside bare HTTP libraries against the same server.

    python bench/client.py [--rounds 5] [--calls 1000] [--json]

One connection, one call after the other: wall time (server and loopback included) and the caller's
own processor time. The bare ones send the same row and read the JSON; they send no key, so that the
server answers them by its short way, and they try nothing again. Medians of rounds, interleaved.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import requests
import telco
from rich.console import Console
from rich.table import Table

import steelyard as sy
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table
from steelyard.flow.serving import started

WAITING = "steelyard.Client"
ASYNC = "steelyard.AsyncClient"
ROWS = 5_000

Ask = Callable[[], Any]
Spent = tuple[float, float]


def spent(ask: Ask, calls: int) -> Spent:
    """Return wall and processor microseconds a call."""
    for _ in range(50):
        ask()
    wall, busy = time.perf_counter(), time.process_time()
    for _ in range(calls):
        ask()
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - busy) / calls * 1e6


async def spent_async(ask: Callable[[], Awaitable[Any]], calls: int) -> Spent:
    for _ in range(50):
        await ask()
    wall, busy = time.perf_counter(), time.process_time()
    for _ in range(calls):
        await ask()
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - busy) / calls * 1e6


async def at_once(client: sy.AsyncClient, row: dict[str, Any], calls: int, together: int) -> float:
    """Return calls a second where so many are under way at any time."""

    async def ask() -> None:
        for _ in range(calls // together):
            await client.predict(row)

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(together)))
    return calls / (time.perf_counter() - begun)


def measure(rounds: int, calls: int) -> dict[str, Any]:
    runs: dict[str, list[Spent]] = {}
    more: dict[str, list[float]] = {}
    row = telco.customers(1, seed=1).select(telco.COLUMNS).to_dicts()[0]
    frame = telco.customers(ROWS, seed=2).select(telco.COLUMNS)
    rows = frame.to_dicts()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        definition = telco.churn(1)
        table = read_table(definition, Config(folder / "state"))
        with started(build(definition, table, folder / "bundles").folder) as url:
            route = f"{url}/predict/churn"

            async def concurrent() -> None:
                async with sy.AsyncClient(route) as ours, httpx2.AsyncClient() as bare:
                    found = await spent_async(lambda: ours.predict(row), calls)
                    runs.setdefault(ASYNC, []).append(found)
                    found = await spent_async(lambda: bare.post(route, json=row), calls)
                    runs.setdefault("httpx2, async", []).append(found)
                    found = await at_once(ours, row, calls, 16)
                    more.setdefault("calls/s, 16 at once", []).append(found)

            with sy.Client(route) as ours, httpx2.Client() as bare, requests.Session() as session:
                ways: dict[str, Ask] = {
                    WAITING: lambda: ours.predict(row),
                    "httpx2": lambda: bare.post(route, json=row).json(),
                    "requests": lambda: session.post(route, json=row).json(),
                }
                for _ in range(rounds):
                    for title, ask in ways.items():
                        runs.setdefault(title, []).append(spent(ask, calls))
                    bulk: dict[str, Ask] = {
                        "predict_many, dicts": lambda: ours.predict_many(rows),
                        "predict_many, polars": lambda: ours.predict_many(frame),
                        "predict_table, polars": lambda: ours.predict_table(frame),
                    }
                    for title, ask in bulk.items():
                        begun = time.perf_counter()
                        ask()
                        rate = ROWS / (time.perf_counter() - begun)
                        more.setdefault(f"rows/s, {title}", []).append(rate)
                    asyncio.run(concurrent())
    medians = {
        title: {
            "wall_us": statistics.median(wall for wall, _ in found),
            "cpu_us": statistics.median(busy for _, busy in found),
        }
        for title, found in runs.items()
    }
    rates = {title: statistics.median(found) for title, found in more.items()}
    return {"rounds": rounds, "calls": calls, "clients": medians, "rates": rates}


def show(found: dict[str, Any]) -> None:
    console = Console(highlight=False, width=100)
    table = Table(title=f"medians of {found['rounds']} rounds of {found['calls']} calls", box=None)
    for name in ("client", "µs a call", "CPU µs a call"):
        table.add_column(name, justify="left" if name == "client" else "right")
    for title, run in found["clients"].items():
        table.add_row(title, f"{run['wall_us']:.0f}", f"{run['cpu_us']:.0f}")
    console.print(table)
    clients = found["clients"]
    for ours, bare in ((WAITING, "httpx2"), (ASYNC, "httpx2, async"), (WAITING, "requests")):
        extra = clients[ours]["cpu_us"] - clients[bare]["cpu_us"]
        console.print(f"{ours} over {bare}: {extra:+.0f} µs of the caller's processor a call")
    for title, rate in found["rates"].items():
        console.print(f"{title}: {rate:,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.calls)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
