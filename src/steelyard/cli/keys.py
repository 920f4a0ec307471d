"""`steelyard keys`: make, list, revoke and rotate API keys."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from steelyard.cli.output import Json, console, print_json, table
from steelyard.core.config import Config

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="API keys: who may ask a server what.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, or its id.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A model it is good for; default all.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, metrics or admin; default predict.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long it lasts, such as 90d.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once."""
    from steelyard.flow.securing import create_key, list_keys

    config = Config.load()
    first = not list_keys(config)
    made = create_key(name, config, scopes=scope or (), models=model or (), expires=expires)
    _say_key(made, as_json)
    if first and not as_json:
        console.print("It is the first: from now on servers of this folder ask for a key.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the keys that were made; their texts are not kept."""
    from steelyard.flow.securing import list_keys

    found = list_keys(Config.load())
    if as_json:
        print_json({"keys": found})
        return
    if not found:
        console.print("No key yet: servers answer everybody.\n[dim]→[/] steelyard keys create NAME")
        return
    colours = {
        "active": "[green]active[/]",
        "expired": "[dim]expired[/]",
        "revoked": "[red]revoked[/]",
    }
    rows = [
        [
            key["id"],
            escape(key["name"]),
            colours[key["state"]],
            " ".join(key["scopes"]),
            " ".join(key["models"]) or "all",
            _short(key["created"]),
            _short(key["expires"]),
        ]
        for key in found
    ]
    console.print(table(["id", "name", "", "scopes", "models", "made", "until"], rows))


@app.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """End a key at once."""
    from steelyard.flow.securing import revoke_key

    ended = revoke_key(name, Config.load())
    if as_json:
        print_json({"revoked": ended})
        return
    for key in ended:
        console.print(
            f"{escape(key['name'])} ({key['id']}) is revoked; servers see it in a second."
        )


@app.command()
def rotate(
    name: Name,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old one stays valid.")
    ] = "24h",
    as_json: Json = False,
) -> None:
    """Make a key that takes the place of another, with the same rights."""
    from steelyard.flow.securing import rotate_key

    _say_key(rotate_key(name, Config.load(), grace=grace), as_json)
    if not as_json:
        console.print(f"The old one is valid for another {grace}.")


def _say_key(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    # Alone on its line and unbroken, to be copied; it is kept nowhere.
    console.print(made["key"], soft_wrap=True, style="bold")
    until = f", until {_short(made['expires'])}" if made["expires"] else ""
    models = " ".join(made["models"]) or "all models"
    console.print(
        f"{escape(made['name'])} ({made['id']}): {' '.join(made['scopes'])} of {models}{until}"
    )
    console.print("[dim]Keep it now: it is not shown again.[/]")


def _short(moment: str | None) -> str:
    return (moment or "")[:16].replace("T", " ")
