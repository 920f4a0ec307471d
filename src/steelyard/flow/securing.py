"""Keys of a working folder, and what a server of it is secured with."""

import ipaddress
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from steelyard.core.config import Config
from steelyard.core.splits import duration
from steelyard.errors import UsageError
from steelyard.flow.auditing import record
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.audit import AuditLog
from steelyard.serve.secure.keys import Key, KeyFile
from steelyard.serve.secure.security import Address, Security
from steelyard.serve.secure.tls import Tls, TlsFiles

__all__ = [
    "Auth",
    "Wanted",
    "create_key",
    "list_keys",
    "revoke_key",
    "rotate_key",
    "secured",
    "tell_open",
]

_log = logging.getLogger(__name__)

Auth = Literal["auto", "required", "off"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server is wanted to be secured with, as the command line says it."""

    auth: Auth = "auto"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None


def secured(config: Config, wanted: Wanted) -> Security:
    """Return what a server of a working folder is secured with.

    `auto` asks for a key as soon as one was ever made. Raises UsageError where what is wanted would
    not be safe, or its files cannot be used; IntegrityError where the file of keys is damaged.
    """
    health = filter(None, [os.environ.get("AIP_HEALTH_ROUTE")])
    file = None if wanted.auth == "off" else KeyFile(config.keys)
    access = Access(file, required=wanted.auth == "required", health=health)
    access.load()
    tls = _tls(wanted)
    return Security(access, tls=tls, admin=_admin(wanted, tls), audit=AuditLog(config.audit))


def tell_open(security: Security, host: str) -> None:
    """Warn where others than this machine may ask, and nobody is asked who they are."""
    if not (security.access.on or security.tls_clients or _is_loopback(host)):
        _log.warning(
            "Whoever reaches %s may ask: no API key was made, and none is asked for.",
            host,
            extra={"event": "open"},
        )


def _tls(wanted: Wanted) -> Tls | None:
    cert, key, client_ca = wanted.tls_cert, wanted.tls_key, wanted.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise UsageError(
            "TLS needs a certificate and its key.", fix="Give both --tls-cert and --tls-key."
        )
    return Tls(TlsFiles(cert, key, client_ca))


def _admin(wanted: Wanted, tls: Tls | None) -> Address | None:
    if wanted.admin_port is None:
        return None
    if wanted.auth == "off":
        raise UsageError(
            "the admin routes need keys, which --auth off turns away.",
            fix="Leave --auth out and make one: steelyard keys create NAME --scope admin",
        )
    if tls is None and not _is_loopback(wanted.admin_host):
        raise UsageError(
            f"keys of the admin routes would cross {wanted.admin_host} in the clear.",
            fix="Give --tls-cert and --tls-key, or leave --admin-host at 127.0.0.1.",
        )
    return Address(wanted.admin_host, wanted.admin_port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    _told(config, "key_created", key)
    return {"key": text, **_document(key)}


def rotate_key(name: str, config: Config, *, grace: str) -> dict[str, Any]:
    """Make a key that takes the place of another, which stays valid for a while."""
    key, text = KeyFile(config.keys).rotate(name, grace=duration(grace))
    _told(config, "key_rotated", key, grace=grace)
    return {"key": text, **_document(key)}


def revoke_key(name: str, config: Config) -> list[dict[str, Any]]:
    """End keys by their name, or one by its id; servers see it within about a second."""
    ended = KeyFile(config.keys).revoke(name)
    for key in ended:
        _told(config, "key_revoked", key)
    return [_document(key) for key in ended]


def list_keys(config: Config) -> list[dict[str, Any]]:
    """Return a line a key that was ever made here, in the order of making."""
    return [_document(key) for key in KeyFile(config.keys).read()]


def _told(config: Config, event: str, key: Key, **more: Any) -> None:
    scopes, models = list(key.scopes), list(key.models)
    record(
        config, event, key=key.id, name=key.name, scopes=scopes, models=models,
        expires=key.expires, **more,
    )  # fmt: skip


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
