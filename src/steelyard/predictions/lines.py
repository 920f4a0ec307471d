"""The log as lines on standard output, where the platform keeps what a process says."""

import os
from collections.abc import Sequence

from steelyard.errors import LogFullError

__all__ = ["LineLog"]


class LineLog:
    """Writes each record as a line of JSON to a file descriptor; whoever reads it keeps it.

    An answer leaves after its line was written, as with a log of segments. What becomes of the line
    then is the platform's affair: nothing is fsynced, and lines have no checksums.
    """

    dropped = 0
    sync_errors = 0

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd

    def append(self, payload: bytes) -> None:
        """Write one record; raises LogFullError where nobody takes it."""
        self.append_many([payload])

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Write several records; raises LogFullError where nobody takes them."""
        rest = memoryview(b"".join(b"%b\n" % payload for payload in payloads))
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise LogFullError(f"nobody takes the prediction log: {error.strerror}") from None

    def close(self) -> None:
        """Do nothing: what was written is with its reader."""
