"""What bench/serve.py shows of its figures: the table, and what follows from it."""

from collections.abc import Iterator
from typing import Any

from field import ARROW, ECHO, FIVE, ONNX, SAME, SKLEARN, STEELYARD
from rich.console import Console
from rich.table import Table

IDLE_SHOWN = 0.005
Load = tuple[int, int]


def _named(load: Load) -> str:
    connections, rows = load
    return f"{connections} x {rows}"


def ratios(by_title: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what is compared at one load; a peer that has no figures is left out."""
    mine = by_title[STEELYARD]
    taught = [title for title in FIVE if title in by_title]
    quickest = [title for title in by_title if title.removesuffix(" + onnxruntime") in FIVE]
    for kind, titles in (("as taught", taught), ("in either form", quickest)):
        if titles:
            best = max(titles, key=lambda title: by_title[title]["rps"])
            yield (
                f"requests/s, times {best}, the best of {len(set(titles))} {kind}",
                mine["rps"] / by_title[best]["rps"],
            )
    for title in ("pytriton + onnxruntime", ONNX, SKLEARN):
        if title in by_title:
            yield f"requests/s, times {title}", mine["rps"] / by_title[title]["rps"]
    for figure, name in (("p99_us", "p99"), ("cpu_us", "processor time")):
        yield f"{name}, share of {ONNX}", mine[figure] / by_title[ONNX][figure]
    same = by_title[SAME]["rps"]
    yield f"requests/s of {SAME}, times {ONNX}", same / by_title[ONNX]["rps"]
    if ECHO in by_title:
        yield f"requests/s, share of {ECHO}", mine["rps"] / by_title[ECHO]["rps"]
    if ARROW in by_title:
        yield f"requests/s of {ARROW}, times JSON", by_title[ARROW]["rps"] / mine["rps"]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures and ratios as one JSON document."""
    loads = {
        f"{connections}x{rows}": {"servers": by_title, "ratios": dict(ratios(by_title))}
        for (connections, rows), by_title in found["loads"].items()
    }
    return {**found, "loads": loads}


def show(found: dict[str, Any]) -> None:
    console = Console(highlight=False, width=110)
    table = Table(title=f"medians of {found['rounds']} rounds of {found['seconds']:g} s", box=None)
    for name in ("connections x rows", "server", "req/s", "p50 ms", "p99 ms", "CPU µs/req"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for load, by_title in found["loads"].items():
        for title, run in by_title.items():
            table.add_row(
                _named(load),
                title,
                f"{run['rps']:,.0f}",
                f"{run['p50_us'] / 1e3:.2f}",
                f"{run['p99_us'] / 1e3:.2f}",
                f"{run['cpu_us']:,.0f}",
            )
        table.add_section()
    console.print(table)
    for title, why in found["missing"].items():
        console.print(f"not in the table: {title}: {why}", markup=False)
    for load, by_title in found["loads"].items():
        console.print(f"\n{_named(load)}")
        for name, value in ratios(by_title):
            console.print(f"  {name}: {value:.2f}")
    spent = ", ".join(f"{name} {value:.1f}" for name, value in found["stages_us"].items())
    console.print(f"\nµs a request in Steelyard's core, by its own metrics: {spent}")
    busy = {title: share for title, share in found["idle_share"].items() if share > IDLE_SHOWN}
    if busy:
        shares = ", ".join(f"{title} {share:.1%}" for title, share in busy.items())
        console.print(f"share of a core that a server took while nobody asked it: {shares}")
