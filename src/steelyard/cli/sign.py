"""`steelyard sign`: vouch for a version with a private key."""

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.output import Json, console, print_json
from steelyard.core.config import Config

__all__ = ["sign"]


def sign(
    ref: Annotated[str, typer.Argument(metavar="REF", help=r"NAME\[@ALIAS|@VERSION|@sha256:...]")],
    key: Annotated[Path, typer.Option(help="PEM: a private key on P-256, P-384 or P-521.")],
    as_json: Json = False,
) -> None:
    """Sign a version's bundle; where STEELYARD_VERIFY_KEY is set, only signed ones are served."""
    from steelyard.bundle.signature import EncryptedKeyError, SigningKey
    from steelyard.flow.signing import sign_reference

    try:
        loaded = SigningKey(key)
    except EncryptedKeyError:
        loaded = SigningKey(key, typer.prompt("Password", hide_input=True, err=True))
    signed = sign_reference(ref, loaded, Config.load())
    if as_json:
        print_json(signed)
        return
    already = "" if signed["new"] else " already"
    name = f"{signed['model']}@{signed['version']}"
    console.print(f"[bold]{name}[/] is signed{already} by the key {signed['key'][:16]}")
    console.print(f"bundle {signed['bundle']}")
    console.print(f"[dim]→[/] steelyard promote {name}")
