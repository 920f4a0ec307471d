"""What makes a server safe, given by whoever starts it; without anything it is open, in the clear."""

import logging
import threading
import time
from typing import Any, Final, NamedTuple

from steelyard.errors import StoreError
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.audit import AuditLog
from steelyard.serve.secure.tls import Tls

__all__ = ["Address", "Security"]

_log = logging.getLogger(__name__)

_TURN_SECONDS: Final = 0.5
_NOTE_SECONDS: Final = 10.0


class Address(NamedTuple):
    """Where the admin routes are."""

    host: str
    port: int


class Security:
    """Who may ask, over which wire, where a server is administered, and what is kept of it.

    From `start` to `stop` a thread of its own takes over changed files and notes who was turned away:
    no request waits for that, and that waits for no store.
    """

    def __init__(
        self,
        access: Access | None = None,
        *,
        tls: Tls | None = None,
        admin: Address | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self.access = access or Access(None)
        self.tls = tls
        self.admin = admin
        self._audit = audit
        self._noted = time.monotonic()
        self._stopped = threading.Event()

    @property
    def tls_clients(self) -> bool:
        """Whether clients show certificates."""
        return self.tls is not None and self.tls.files.client_ca is not None

    def start(self) -> None:
        """Follow the files until stopped, from what they are now on."""
        self.follow()
        self._stopped.clear()
        threading.Thread(target=self._run, name="follow-security", daemon=True).start()

    def stop(self) -> None:
        """Stop following, and note what is still to be noted."""
        self._stopped.set()
        self.note_failures()

    def _run(self) -> None:
        while not self._stopped.wait(_TURN_SECONDS):
            self.follow()

    def follow(self) -> None:
        """Take over changed keys and certificates; note who was turned away, at times."""
        self.access.follow()
        if self.tls is not None:
            self.tls.follow()
        if time.monotonic() - self._noted >= _NOTE_SECONDS:
            self.note_failures()

    def note_failures(self) -> None:
        """Write down who was turned away since the last time: a line a kind, however often it was."""
        self._noted = time.monotonic()
        for failure, count in self.access.failures().items():
            self.record(
                "access_refused",
                reason=failure.reason,
                key=failure.key,
                client=failure.client,
                count=count,
            )

    def record(self, event: str, *, by: str = "server", **details: Any) -> None:
        """Write an event to the audit log; where that fails, the server's own log tells of both."""
        if self._audit is None:
            return
        try:
            self._audit.record(event, by=by, **details)
        except StoreError as error:
            _log.error("Not in the audit log: %s %s by %s. %s", event, details, by, error)
