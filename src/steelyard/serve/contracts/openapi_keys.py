"""What an OpenAPI document says of keys, where a server asks for them."""

import re
from collections.abc import Callable
from typing import Any, Final

from steelyard.serve.contracts.schemas import described, ref

__all__ = ["describe_keys"]

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "password": {"type": "http", "scheme": "basic", "description": "The key as the password."},
}
_HOLE: Final = re.compile(r"\{\w+\}")
_REFUSALS: Final = {"401": "A valid key is needed.", "403": "The key does not reach as far."}


def describe_keys(document: dict[str, Any], is_open: Callable[[str, str], bool]) -> None:
    """Add how a key is sent, and what is said without one, to all that is not open to everybody.

    `is_open` is asked with a method and a path.
    """
    document["components"]["securitySchemes"] = dict(_SCHEMES)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if is_open(method.upper(), _HOLE.sub("1", path)):
                continue
            operation["security"] = [{name: []} for name in _SCHEMES]
            told = {status: described(ref("Error"), text) for status, text in _REFUSALS.items()}
            operation["responses"] = operation["responses"] | told
