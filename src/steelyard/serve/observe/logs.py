"""What a server says while it runs: one line an event, as text or as JSON.

Any module logs in the ordinary way; `extra={"event": "swap", ...}` names the event and its fields.
No line holds a header, a query or a body: whatever is secret in a request stays out.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TextIO

import msgspec

__all__ = ["Form", "by_terminal", "describe", "line", "set_up"]

Form = Literal["text", "json"]

# A pipe takes lines of up to 4096 bytes whole, also from several workers.
_SHOWN: Final = 1_000
_TRACEBACK: Final = 2_500
_ALIKE: Final = 5
_KINDS: Final = 1_000
_SECONDS: Final = 10.0
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event"}
_CONTROL: Final = {i: f"\\x{i:02x}" for i in (*range(32), 127) if i not in (9, 10)} | {10: "\\n"}

_described: Callable[[], Mapping[str, Any]] = dict


def set_up(form: Form, stream: TextIO | None = None) -> None:
    """Send what this process logs from now on to `stream`, standard error if None, in a form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(_Sparse())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("steelyard").setLevel(logging.INFO)


def describe(fields: Callable[[], Mapping[str, Any]]) -> None:
    """Let every line of this process bear some fields: model, version, worker, trace."""
    global _described  # noqa: PLW0603  # a process has one log, as it has one root logger
    _described = fields


def line(event: str, message: str, **fields: Any) -> str:
    """Return one event as a line of JSON, for what is not logged but printed.

    >>> line("ready", "churn answers", version=3)[-54:]
    '"event":"ready","message":"churn answers","version":3}'
    """
    record = logging.makeLogRecord(
        {"levelname": "INFO", "msg": message, "event": event, "created": time.time(), **fields}
    )
    return _Json().format(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        document = {
            "time": _time(record.created),
            "level": level,
            "event": getattr(record, "event", level),
            "message": record.getMessage()[:_SHOWN],
            **_described(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            document["error"] = type(error).__name__
            document["traceback"] = "".join(traceback.format_exception(error))[-_TRACEBACK:]
        return msgspec.json.encode(document, enc_hook=str).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        # What a client sent may be in a message; it must not forge a line of its own.
        message = record.getMessage()[:_SHOWN].translate(_CONTROL)
        again = f" ({record.more} more like it)" if hasattr(record, "more") else ""
        text = f"{clock} {record.levelname.lower():7} {message}{again}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return text


class _Sparse(logging.Filter):
    """Lets few lines that are alike through: a broken model must not fill the disk with its errors.

    The next one that is let through says how many were not: `more`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        alike = (record.name, str(record.msg))
        begun, count = self._seen.get(alike, (-_SECONDS, 0))
        now = time.monotonic()
        if now - begun < _SECONDS:
            self._seen[alike] = begun, count + 1
            return count < _ALIKE
        if count > _ALIKE:
            record.more = count - _ALIKE
        if len(self._seen) >= _KINDS:  # texts that are put together before they are logged
            self._seen.clear()
        self._seen[alike] = now, 1
        return True


def _time(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1_000):03d}Z"


def by_terminal() -> Form:
    """Return the form for who reads: text where it is a person at a terminal."""
    return "text" if sys.stderr.isatty() else "json"
