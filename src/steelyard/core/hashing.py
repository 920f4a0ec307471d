"""Content addresses: one canonical form of JSON and one hash for everything that has an id."""

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "file_hash", "hash_bytes", "hash_json"]


def canonical_json(document: Any) -> bytes:
    """Return the one byte form of a JSON document: sorted keys, no spaces, UTF-8.

    Raises ValueError for NaN and infinities, which JSON does not have.

    >>> canonical_json({"b": 1, "a": [True, None, 0.1]})
    b'{"a":[true,null,0.1],"b":1}'
    """
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def hash_bytes(data: bytes) -> str:
    """Return the sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_json(document: Any) -> str:
    """Return the sha256 of a document's canonical form.

    >>> hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    True
    """
    return hash_bytes(canonical_json(document))


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
