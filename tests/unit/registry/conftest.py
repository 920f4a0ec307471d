"""Candidates for registration: sealed bundles with provenance and verdicts, made by real parts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steelyard.bundle.format import seal
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict, Version
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore

WRITER = Path(__file__).with_name("writer.py")
OUTCOMES: dict[str, tuple[Check, ...]] = {
    "passed": (Check("quality", "roc_auc", True, 0.9, 0.8), Check("latency", "p99", True, 1.5, 10)),
    "failed": (Check("quality", "roc_auc", False, 0.7, 0.8), Check("latency", "p99", True, 2, 10)),
    "waived": (
        Check(
            "latency",
            "p99",
            False,
            25.0,
            10,
            waived={"reason": "nightly batch only", "by": "ann", "at": "2026-01-01T00:00:00Z"},
        ),
    ),
    "empty": (),
}


@dataclass(frozen=True)
class Candidate:
    """What is given to `Ledger.register`."""

    folder: Path
    bundle: str
    provenance: dict[str, Any]
    verdict: Verdict
    documents: dict[str, bytes] = field(default_factory=dict)

    def register(self, ledger: Ledger, model: str = "churn", by: str = "ann") -> Version:
        return ledger.register(
            model,
            bundle=self.folder,
            bundle_hash=self.bundle,
            provenance=self.provenance,
            verdict=self.verdict,
            documents=self.documents,
            by=by,
        )

    def operation(self, model: str = "churn") -> dict[str, Any]:
        """Return the registration as `writer.py` reads it."""
        return {
            "do": "register",
            "model": model,
            "bundle": str(self.folder),
            "bundle_hash": self.bundle,
            "provenance": self.provenance,
            "verdict": self.verdict.document(),
            "documents": {name: data.decode() for name, data in self.documents.items()},
        }


@pytest.fixture(scope="session")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Candidate]:
    """Return a maker: `candidate(content, made=n, outcome="passed", measured=1.0)`."""
    parent = tmp_path_factory.mktemp("sealed")

    def make(
        content: int = 1, *, made: int = 1, outcome: str = "passed", measured: float | None = None
    ) -> Candidate:
        files = {
            "model.onnx": b"graph %d " % content * 400,
            "schema.json": b'{"type":"object"}',
            "golden.jsonl": b"{}\n",
        }
        digest, folder = seal(files, parent)
        provenance = {"snapshot": f"s{made}", "seed": 0, "rows": {"train": 80, "test": 20}}
        checks = OUTCOMES[outcome]
        if measured is not None:
            checks = (*checks, Check("latency", "p50", True, measured, 10))
        verdict = Verdict(digest, hash_json(provenance), checks)
        documents = {
            "definition/churn.py": b"churn = %d\n" % made,
            "card.md": f"# churn\n{outcome} {measured}\n".encode(),
        }
        return Candidate(folder, digest, provenance, verdict, documents)

    return make


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def ledger(store: FolderStore) -> Ledger:
    return Ledger(store)


@pytest.fixture
def start_writer(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a starter of real writer processes, which wait for a line on stdin."""
    count = iter(range(10_000))

    def start(
        root: Path, operations: list[dict[str, Any]], kill_at: int = 0
    ) -> "subprocess.Popen[str]":
        script = tmp_path / f"operations-{next(count)}.json"
        script.write_text(json.dumps(operations))
        return subprocess.Popen(
            [sys.executable, str(WRITER), str(root), str(script), str(kill_at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # The same lines run in every process, so that a line's number is a place.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    return start
