"""Every error that Steelyard raises on purpose.

SteelyardError
├── UsageError             what the user gave is wrong; exit code 2
│   ├── DefinitionError    a definition file has a mistake: file, line, field
│   ├── DataError          a table cannot be read, or too much of it is bad
│   ├── InputError         a row breaks its schema: every bad field is listed
│   ├── CompileError       an estimator or feature has no faithful compiled form
│   ├── NotFoundError      no such model, version, alias or file
│   └── AccessError        a server asks for a key, or for one that may do more
├── RefusedError           a verdict, check or comparison says no; exit code 1
│   └── SignatureError     a bundle is not signed by a key that counts
├── UnavailableError       a server cannot be reached, or has no answer in time; exit code 1
└── StoreError             a store is damaged or cannot take what it was given
    ├── IntegrityError     bytes do not match their recorded hash
    ├── ConflictError      somebody else wrote first
    └── LogFullError       the prediction log cannot take another record
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

__all__ = [
    "AccessError",
    "CompileError",
    "ConflictError",
    "DataError",
    "DefinitionError",
    "InputError",
    "IntegrityError",
    "LogFullError",
    "NotFoundError",
    "RefusedError",
    "SignatureError",
    "SteelyardError",
    "StoreError",
    "UnavailableError",
    "UsageError",
    "nearest",
]

_LONGEST = 2000


class SteelyardError(Exception):
    """A message that says what was expected and what came, and `fix`, the next step."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        if len(message) > _LONGEST:
            message = message[: _LONGEST - 1] + "…"
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}" if self.fix else self.message


class UsageError(SteelyardError):
    """What the user gave cannot be used as it is."""


class DefinitionError(UsageError):
    """A definition has a mistake; names the file, the line and the field where known."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        file: Path | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.field = field
        self.file = file
        self.line = line

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else ""
        if self.file and not self.line:
            place = f"{self.file}: "
        field = f"{self.field}: " if self.field else ""
        return place + field + super().__str__()


class DataError(UsageError):
    """A table cannot be read, or too many of its rows are bad."""


class InputError(UsageError):
    """A row breaks its schema; `errors` lists every bad field as `{field, message, got}`."""

    def __init__(self, errors: Iterable[Mapping[str, Any]], *, fix: str | None = None) -> None:
        self.errors = [dict(error) for error in errors]
        lines = [f"{e['field']}: {e['message']}, got {e.get('got')!r}" for e in self.errors]
        super().__init__("; ".join(lines), fix=fix)


class CompileError(UsageError):
    """An estimator, a transformer or a feature has no faithful compiled form."""


class NotFoundError(UsageError):
    """A named model, version, alias or file does not exist."""


class AccessError(UsageError):
    """A server asks for an API key, or for one that may do more."""


class RefusedError(SteelyardError):
    """A verdict, a check or a comparison says no."""

    exit_code: ClassVar[int] = 1


class UnavailableError(SteelyardError):
    """A server cannot be reached, or has no answer in time.

    `status` is its last one, if any; `retry_after` the seconds after which to ask again, None where
    that is of no use.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        fix: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.retry_after = retry_after


class SignatureError(RefusedError):
    """A bundle is not signed by a key that counts, and one is asked for."""


class StoreError(SteelyardError):
    """A store is damaged or cannot take what it was given."""

    exit_code: ClassVar[int] = 1


class IntegrityError(StoreError):
    """Bytes do not match the hash that was recorded for them."""


class ConflictError(StoreError):
    """Somebody else wrote first, and the write cannot be ordered after theirs."""


class LogFullError(StoreError):
    """The prediction log cannot take another record."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a closing sentence that offers the nearest of `choices`, or all of a few.

    >>> nearest("chrun", ["churn", "flights"])
    'Did you mean churn?'
    >>> nearest("x", ["churn", "flights"])
    'There is: churn, flights.'
    """
    known = sorted(choices)
    close = get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    if not known:
        return "There is none yet."
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f"There is: {', '.join(known[:12])}{more}."
