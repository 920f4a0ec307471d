"""`steelyard dashboards`: the files by which Grafana and Prometheus watch a server."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.output import Json, console, print_json
from steelyard.core.files import atomic_write
from steelyard.errors import UsageError

__all__ = ["dashboards"]

_FILES = {
    "grafana.json": "a dashboard; in Grafana: Dashboards, New, Import",
    "alerts.yml": "alert rules; in Prometheus: rule_files",
    "prometheus.yml": "a configuration that scrapes a server and uses the rules",
}


def dashboards(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite what was edited.")] = False,
    as_json: Json = False,
) -> None:
    """Write a Grafana dashboard, Prometheus alert rules and a configuration that uses them."""
    source = files("steelyard.serve.observe")
    contents = {name: (source / name).read_bytes() for name in _FILES}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder.", fix="Name a folder, new or not.")
    for name, content in contents.items():
        path = folder / name
        if not force and path.exists() and path.read_bytes() != content:
            raise UsageError(
                f"{path} exists and is another one.",
                fix="Name another folder, or overwrite it with --force.",
            )
    for name, content in contents.items():
        atomic_write(folder / name, content)
    if as_json:
        print_json({"folder": str(folder), "files": list(contents)})
        return
    for name, what in _FILES.items():
        console.print(f"[green]✓[/] {folder / name}  [dim]{what}[/]")
