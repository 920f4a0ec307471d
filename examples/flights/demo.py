"""The demo: what a person would type, typed for them, with what they would see.

python -m examples.flights.demo
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).parent
FLIGHT = {
    "scheduled": "2013-12-20T17:30:00",
    "sched_arr_time": 1935,
    "dep_delay": 22,
    "carrier": "UA",
    "origin": "EWR",
    "dest": "ORD",
    "distance": 719,
}
console = Console(highlight=False)


def say(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def steelyard(*words: str, expect: int = 0) -> None:
    """Run a command as typed, with the same Python."""
    shown = " ".join(os.path.relpath(word) if os.sep in word else word for word in words)
    console.print(f"[dim]$[/] [cyan]steelyard {shown}[/]")
    code = subprocess.run([sys.executable, "-m", "steelyard", *words], check=False).returncode
    if code != expect:
        sys.exit(f"steelyard {words[0]} ended with {code}, not {expect}")


@contextmanager
def server(name: str) -> Iterator[str]:
    console.print(f"[dim]$[/] [cyan]steelyard serve {name} --port 0 &[/]")
    command = [sys.executable, "-m", "steelyard", "serve", name, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout or ():
            console.print(line.rstrip())
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/docs", line):
                yield found[1]
                break
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def ask(url: str, row: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(row).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def main() -> None:
    began = time.perf_counter()
    os.environ.setdefault("STEELYARD_STATE", str(Path(".steelyard").absolute()))

    say("1. From a definition to a champion: 336,776 real flights, learned Jan-Sep, judged Oct-Dec")
    steelyard("run", str(HERE / "flights.py"))

    say("2. The same model, given the time in the air, which is known only after landing")
    steelyard("run", str(HERE / "leaking.py"), expect=1)
    console.print("[dim]Refused, as it should be: it stays without an alias and cannot serve.[/]")

    say("3. The champion serves, and what it answers is logged before the answer leaves")
    with server("late_flights") as url:
        console.print(
            f"[dim]$[/] [cyan]curl --json '{json.dumps(FLIGHT)}' {url}/predict/late_flights[/]"
        )
        console.print_json(json.dumps(ask(f"{url}/predict/late_flights", FLIGHT)))
    steelyard("log", "late_flights", "--since", "5m")

    say("4. Where to look next")
    console.print(
        "steelyard show late_flights        the verdict, the row, where it came from\n"
        "steelyard reproduce late_flights   rebuild it from its records, bit for bit\n"
        "steelyard serve late_flights       http://127.0.0.1:8000/docs to try it in a browser\n"
        "steelyard init my-model            a project of your own that runs at once\n"
        "examples/flights/flights.py        the whole definition, on one screen\n"
        "docs/one_row.md                    one row, from the table to the log"
    )
    console.print(f"[dim]{time.perf_counter() - began:.0f} s in all[/]")


if __name__ == "__main__":
    main()
