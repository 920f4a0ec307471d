"""A process that writes to a ledger: writer.py STORE OPERATIONS.json KILL_AT

Says "ready", waits for a line on stdin, does the operations and tells each result as it is
acknowledged. It kills itself, with SIGKILL, before the KILL_AT-th line that it would run of the
registry or of the file floor; with 0 it tells at the end how many lines those were; with -1 it does not count them.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from steelyard.core.records import Verdict
from steelyard.core.reference import Reference
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore


def _watch(kill_at: int, lines: Iterator[int]) -> None:
    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and next(lines) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        return line if "steelyard/registry" in name or name.endswith("core/files.py") else None

    sys.settrace(call)


def _do(ledger: Ledger, operation: dict[str, Any]) -> dict[str, Any]:
    if operation["do"] == "register":
        version = ledger.register(
            operation["model"],
            bundle=Path(operation["bundle"]),
            bundle_hash=operation["bundle_hash"],
            provenance=operation["provenance"],
            verdict=Verdict.of(operation["verdict"]),
            documents={n: text.encode() for n, text in operation["documents"].items()},
            by="writer",
        )
        return {"number": version.number}
    if operation["do"] == "promote":
        reference = Reference.parse(operation["ref"])
        move = ledger.promote(reference, reason=operation["reason"], by="writer")
    else:
        move = ledger.rollback(operation["model"], reason=operation["reason"], by="writer")
    return {"moved": move.moved, "from": move.before, "to": move.to, "reason": move.reason}


def _tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    root, script, kill_at = sys.argv[1:]
    operations = json.loads(Path(script).read_text())
    ledger = Ledger(FolderStore(Path(root)))
    lines = itertools.count(1)
    _tell("ready")
    sys.stdin.readline()
    if kill_at != "-1":
        _watch(int(kill_at), lines)
    for operation in operations:
        _tell(_do(ledger, operation))
    sys.settrace(None)
    _tell({"lines": next(lines) - 1})


if __name__ == "__main__":
    main()
