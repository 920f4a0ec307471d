"""What a person, or a program that asked for --json, sees."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from steelyard.errors import InputError, SteelyardError

__all__ = ["Json", "console", "fail", "print_json", "stages", "table", "verdict_table"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def fail(error: SteelyardError, *, as_json: bool) -> None:
    """Show what went wrong and what to do next, on standard error (or as the JSON document)."""
    if as_json:
        document: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, InputError):
            document["errors"] = error.errors
        print_json(document)
        return
    message, _, fix = str(error).partition("\n")
    _errors.print(f"[bold red]{escape(message)}[/]", soft_wrap=True)
    if fix:
        _errors.print(f"[dim]→[/] {escape(fix)}", soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table in the house's look; cells may hold rich markup."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))


def verdict_table(verdict: Mapping[str, Any]) -> Table:
    """Return a verdict's document as a table, a line a check."""
    rows = []
    for check in verdict["checks"]:
        state = "[green]pass[/]" if check["passed"] else "[bold red]FAIL[/]"
        if check["waived"]:
            state = "[yellow]waived[/]"
        elif check["flagged"] and check["passed"]:
            state = "[yellow]flag[/]"
        message = escape(str(check["evidence"].get("message", "")))
        if check["waived"]:
            waiver = check["waived"]
            message = f"waived by {escape(waiver['by'])}: {escape(waiver['reason'])}. {message}"
        name = escape(check["name"].removeprefix(f"{check['gate']}: "))
        rows.append(
            [
                check["gate"],
                name,
                state,
                _shown(check["value"]),
                _shown(check["threshold"]),
                message,
            ]
        )
    return table(["gate", "check", "", "found", "limit", "why"], rows)


class _Stages:
    """Shows each stage as it runs, and how long it took once it is over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None
        self._name = ""
        self._started = 0.0

    def __call__(self, name: str) -> None:
        self.close()
        self._name, self._started = name, time.perf_counter()
        self._task = self._progress.add_task(name, total=None)

    def close(self) -> None:
        if self._task is not None:
            seconds = time.perf_counter() - self._started
            self._progress.remove_task(self._task)
            self._progress.console.print(f"[green]✓[/] {self._name} [dim]{seconds:.1f} s[/]")
            self._task = None


@contextmanager
def stages(*, quiet: bool) -> Iterator[Any]:
    """Give a function to call with the name of each stage that begins."""
    if quiet:
        yield lambda name: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        shown = _Stages(progress)
        yield shown
        shown.close()
