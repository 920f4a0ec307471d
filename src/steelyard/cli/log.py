"""`steelyard log`: the logged predictions of a model."""

import json
from typing import Annotated

import typer
from rich.markup import escape

from steelyard.cli.output import Json, console, print_json, table
from steelyard.core.config import Config

__all__ = ["log"]


def log(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    since: Annotated[
        str | None, typer.Option(help="Only later ones: 30m, 1h, 2d, or a moment in ISO form.")
    ] = None,
    prediction_id: Annotated[str | None, typer.Option("--id", help="Only this prediction.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the latest.")] = 20,
    compact: Annotated[bool, typer.Option(help="Turn closed segments into Parquet first.")] = False,
    as_json: Json = False,
) -> None:
    """Show logged predictions, the latest last."""
    from steelyard.flow.logs import read_log

    found = read_log(
        name, Config.load(), since=since, prediction_id=prediction_id, limit=limit, compact=compact
    )
    if as_json:
        print_json({"predictions": found})
        return
    if not found:
        console.print(f"No logged prediction of {escape(name)} in that time.")
        return
    rows = [
        [
            record["time"][:23].replace("T", " "),
            record["prediction_id"],
            str(record["version"]),
            escape(str(record["prediction"])),
            escape(json.dumps(record["row"], ensure_ascii=False)[:80]),
        ]
        for record in found
    ]
    console.print(table(["time (UTC)", "prediction_id", "version", "prediction", "row"], rows))
