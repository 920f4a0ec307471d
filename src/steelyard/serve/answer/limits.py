"""What a server takes at once."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a body, rows a request, requests of several rows, single rows that wait, and how long.

    `timeout_ms` is how long a single row may take where its request says nothing; 0 is for ever.
    Requests of several rows have as long as they say themselves. `request_seconds` is the time in
    which a request's head has to come, and each further part of its body.
    """

    body_bytes: int = 8 * 1024 * 1024
    rows: int = 10_000
    row_requests: int = 16
    waiting_rows: int = 1_024
    timeout_ms: int = 1_000
    request_seconds: float = 10.0
