"""A request as bytes on the wire: what is mutated, and how it is written."""

from dataclasses import dataclass, field, replace
from typing import Final

__all__ = ["Headers", "Request"]

Headers = list[tuple[bytes, bytes]]

_BODYLESS: Final = (b"GET", b"HEAD")


@dataclass(slots=True)
class Request:
    """A request of HTTP/1.1; `written` replaces the body and the headers that say how long it is."""

    method: bytes
    target: bytes
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    framing: Headers | None = None
    written: bytes | None = None

    def copy(self) -> "Request":
        """Return a request that may be changed."""
        return replace(self, headers=list(self.headers))

    def header(self, name: bytes) -> bytes:
        """Return the value of a header, or nothing."""
        return next((value for found, value in self.headers if found.lower() == name), b"")

    def render(self) -> bytes:
        r"""Return the bytes.

        >>> Request(b"POST", b"/x", [(b"a", b"b")], b"{}").render()
        b'POST /x HTTP/1.1\r\nhost: here\r\na: b\r\ncontent-length: 2\r\n\r\n{}'
        """
        framing = self.framing
        if framing is None:
            none = not self.body and self.method in _BODYLESS
            framing = [] if none else [(b"content-length", b"%d" % len(self.body))]
        lines = [b"%b %b %b" % (self.method, self.target, self.version), b"host: here"]
        lines += [b"%b: %b" % header for header in (*self.headers, *framing)]
        body = self.body if self.written is None else self.written
        return b"\r\n".join([*lines, b"", body])
