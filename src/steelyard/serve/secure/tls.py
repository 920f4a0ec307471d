"""TLS: at least 1.2, client certificates where an authority is named, renewed files taken over."""

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steelyard.errors import UsageError

__all__ = ["Tls", "TlsFiles"]

_log = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: a certificate with its chain, its key (not encrypted), and who signs clients'.

    With `client_ca` a connection needs a certificate that this authority signed.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a server's context. Raises UsageError where a file cannot be used."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        made.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password of its own OpenSSL would ask at the terminal.
            made.load_cert_chain(self.cert, self.key, password="")
            if self.client_ca is not None:
                made.verify_mode = ssl.CERT_REQUIRED
                made.load_verify_locations(self.client_ca)
        except (OSError, ValueError) as error:
            files = [self.cert, self.key, *([self.client_ca] if self.client_ca else [])]
            missing = [str(path) for path in files if not path.is_file()]
            reason = f"there is no {missing[0]}" if missing else _reason(error)
            raise UsageError(
                f"TLS cannot be set up from {', '.join(map(str, files))}: {reason}.",
                fix="Give PEM files: a certificate with its chain, and its key without a password.",
            ) from None
        return made

    def mark(self) -> object:
        """Return what changes when a file is replaced or written to; "" where one is missing."""
        paths = [self.cert, self.key, *([self.client_ca] if self.client_ca else [])]
        try:
            return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in (path.stat() for path in paths)]
        except OSError:
            return ""


class Tls:
    """What a server listens with. Connections that are open keep what they began with."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._mark = files.mark()
        self._current = files.context()
        self._looked = time.monotonic()
        self.context = files.context()
        """Gives each new connection the newest files."""
        self.context.sni_callback = self._choose

    def follow(self) -> None:
        """Take over renewed files; looks at most once a second, and keeps the old where they fail."""
        now = time.monotonic()
        if now - self._looked < _CHECK_SECONDS:
            return
        self._looked = now
        mark = self.files.mark()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._current = self.files.context()
        except UsageError as error:
            # Certificate and key are two files: the second may be on its way.
            _log.error("The old certificate stays: %s", error.message)
            return
        _log.info("A renewed certificate is in use.")

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._current


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return "one of them is no such PEM file, or is encrypted"
