"""`steelyard conform`: judge a server by a wire contract."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from steelyard.cli.output import Json, console, print_json, table
from steelyard.errors import UsageError

if TYPE_CHECKING:
    from steelyard.testing.conformance import Report

__all__ = ["conform", "headers_of"]

_SHOWN = 48


def conform(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's base URL.")],
    contract: Annotated[
        str,
        typer.Option(help="native, v2, v2-grpc, kserve-v1, mlflow, sagemaker, vertex or lambda."),
    ],
    model: Annotated[str | None, typer.Option(help="Where the server does not tell it.")] = None,
    rows: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows that the model takes.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with every request, as 'Name: value'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge any server by a wire contract; exit 1 where a case fails."""
    from steelyard.testing.conformance import conform as judged

    report = judged(url, contract, model=model, rows=rows, headers=headers_of(header or []))
    if as_json:
        print_json(report.document())
    else:
        _show(report)
    if report.failed:
        raise typer.Exit(1)


def headers_of(lines: list[str]) -> dict[str, str]:
    """Return headers that are given as lines. Raises UsageError."""
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(f"{line!r} is no header.", fix="Write it as 'Name: value'.")
        found[name.strip()] = value.strip()
    return found


def _show(report: "Report") -> None:
    rows = [
        [
            "[green]✓[/]" if case.passed else "[bold red]✗[/]",
            escape(case.name),
            f"[dim]{escape(_short(case.sent))}[/]",
            escape(case.expected),
        ]
        for case in report.cases
    ]
    console.print(table(["", "case", "sent last", f"what {report.contract} demands"], rows))
    for name, why in report.skipped.items():
        console.print(f"[dim]-   {escape(name)}: not asked, {escape(why)}[/]", soft_wrap=True)
    for case in report.cases:
        if not case.passed:
            console.print(f"\n[bold red]✗ {escape(case.name)}[/]")
            for word, text in (
                ("sent", case.sent), ("demanded", case.expected), ("came", case.got)
            ):  # fmt: skip
                console.print(f"  [dim]{word:<9}[/]{escape(text)}", soft_wrap=True)
    colour = "red" if report.failed else "green"
    counts = f"{report.passed} passed, {report.failed} failed, {len(report.skipped)} not asked"
    console.print(
        f"\n[{colour}]{counts}[/]: {escape(report.model or 'the server')} at {escape(report.url)}"
    )


def _short(sent: str) -> str:
    return sent if len(sent) <= _SHOWN else f"{sent[: _SHOWN - 1]}…"
