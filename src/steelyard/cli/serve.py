"""`steelyard serve`: answer over HTTP."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from steelyard.core.config import Config
from steelyard.errors import UsageError

__all__ = ["serve"]

_Ref = Annotated[
    str,
    typer.Argument(
        metavar="[REF|FOLDER]",
        help=r"NAME\[@ALIAS|@VERSION|@sha256:...], or the folder of a bundle, with a slash in it; "
        "by default STEELYARD_REF, or where a platform has put the model.",
        show_default=False,
    ),
]
_Host = Annotated[
    str | None, typer.Option(help=r"Address to listen on.  \[default: 127.0.0.1, or a platform's]")
]
_Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help=r"0 takes any free one.  \[default: PORT, else 8000, or a platform's]",
    ),
]
_GrpcPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Answer Open Inference Protocol v2 over gRPC as well; 0 takes any free one.",
    ),
]
_Contract = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="mlflow or sagemaker, which both answer /invocations; the others are on anyway. "
        r"Or lambda, alone: the loop of an AWS Lambda runtime.  \[default: mlflow, or a platform's]",
    ),
]
_Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")]
_Durability = Annotated[
    Literal["group", "power"],
    typer.Option(help="fsync the log every 50 ms, or before every answer."),
]
_OnFull = Annotated[
    Literal["refuse", "answer"], typer.Option(help="What to do when the log's disk is full.")
]
_TimeoutMs = Annotated[
    int,
    typer.Option(
        min=0,
        max=3_600_000,
        help="How long a row that is asked alone may take where its request does not say; then its "
        "fallback answers. 0 is for ever.",
    ),
]
_Auth = Annotated[
    Literal["auto", "required", "off"],
    typer.Option(help="Ask for an API key: once one was made, always, or never."),
]
_TlsCert = Annotated[
    Path | None, typer.Option(help="PEM: the certificate and its chain. Renewed ones are noticed.")
]
_TlsKey = Annotated[Path | None, typer.Option(help="PEM: its key, without a password.")]
_TlsClientCa = Annotated[
    Path | None, typer.Option(help="PEM: ask clients for certificates that this one signed.")
]
_AdminPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Answer GET /admin/state, POST /admin/drain here."),
]
_AdminHost = Annotated[str, typer.Option(help="Address of the admin port.")]
_LogFormat = Annotated[
    Literal["auto", "text", "json"],
    typer.Option(
        envvar="STEELYARD_LOG_FORMAT",
        help="How events are told on stderr: text at a terminal, else JSON, if auto.",
    ),
]
_AccessLog = Annotated[
    bool, typer.Option("--access-log", help="Tell every request; costs two thirds of the speed.")
]


def serve(
    ref: _Ref = "",
    host: _Host = None,
    port: _Port = None,
    grpc_port: _GrpcPort = None,
    contract: _Contract = None,
    workers: _Workers = 1,
    durability: _Durability = "group",
    on_full: _OnFull = "refuse",
    timeout_ms: _TimeoutMs = 1_000,
    auth: _Auth = "auto",
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    tls_client_ca: _TlsClientCa = None,
    admin_port: _AdminPort = None,
    admin_host: _AdminHost = "127.0.0.1",
    log_format: _LogFormat = "auto",
    access_log: _AccessLog = False,
) -> None:
    """Serve a proven version; follow its alias as it moves; drain on SIGTERM."""
    from steelyard.flow.aws_lambda import serve_lambda
    from steelyard.flow.hosting import hosting
    from steelyard.flow.securing import Wanted, secured
    from steelyard.flow.serving import Options, serve_reference

    config = Config.load()
    given = hosting(os.environ)
    named = ref or given.ref
    if not named:
        raise UsageError(
            "nothing says which model to serve.",
            fix="Name one: steelyard serve churn. `steelyard models` lists them.",
        )
    if contract == ["lambda"]:
        serve_lambda(named, config)
        return
    wanted = Wanted(auth, tls_cert, tls_key, tls_client_ca, admin_host, admin_port)
    options = Options(
        host=given.host if host is None else host,
        port=given.port if port is None else port,
        grpc_port=grpc_port,
        contracts=tuple(contract or given.contracts),
        workers=workers,
        durability=durability,
        on_full=on_full,
        timeout_ms=timeout_ms,
        security=secured(config, wanted),
        log_form=None if log_format == "auto" else log_format,
        access_log=access_log,
    )
    serve_reference(named, config, options)
