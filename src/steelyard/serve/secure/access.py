"""Whether a request may be answered: its key, looked up and compared without telling the time.

On the way of a request nothing is read or hashed: a header that was verified once is known until the
key file changes. Its place in a dictionary is found by a hash that is secret to the process, so that
the time of a look-up tells a guesser nothing; a header that is not known is verified by the hash of
its key in constant time. Revoked keys end within about a second.
"""

import base64
import binascii
import hmac
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from steelyard.errors import SteelyardError
from steelyard.serve.secure.keys import Key, KeyFile, digest_of, id_of

__all__ = [
    "KEY_HEADERS",
    "Access",
    "Failure",
    "ForbiddenError",
    "UnauthenticatedError",
    "scope_of",
]

_log = logging.getLogger(__name__)

Pairs = Iterable[tuple[bytes, bytes]]

KEY_HEADERS: Final = frozenset([b"authorization", b"x-api-key"])
"""Where a key may be; a request has one of them, once."""
_OPEN: Final = frozenset(
    ["/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"]
)
_OPEN_OF_MODELS: Final = re.compile(
    r"/v2/models/[^/]+(/versions/[^/]+)?/ready"
    r"|/v1/models/[^/:]+"
    r"|/v1/endpoints/[^/]+/deployedModels/[0-9]+"
)
"""Whether a model is ready: v2, KServe v1, Vertex where it chose no path."""
_CHECK_SECONDS: Final = 1.0
_NOTED: Final = 20
"""Kinds of failure that are counted apart until they are written down."""
_FOREVER: Final = float("inf")
_MOST_VERIFIED: Final = 1024
"""Headers that are remembered: a key is good behind any name of Basic, which whoever sends it chooses."""
_NO_DIGEST: Final = "0" * 64
_BEARER: Final = b"bearer "
_BASIC: Final = b"basic "


class UnauthenticatedError(SteelyardError):
    """A request without a key, or with one that does not count."""


class ForbiddenError(SteelyardError):
    """A request whose key does not reach as far."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was refused: why, with which key (by its id), from where."""

    reason: str
    key: str
    client: str


@dataclass(frozen=True, slots=True)
class _Grant:
    """What an active key allows, and until when."""

    key: Key
    until: float
    scopes: frozenset[str]
    models: frozenset[str]

    def reaches(self, scope: str, model: str) -> bool:
        return scope in self.scopes and (not self.models or model in self.models)


