"""The graphics cards of this machine, by the driver's own tool; nothing where there is none."""

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Final

__all__ = ["Gpu", "Gpus"]

_FIELDS: Final = "index,name,memory.used,memory.total,utilization.gpu"
_OLD_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 10.0
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card: its memory in bytes, and the share of the last moment in which it worked.

    None where the card does not tell.
    """

    index: str
    name: str
    used: float | None
    total: float | None
    busy: float | None


class Gpus:
    """Readings that are some seconds old: the tool takes longer than a scrape may."""

    def __init__(self) -> None:
        self._command = shutil.which("nvidia-smi")
        self._read: tuple[Gpu, ...] = ()
        self._begun = -_OLD_SECONDS
        self._reading: threading.Thread | None = None

    def latest(self) -> tuple[Gpu, ...]:
        """Return the last reading at once, and begin another where it is old."""
        if self._command is None:
            return ()
        waited = time.monotonic() - self._begun
        if waited >= _OLD_SECONDS and not (self._reading and self._reading.is_alive()):
            self._begun = time.monotonic()
            self._reading = threading.Thread(target=self._run, name="read-gpus", daemon=True)
            self._reading.start()
        return self._read

    def _run(self) -> None:
        command = [self._command or "", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            self._read = ()  # a driver that went away leaves no old numbers behind
            return
        lines = [line.split(", ") for line in run.stdout.splitlines()]
        self._read = tuple(_gpu(*line) for line in lines if len(line) == _FIELDS.count(",") + 1)


def _gpu(index: str, name: str, used: str, total: str, busy: str) -> Gpu:
    memory = _number(used, _MEBIBYTE), _number(total, _MEBIBYTE)
    return Gpu(index, name, *memory, _number(busy, 0.01))


def _number(text: str, unit: float) -> float | None:
    try:
        return float(text) * unit
    except ValueError:
        return None  # "[N/A]", as a card says that is parted
