"""The ports: what Steelyard asks of an engine, at most five methods each.

Each has an embedded implementation; adapters bear the port's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from steelyard.core.records import Verdict, Version

__all__ = ["LogWriter", "RunRecord", "Store", "Tracker"]


class Store(Protocol):
    """Named bytes that appear whole. Keys are relative POSIX paths."""

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; of two writers exactly one gets True."""

    def read(self, key: str) -> bytes:
        """Return the bytes; NotFoundError where there are none."""

    def list(self, prefix: str) -> Sequence[str]:
        """Return the keys one level below a prefix ("" for the top), sorted."""

    def put_folder(self, key: str, folder: Path) -> None:
        """Keep a folder of files whole under a content-addressed key; a second time is no copy."""

    def folder(self, key: str) -> Path:
        """Return a local folder that holds what `put_folder` kept; NotFoundError where absent."""


class LogWriter(Protocol):
    """Where answered predictions are written before the answer leaves."""

    def append(self, payload: bytes) -> None:
        """Write one record; returns once the operating system holds it."""

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Write several records in one call."""

    def close(self) -> None:
        """Make everything durable and stop."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a training run leaves in experiment tracking."""

    model: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    verdict: Verdict
    bundle: Path
    plots: Mapping[str, bytes] = field(default_factory=dict)
    documents: Mapping[str, bytes] = field(default_factory=dict)


class Tracker(Protocol):
    """Experiment tracking and its model registry: a mirror of the ledger, never its judge."""

    def record_run(self, run: RunRecord) -> str:
        """Record a run with its model; return the tracker's id of it."""

    def record_version(self, run: str, version: Version) -> None:
        """Mirror a registered version of the model that a run produced."""

    def set_alias(self, version: Version, alias: str) -> None:
        """Mirror an alias move."""

    def aliases(self, model: str) -> Mapping[str, int]:
        """Return alias -> Steelyard version number as the tracker believes it to be."""