class _Known:
    """The keys of one reading of their file, and the headers that were verified by them."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self.keys = keys
        self.verified: dict[bytes, _Grant] = {}


def scope_of(path: str) -> str:
    """Return the scope that a path needs."""
    return "metrics" if path == "/metrics" else "predict"


class Access:
    """Decides by the keys of a file, which it follows; without one it is open. Threads may share one.

    `on` says whether a key is asked for: where it is required, or once there has been a key. It does
    not go off again while the process lives, whatever becomes of the file. `health` names further
    paths that tell no more than health, and are open to all.
    """

    def __init__(
        self, file: KeyFile | None, *, required: bool = False, health: Iterable[str] = ()
    ) -> None:
        self._file = file
        self._open = _OPEN | set(health)
        self.on = required
        self._seen: object = None
        self._looked = 0.0
        self._known = _Known({})
        self._failures: Counter[Failure] = Counter()
        self._lock = threading.Lock()

    def is_open(self, method: str, path: str) -> bool:
        """Say whether a path is answered to anybody: health, which balancers ask for without a key.

        >>> access = Access(None)
        >>> access.is_open("GET", "/health/ready"), access.is_open("GET", "/health/../metrics")
        (True, False)
        """
        if method not in ("GET", "HEAD"):
            return False
        return path in self._open or _OPEN_OF_MODELS.fullmatch(path) is not None

    def load(self) -> None:
        """Read the keys. Raises what `KeyFile.read` does."""
        if self._file is None:
            return
        mark, keys = self._mark(), self._file.read()
        self._seen = mark
        # Replaced at once, so that what a request verifies meanwhile stays with the old keys.
        self._known = _Known({key.id: key for key in keys})
        self.on = self.on or bool(keys)

    def follow(self) -> None:
        """Read the keys again where their file has changed; looks at most once a second.

        Where it cannot be read the keys that are known stay; without any nobody gets in.
        """
        now = time.monotonic()
        if now - self._looked < _CHECK_SECONDS:
            return
        self._looked = now
        mark = self._mark()
        if mark == self._seen:
            return
        try:
            self.load()
        except SteelyardError as error:
            self._seen, self.on = mark, True
            _log.error("The API keys that are known stay: %s", error)

    def admits(self, value: bytes, scope: str, model: str) -> bool:
        """Say, quickly, whether a request may be answered whose one key header was seen before."""
        grant = self._known.verified.get(value)
        return (
            grant is not None
            and grant.until > time.time()
            and scope in grant.scopes
            and (not grant.models or model in grant.models)
        )

    def authorise(self, headers: Pairs, scope: str, model: str, client: str = "") -> str:
        """Return the id of the key that lets a request pass; header names are in lower case.

        Raises UnauthenticatedError, ForbiddenError. With nothing asked for the id is "".
        """
        return self.demand(headers, scope, model, client) if self.on else ""

    def demand(self, headers: Pairs, scope: str, model: str, client: str = "") -> str:
        """As `authorise`, whether a key is asked for in general or not."""
        values = [value for name, value in headers if name in KEY_HEADERS]
        grant = self._known.verified.get(values[0]) if len(values) == 1 else None
        if grant is None or grant.until <= time.time():
            grant = self._verify(values, client)
        if grant.reaches(scope, model):
            return grant.key.id
        self._note(Failure(f"no {scope} for {model}", grant.key.id, client))
        raise ForbiddenError(
            f"the key {grant.key.name} does not reach {scope} of {model}.",
            fix=f"steelyard keys create NAME --scope {scope} --model {model}",
        )

    def tells(self, headers: Pairs, model: str) -> bool:
        """Say whether an answer that is open to all may say more: to whoever could ask for predictions.

        A request without a key is no failure here: balancers have none.
        """
        given = [header for header in headers if header[0] in KEY_HEADERS]
        if not (self.on and given):
            return not self.on
        try:
            self.demand(given, "predict", model)
        except (UnauthenticatedError, ForbiddenError):
            return False
        return True

    def failures(self) -> dict[Failure, int]:
        """Return how often requests were refused since this was last asked, and why."""
        with self._lock:
            found, self._failures = self._failures, Counter()
        return dict(found)

    def _verify(self, values: list[bytes], client: str) -> _Grant:
        """Return what the one key of a request allows, and know its header from now on."""
        known = self._known
        if not values:
            raise self._refused("no key", "", client)
        text = _key_text(values[0]) if len(values) == 1 else ""
        key_id = id_of(text)
        key = known.keys.get(key_id or "")
        # Compared also where there is no such key, so that both take the same time.
        good = hmac.compare_digest(digest_of(text), key.digest if key else _NO_DIGEST)
        if not good or key is None:
            raise self._refused("wrong key" if key_id else "no valid key", key_id or "", client)
        grant = _Grant(key, _until(key), frozenset(key.scopes), frozenset(key.models))
        if key.revoked:
            raise self._refused("revoked key", key.id, client)
        if grant.until <= time.time():
            raise self._refused("expired key", key.id, client)
        if len(known.verified) >= _MOST_VERIFIED:
            known.verified.clear()
        known.verified[values[0]] = grant
        return grant

    def _refused(self, reason: str, key: str, client: str) -> UnauthenticatedError:
        self._note(Failure(reason, key, client))
        told = {"revoked key": "the key was revoked", "expired key": "the key has expired"}
        return UnauthenticatedError(
            f"{told.get(reason, 'a valid key is needed')}.",
            fix="Send one as Authorization: Bearer KEY, or as X-API-Key: KEY.",
        )

    def _note(self, failure: Failure) -> None:
        with self._lock:
            if len(self._failures) >= _NOTED and failure not in self._failures:
                failure = Failure("many others", "", "")
            self._failures[failure] += 1

    def _mark(self) -> object:
        """Return what changes whenever the file is replaced or written to."""
        if self._file is None:
            return None
        try:
            found = self._file.path.stat()
        except OSError:
            return ""
        return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _key_text(value: bytes) -> str:
    """Return the key in the value of a header: alone, after Bearer, or Basic's password."""
    text = value.strip()
    if text[: len(_BEARER)].lower() == _BEARER:
        text = text[len(_BEARER) :].strip()
    elif text[: len(_BASIC)].lower() == _BASIC:
        try:
            pair = base64.b64decode(text[len(_BASIC) :].strip(), validate=True)
        except (binascii.Error, ValueError):
            return ""
        text = pair.partition(b":")[2]
    return text.decode("latin-1")


def _until(key: Key) -> float:
    return datetime.fromisoformat(key.expires).timestamp() if key.expires else _FOREVER
