"""Commands about versions that exist: list, show, verify, reproduce, compare, move, examine."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from steelyard.cli.output import Json, console, print_json, table, verdict_table
from steelyard.core.config import Config

__all__ = ["diff", "doctor", "models", "promote", "reproduce", "rollback", "show", "verify"]

Ref = Annotated[str, typer.Argument(metavar="REF", help=r"NAME\[@ALIAS|@VERSION|@sha256:...]")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")]


def models(as_json: Json = False) -> None:
    """List the models, their versions and where their aliases stand."""
    from steelyard.flow.versions import list_models

    found = list_models(Config.load())
    if as_json:
        print_json({"models": found})
        return
    if not found:
        console.print("No model yet.\n[dim]→[/] steelyard init DIR, or steelyard run FILE")
        return
    rows = [
        [m["model"], str(m["versions"]), _aliases(m["aliases"]), m["at"][:19].replace("T", " ")]
        for m in found
    ]
    console.print(table(["model", "versions", "aliases", "last version"], rows))


def _aliases(aliases: dict[str, int]) -> str:
    return "  ".join(f"{alias} → {number}" for alias, number in sorted(aliases.items()))


def show(ref: Ref, as_json: Json = False) -> None:
    """Show a version: its verdict, row, provenance and history."""
    from steelyard.flow.versions import show_version

    found = show_version(ref, Config.load())
    if as_json:
        print_json(found)
        return
    aliases = ", ".join(found["aliases"]) or "no alias"
    console.print(f"[bold]{found['model']}@{found['version']}[/]  {aliases}")
    console.print(f"bundle      {found['bundle']}")
    provenance = found["provenance"]
    console.print(f"snapshot    {provenance['snapshot']}")
    console.print(
        f"definition  {provenance['definition']['file']} {provenance['definition']['sha256'][:12]}"
    )
    console.print(
        f"rows        {provenance['rows']['train']} train, {provenance['rows']['test']} test"
    )
    console.print()
    console.print(verdict_table(found["verdict"]))
    console.print()
    fields = [
        [escape(name), escape(_kind(entry)), escape(entry.get("description", ""))]
        for name, entry in found["row"]["properties"].items()
    ]
    console.print(table(["field", "type", ""], fields))
    console.print()
    events = [
        [event["at"][:19].replace("T", " "), event["by"], escape(event["what"])]
        for event in found["ledger"]
    ]
    console.print(table(["when", "who", "what"], events))


def _kind(entry: dict[str, Any]) -> str:
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    shown = str(entry.get("format", kinds[0]))
    return shown + (" or null" if "null" in kinds else "")


def verify(ref: Ref, as_json: Json = False) -> None:
    """Check every file of a version, its golden rows and its verdict."""
    from steelyard.flow.versions import verify_version

    found = verify_version(ref, Config.load())
    if as_json:
        print_json(found)
    else:
        rows = [
            [f["path"], "[green]ok[/]" if f["ok"] else f"[red]{escape(f['reason'])}[/]"]
            for f in found["files"]
        ]
        console.print(table(["file", ""], rows))
        for name in ("golden", "verdict", "signature"):
            console.print(f"{name:10} {escape(found[name]['result'])}")
    if not found["ok"]:
        raise typer.Exit(1)


def reproduce(ref: Ref, as_json: Json = False) -> None:
    """Rebuild a version from its records and compare; equal, or what differs."""
    from steelyard.flow.reproducing import reproduce_version

    found = reproduce_version(ref, Config.load())
    if as_json:
        print_json(found)
    else:
        _say_differences(found, equal="The rebuilt bundle is equal, bit for bit.")
    if not found["equal"]:
        raise typer.Exit(1)


def _say_differences(found: dict[str, Any], *, equal: str) -> None:
    if found["equal"]:
        console.print(f"[green]{equal}[/]")
    rows = [
        [escape(str(d["what"])), escape(str(d["from"])), escape(str(d["to"]))]
        for d in found["differences"]
    ]
    if rows:
        console.print(table(["what", "recorded" if "equal" in found else "", "now"], rows))


def diff(first: Ref, second: Ref, as_json: Json = False) -> None:
    """Compare two versions: data, definition, environment, files, metrics."""
    from steelyard.flow.versions import diff_versions

    found = diff_versions(first, second, Config.load())
    if as_json:
        print_json(found)
        return
    rows = [
        [escape(str(d["what"])), escape(str(d["from"])), escape(str(d["to"]))]
        for d in found["differences"]
    ]
    console.print(table(["what", first, second], rows) if rows else "No difference.")


def promote(
    ref: Ref,
    to: Annotated[str, typer.Option("--to", help="The alias to move.")] = "champion",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Move an alias to a version whose verdict passed."""
    from steelyard.flow.versions import promote_version

    _say_move(promote_version(ref, to, reason, Config.load()), as_json)


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    alias: Annotated[str, typer.Option("--alias", help="The alias to move.")] = "champion",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Move an alias back to the version that held it before."""
    from steelyard.flow.versions import rollback_model

    _say_move(rollback_model(name, alias, reason, Config.load()), as_json)


def _say_move(move: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(move)
    elif move["moved"]:
        before = "" if move["from"] is None else f" (was {move['from']})"
        console.print(f"{move['model']}: {move['alias']} → [bold]{move['to']}[/]{before}")
    else:
        console.print(f"{move['model']}: {move['alias']} was {move['to']} already; nothing moved")


def doctor(as_json: Json = False) -> None:
    """Examine the store, the ledger and the mirror in MLflow; say what is wrong."""
    from steelyard.flow.doctoring import examine

    found = examine(Config.load())
    if as_json:
        print_json(found)
    else:
        for finding in found["findings"]:
            mark = {"ok": "[green]✓[/]", "note": "[yellow]![/]", "error": "[bold red]✗[/]"}
            console.print(f"{mark[finding['state']]} {escape(finding['message'])}")
    if not found["ok"]:
        raise typer.Exit(1)
