"""`steelyard serve`: answer over HTTP."""

from typing import Annotated, Literal

import typer

from steelyard.core.config import Config

__all__ = ["serve"]


def serve(
    ref: Annotated[str, typer.Argument(metavar="REF", help="NAME[@ALIAS|@VERSION|@sha256:...]")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    durability: Annotated[
        Literal["group", "power"],
        typer.Option(help="fsync the log every 50 ms, or before every answer."),
    ] = "group",
    on_full: Annotated[
        Literal["refuse", "answer"],
        typer.Option(help="What to do when the log's disk is full."),
    ] = "refuse",
    auth: Annotated[
        Literal["auto", "required", "off"],
        typer.Option(help="Ask for an API key: once one was made, always, or never."),
    ] = "auto",
    log_format: Annotated[
        Literal["auto", "text", "json"],
        typer.Option(
            envvar="STEELYARD_LOG_FORMAT",
            help="How events are told on stderr: text at a terminal, else JSON, if auto.",
        ),
    ] = "auto",
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Tell every request; costs a third of the speed.")
    ] = False,
) -> None:
    """Serve a proven version; follow its alias as it moves; drain on SIGTERM."""
    from steelyard.flow.securing import secured
    from steelyard.flow.serving import Options, serve_reference

    config = Config.load()
    options = Options(
        host=host,
        port=port,
        workers=workers,
        durability=durability,
        on_full=on_full,
        security=secured(config, auth=auth),
        log_form=None if log_format == "auto" else log_format,
        access_log=access_log,
    )
    serve_reference(ref, config, options)
