"""What browsers send for the pages of any site, and so what nobody here may have meant to ask."""

from collections.abc import Iterable
from typing import Final

__all__ = ["ORIGIN", "is_unasked"]

ORIGIN: Final = b"origin"
"""With it browsers say that a page had them send a request, and of which site."""


def is_unasked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a browser may have sent a POST for any page, without asking here first.

    It asks first, and gets no leave, unless the body has no type, or a type that nothing here reads.

    >>> is_unasked([(b"origin", b"https://evil.example")])
    True
    >>> is_unasked([(b"origin", b"https://any.example"), (b"content-type", b"application/json")])
    False
    """
    names = {name for name, _ in headers}
    return ORIGIN in names and b"content-type" not in names
