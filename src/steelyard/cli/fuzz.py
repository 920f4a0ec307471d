"""`steelyard fuzz`: mutated requests on every route of a server."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from steelyard.cli.conform import headers_of
from steelyard.cli.output import Json, console, print_json, table

if TYPE_CHECKING:
    from steelyard.testing.fuzz import Report

__all__ = ["fuzz"]


def fuzz(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's base URL.")],
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed makes the same cases.")] = 0,
    case: Annotated[int | None, typer.Option(help="Send only this case, by its number.")] = None,
    grpc: Annotated[
        str, typer.Option(metavar="URL", help="Where it answers gRPC, as grpc://HOST:PORT.")
    ] = "",
    pid: Annotated[
        int | None, typer.Option(help="The server's process: its memory and files are watched.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where the server does not tell it.")] = None,
    rows: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows that the model takes.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with every good request, as 'Name: value'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a server of your own mutated requests; exit 1 where it does what no server may do."""
    from steelyard.testing import fuzz as fuzzing

    target = fuzzing.target_of(
        url, grpc=grpc, process=pid, model=model, rows=rows, headers=headers_of(header or [])
    )
    if case is None:
        report = fuzzing.campaign([target], seconds, seed=seed)
    else:
        report = fuzzing.rerun([target], seed, case)
    if as_json:
        print_json(report.document())
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(1)


def _show(report: "Report") -> None:
    cases = ", ".join(f"{count} {kind}" for kind, count in report.cases.items())
    console.print(f"seed {report.seed}, {report.seconds:.0f} seconds: {cases}")
    console.print(table(["answer", "times"], [[k, str(v)] for k, v in report.classes.items()]))
    for name, uses in report.uses.items():
        memory = " to ".join(f"{use.resident / 2**20:.1f}" for use in (uses[0], uses[-1]))
        files = " to ".join(str(use.files) for use in (uses[0], uses[-1]))
        console.print(f"{escape(name)}: {memory} MiB, {files} open files")
    for finding in report.findings:
        console.print(f"\n[bold red]✗[/] {escape(str(finding))}", soft_wrap=True)
    colour = "red" if report.findings else "green"
    asked = f"{report.controls} good requests in between"
    console.print(f"\n[{colour}]{len(report.findings)} findings[/], {asked}")
