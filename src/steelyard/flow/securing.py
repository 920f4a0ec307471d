"""Keys of a working folder, and what a server of it is secured with."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from steelyard.core.config import Config
from steelyard.core.splits import duration
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.keys import Key, KeyFile
from steelyard.serve.secure.security import Security

__all__ = ["Auth", "create_key", "list_keys", "revoke_key", "rotate_key", "secured"]

Auth = Literal["auto", "required", "off"]


def secured(config: Config, *, auth: Auth = "auto") -> Security:
    """Return what a server of a working folder is secured with.

    `auto` asks for a key as soon as one was ever made. Raises IntegrityError where the file of keys
    is damaged.
    """
    if auth == "off":
        return Security()
    health = filter(None, [os.environ.get("AIP_HEALTH_ROUTE")])
    access = Access(KeyFile(config.keys), required=auth == "required", health=health)
    access.load()
    return Security(access)


def create_key(
    name: str,
    config: Config,
    *,
    scopes: Sequence[str] = (),
    models: Sequence[str] = (),
    expires: str | None = None,
) -> dict[str, Any]:
    """Make a key; return it with its text, which is shown this once."""
    lasts = duration(expires) if expires else None
    given = tuple(scopes) or ("predict",)
    key, text = KeyFile(config.keys).create(name, scopes=given, models=models, lasts=lasts)
    return {"key": text, **_document(key)}


def rotate_key(name: str, config: Config, *, grace: str) -> dict[str, Any]:
    """Make a key that takes the place of another, which stays valid for a while."""
    key, text = KeyFile(config.keys).rotate(name, grace=duration(grace))
    return {"key": text, **_document(key)}


def revoke_key(name: str, config: Config) -> list[dict[str, Any]]:
    """End keys by their name, or one by its id; servers see it within about a second."""
    return [_document(key) for key in KeyFile(config.keys).revoke(name)]


def list_keys(config: Config) -> list[dict[str, Any]]:
    """Return a line a key that was ever made here, in the order of making."""
    return [_document(key) for key in KeyFile(config.keys).read()]


def _document(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(datetime.now(UTC)),
        "scopes": list(key.scopes),
        "models": list(key.models),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
    }
