"""`steelyard predict`: answer the rows of a file as the server would."""

from typing import Annotated

import typer

from steelyard.cli.output import Json, console, print_json, table
from steelyard.core.config import Config

__all__ = ["predict"]

_SHOWN = 20


def predict(
    ref: Annotated[str, typer.Argument(metavar="REF", help=r"NAME\[@ALIAS|@VERSION|@sha256:...]")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON, JSON lines, CSV, Parquet.")],
    as_json: Json = False,
) -> None:
    """Answer every row of a file; other columns are ignored."""
    from steelyard.flow.scoring import predict_file

    found = predict_file(ref, file, Config.load())
    if as_json:
        print_json({"predictions": found})
    else:
        rows = [
            ["", f"[red]{'; '.join(e['field'] + ': ' + e['message'] for e in p['error'])}[/]", ""]
            if "error" in p
            else [str(p["prediction"]), _probabilities(p), p["prediction_id"]]
            for p in found[:_SHOWN]
        ]
        console.print(table(["prediction", "probabilities", "prediction_id"], rows))
        if len(found) > _SHOWN:
            console.print(f"[dim]and {len(found) - _SHOWN} more; --json prints all[/]")
    if any("error" in prediction for prediction in found):
        raise typer.Exit(1)


def _probabilities(prediction: dict[str, object]) -> str:
    found = prediction.get("probabilities")
    if not isinstance(found, dict):
        return ""
    return "  ".join(f"{label} {p:.4f}" for label, p in found.items())
