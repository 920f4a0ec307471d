"""Keys of a store: relative POSIX paths that are safe in a folder, a URL and an object store."""

import re

from steelyard.errors import UsageError

__all__ = ["check_key", "is_key"]

# A leading dot is left to the store itself: files that are written aside, markers.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]{0,199}")
_LONGEST = 800


def is_key(text: str) -> bool:
    """Say whether a text stays inside its store on every engine.

    >>> is_key("bundles/ab12/model.onnx"), is_key("bundles/../x")
    (True, False)
    """
    return len(text) <= _LONGEST and all(_SEGMENT.fullmatch(part) for part in text.split("/"))


def check_key(key: str) -> str:
    """Return `key` where it stays inside its store on every engine; else raise UsageError.

    >>> check_key("ledger/churn/0000000001.json")
    'ledger/churn/0000000001.json'
    """
    if is_key(key):
        return key
    raise UsageError(
        "a key is parts of 1 to 200 letters, digits and ._@+=- joined by '/', none empty or "
        f"starting with '.', {_LONGEST} characters in all; got {key[:200]!r}.",
        fix="Write it like: bundles/ab12.",
    )
