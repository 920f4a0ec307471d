"""What a process takes: its memory and its open files, with those of its children (Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression
from typing import Final

__all__ = ["Use", "slope_of", "use_of"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Use:
    """Resident bytes and open files of a process at a time, after so many requests."""

    seconds: float
    requests: int
    resident: int
    files: int


def use_of(process: int, seconds: float, requests: int) -> Use:
    """Return what a process takes now. Raises OSError where it is no more."""
    resident = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return Use(seconds, requests, resident, files)


def slope_of(uses: list[Use]) -> float:
    """Return by how many bytes the memory grows a request, in the second half of the time.

    >>> slope_of([Use(i, i * 10, 1000 + i * 20, 5) for i in range(10)])
    2.0
    """
    settled = uses[len(uses) // 2 :]
    requests = [use.requests for use in settled]
    if len(settled) < _FEWEST or len(set(requests)) < _FEWEST:
        return 0.0
    return linear_regression(requests, [use.resident for use in settled]).slope
