"""How a table is parted into rows to learn from and rows held out."""

import re
from dataclasses import dataclass
from datetime import timedelta

from steelyard.errors import DefinitionError

__all__ = ["ColumnSplit", "GroupSplit", "Split", "Stratified", "TimeSplit", "duration"]

_DURATION = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Read a length of time such as 50s, 30m, 12h, 30d, 4w.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise DefinitionError(
            f"a length of time is a number and one of s, m, h, d, w; got {text!r}.",
            fix="Write, for example, 30d.",
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _check_fraction(test: float) -> None:
    if not 0 < test < 1:
        raise DefinitionError(
            f"the held-out part must be a fraction between 0 and 1; got {test!r}.",
            field="test",
            fix="Write, for example, test=0.2.",
        )


@dataclass(frozen=True, slots=True)
class Stratified:
    """Hold out a random fraction with the label's distribution kept (for numbers: by quantile)."""

    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        _check_fraction(self.test)


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Train on what came earlier, hold out the latest rows.

    Exactly one of: `test`, the length of the held-out period before the last row ("30d"), and
    `start`, the first held-out moment in ISO form ("2013-10-01"). Rows with equal time stay together.
    """

    time: str
    test: str | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        if (self.test is None) == (self.start is None):
            raise DefinitionError(
                "a TimeSplit takes exactly one of test and start.",
                field="split",
                fix='Write TimeSplit(time="at", test="30d") or start="2013-10-01".',
            )
        if self.test is not None:
            duration(self.test)


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Hold out whole groups (customers, sites, patients), about `test` of them, by a fixed hash."""

    group: str
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        _check_fraction(self.test)


@dataclass(frozen=True, slots=True)
class ColumnSplit:
    """Hold out the rows in which `column` equals `test`; all others are learned from."""

    column: str
    test: str | int | bool = "test"


Split = Stratified | TimeSplit | GroupSplit | ColumnSplit
