"""API keys: made and shown once, kept as hashes, changed while servers run.

A key is `sy_<id>_<secret>`: eight characters to look it up by, which are no secret, and 256 random
bits. Only its SHA-256 is kept. A slow password hash makes every guess dear where secrets can be
guessed; nobody guesses 256 random bits, so that the 80 ms of scrypt would buy nothing and cost every
request (SHA-256: 0.9 us). The file is written aside and renamed into place, under a lock.
"""

import hashlib
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from steelyard.core.files import atomic_write, locked, sweep_aside
from steelyard.core.reference import check_name
from steelyard.errors import IntegrityError, NotFoundError, StoreError, UsageError, nearest

__all__ = ["SCOPES", "Key", "KeyFile", "digest_of", "id_of"]

SCOPES: Final = ("predict", "metrics", "admin")
_FORMAT: Final = 1
_SHAPE = re.compile(r"sy_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. No `models` stands for all of them; times are RFC 3339 in UTC."""

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None

    def state(self, now: datetime) -> str:
        """Return `active`, `expired` or `revoked`."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and _time(self.expires) <= now else "active"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    keys: list[Key]


def id_of(text: str) -> str | None:
    """Return the id that a key carries; None where the text is no key.

    >>> id_of("sy_0123abcd_" + "x" * 43)
    '0123abcd'
    """
    match = _SHAPE.fullmatch(text)
    return match[1] if match else None


def digest_of(text: str) -> str:
    """Return what is kept of a key's text."""
    return hashlib.sha256(text.encode()).hexdigest()


class KeyFile:
    """The keys of one state folder, in a file that several processes may change at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Key]:
        """Return every key that was ever made here; none where there is no file.

        Raises IntegrityError where the file is damaged, StoreError where others may write to it.
        """
        try:
            mode = self.path.stat().st_mode
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"cannot read the keys in {self.path}: {error.strerror}.",
                fix="See that the file belongs to the user who serves.",
            ) from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StoreError(
                f"others than its owner may write to {self.path}.", fix=f"chmod 600 {self.path}"
            )
        try:
            found = msgspec.json.decode(data, type=_File)
            for key in found.keys:
                if key.expires is not None:
                    _time(key.expires)
        except (msgspec.MsgspecError, ValueError) as error:
            raise IntegrityError(
                f"{self.path} is damaged: {error}.",
                fix="Restore it, or remove it and make new keys.",
            ) from None
        if found.format != _FORMAT:
            raise IntegrityError(
                f"{self.path} has format {found.format}; this Steelyard reads {_FORMAT}.",
                fix="Upgrade Steelyard here.",
            )
        return found.keys

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("predict",),
        models: Sequence[str] = (),
        lasts: timedelta | None = None,
    ) -> tuple[Key, str]:
        """Make a key; return what is kept of it, and its text, which nobody can ask for again.

        Raises UsageError where an active key has that name already.
        """
        check_name(name, what="a key's name")
        for model in models:
            check_name(model)
        for scope in scopes:
            if scope not in SCOPES:
                raise UsageError(f"no scope {scope[:50]!r}. {nearest(scope[:50], SCOPES)}")
        now = datetime.now(UTC)
        expires = _text(_later(now, lasts)) if lasts is not None else None
        key, text = _made(name, tuple(dict.fromkeys(scopes)), tuple(models), now, expires)

        def add(keys: list[Key]) -> list[Key]:
            if any(k.name == name and k.state(now) == "active" for k in keys):
                raise UsageError(
                    f"there is an active key named {name} already.",
                    fix=f"Take another name, or: steelyard keys rotate {name}",
                )
            return [*keys, key]

        self._change(add)
        return key, text

    def rotate(self, name: str, *, grace: timedelta) -> tuple[Key, str]:
        """Make a new key with the rights of an active one, which ends after `grace`.

        Raises NotFoundError where no active key has that name or id.
        """
        now = datetime.now(UTC)
        made: list[tuple[Key, str]] = []

        def turn(keys: list[Key]) -> list[Key]:
            old = self._active(keys, name, now)
            newest = old[-1]
            made[:] = [_made(newest.name, newest.scopes, newest.models, now, newest.expires)]
            end = _text(_later(now, grace))
            ended = [
                replace(k, expires=min(k.expires or end, end)) if k in old else k for k in keys
            ]
            return [*ended, made[0][0]]

        self._change(turn)
        return made[0]

    def revoke(self, name: str) -> list[Key]:
        """End every active key with a name, or the one with an id, at once; return them.

        Raises NotFoundError where there is none.
        """
        now = datetime.now(UTC)
        revoked: list[Key] = []

        def end(keys: list[Key]) -> list[Key]:
            found = self._active(keys, name, now)
            revoked[:] = [replace(key, revoked=_text(now)) for key in found]
            ended = {key.id: key for key in revoked}
            return [ended.get(key.id, key) for key in keys]

        self._change(end)
        return revoked

    def _active(self, keys: Sequence[Key], name: str, now: datetime) -> list[Key]:
        found = [k for k in keys if name in (k.name, k.id) and k.state(now) == "active"]
        if not found:
            known = {k.name for k in keys if k.state(now) == "active"}
            raise NotFoundError(f"no active key is named {name[:60]}.", fix=nearest(name, known))
        return found

    def _change(self, change: Callable[[list[Key]], list[Key]]) -> None:
        try:
            with locked(self.path.with_suffix(".lock")):
                sweep_aside(self.path.parent)
                keys = change(self.read())
                data = msgspec.json.format(msgspec.json.encode(_File(_FORMAT, keys)), indent=1)
                atomic_write(self.path, data + b"\n", private=True)
        except OSError as error:
            raise StoreError(
                f"cannot write the keys to {self.path}: {error.strerror}.",
                fix="See that the disk has room and that the folder belongs to this user.",
            ) from None


def _made(
    name: str, scopes: tuple[str, ...], models: tuple[str, ...], now: datetime, expires: str | None
) -> tuple[Key, str]:
    key_id = secrets.token_hex(4)
    text = f"sy_{key_id}_{secrets.token_urlsafe(32)}"
    return Key(key_id, name, digest_of(text), scopes, models, _text(now), expires), text


def _later(now: datetime, by: timedelta) -> datetime:
    try:
        return now + by
    except OverflowError:
        raise UsageError(
            f"{by.days} days from now is beyond the calendar.", fix="Write, for example, 90d."
        ) from None


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without an offset: {text[:40]}")
    return moment
