"""Who acts: recorded with every version, alias move and waiver."""

import getpass
import os

__all__ = ["current_user"]


def current_user() -> str:
    """Return `STEELYARD_USER` where it is set (a CI job's actor, for example), else the login name."""
    given = os.environ.get("STEELYARD_USER", "").strip()
    if given:
        return given[:200]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user id need not have a name.
        return f"uid {os.getuid()}"
