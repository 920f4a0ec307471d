"""Servers under measurement, as processes of their own."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_END_SECONDS = 30


@contextmanager
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process; end it, and what is left of those that it started."""
    started = subprocess.Popen(command, text=True, **options)
    try:
        yield started
    finally:
        pids = tree(started.pid)
        _send(pids, signal.SIGCONT)
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        _send(pids[1:], signal.SIGKILL)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def tree(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def pause(self) -> None:
        """Stop the server where it is, so that it takes nothing from one that is measured."""
        _send(tree(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        _send(tree(self.pid), signal.SIGCONT)

    def busy_seconds(self) -> float:
        """Return the processor time that the server and its processes have spent so far."""
        ticks = 0
        for pid in tree(self.pid):
            with suppress(OSError):
                fields = _stat(pid)
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
