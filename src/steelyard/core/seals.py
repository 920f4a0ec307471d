"""Sealed records: JSON whose last member is the hash of all bytes before it."""

import json
from collections.abc import Mapping
from typing import Any

from steelyard.core.hashing import canonical_json, hash_bytes

__all__ = ["seal", "unseal"]

_SEAL = b',"hash":"'
_TAIL = len(_SEAL) + 64 + len(b'"}')


def seal(members: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of members, of which there is one at least, and its hash."""
    body = canonical_json(members)
    return body[:-1] + _SEAL + hash_bytes(body).encode() + b'"}'


def unseal(data: bytes) -> tuple[dict[str, Any], str]:
    """Return the members of a sealed record and its hash.

    Raises ValueError where a byte was changed.

    >>> unseal(seal({"a": 1}))[0]
    {'a': 1}
    """
    body, tail = data[:-_TAIL] + b"}", data[-_TAIL:]
    digest = hash_bytes(body)
    if tail != _SEAL + digest.encode() + b'"}':
        raise ValueError("the seal does not fit")
    members: dict[str, Any] = json.loads(body)
    return members, digest
