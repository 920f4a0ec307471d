"""`steelyard run`: from a definition to a verified, registered and promoted version."""

import os
from typing import Annotated, Any

import typer
from rich.markup import escape

from steelyard.cli.output import Json, console, print_json, stages, verdict_table
from steelyard.core.config import Config
from steelyard.errors import UsageError

__all__ = ["run"]


def run(
    definition: Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="A definition file.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter.")
    ] = None,
    promote: Annotated[
        bool, typer.Option(help="Move the champion alias when all gates pass.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Train, judge, register and promote a model."""
    # Threads that wait by spinning take the processor from those they wait for, where other work
    # shares the machine; libraries read this when they are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from steelyard.core.loading import load_definition
    from steelyard.flow.training import train_model

    with stages(quiet=as_json) as on_stage:
        on_stage("Read the definition")
        model = load_definition(definition, _settings(settings or []))
        done = train_model(model, Config.load(), promote=promote, on_stage=on_stage)
    if as_json:
        print_json(done.document())
    else:
        console.print()
        console.print(verdict_table(done.verdict.document()))
        console.print()
        _say(done.document())
    if not done.verdict.passed:
        raise typer.Exit(1)


def _settings(given: list[str]) -> dict[str, str]:
    settings = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"--set takes NAME=VALUE; got {text!r}.", fix="Write --set max_depth=6"
            )
        settings[name] = value
    return settings


def _say(document: dict[str, Any]) -> None:
    verdict = document["verdict"]
    name = f"{document['model']}@{document['version']}"
    if document["promoted"]:
        console.print(f"[bold green]{name} is champion.[/] bundle {str(document['bundle'])[:12]}")
        console.print(f"[dim]→[/] steelyard serve {document['model']}")
    elif verdict["passed"]:
        console.print(f"[bold]{name} passed and is kept without an alias.[/]")
        if document["note"]:
            why, _, fix = document["note"].partition("\n")
            console.print(f"{escape(why)}\n[dim]→[/] {escape(fix)}", soft_wrap=True)
        else:
            console.print(f"[dim]→[/] steelyard promote {name}")
    else:
        console.print(f"[bold red]{name} was refused[/] and is kept without an alias:")
        for check in verdict["checks"]:
            if not check["passed"] and not check["waived"]:
                message = escape(str(check["evidence"].get("message", check["name"])))
                console.print(f"[red]✗[/] {check['gate']}: {message}")
        console.print(f"[dim]→[/] steelyard show {name}")
    console.print(f"[dim]{document['seconds']} s[/]")
