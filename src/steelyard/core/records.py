"""The frozen records that stages hand each other, each with a content id and its parents' ids."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from steelyard.core.hashing import hash_json

__all__ = ["Check", "Snapshot", "Verdict", "Version"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it was read: `id` hashes its logical values and schema, not a file's bytes."""

    id: str
    rows: int
    columns: Mapping[str, str]
    source: str
    path: Path


@dataclass(frozen=True, slots=True)
class Check:
    """One question that a gate asked, the value found, and the evidence.

    `waived` is None, or `{reason, by, at}`; a waived check counts as passed and shows as waived.
    `passed` is what was found, also where it is waived.
    """

    gate: str
    name: str
    passed: bool
    value: float | str | None = None
    threshold: float | str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    waived: Mapping[str, str] | None = None
    flagged: bool = False


@dataclass(frozen=True)
class Verdict:
    """All checks of all gates over one bundle, bound to it by its hash."""

    bundle: str
    provenance: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed or was waived."""
        return all(check.passed or check.waived for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values; `of` reads it back."""
        return {
            "bundle": self.bundle,
            "provenance": self.provenance,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Verdict":
        """Read a verdict from its document."""
        checks = tuple(Check(**check) for check in document["checks"])
        return cls(document["bundle"], document["provenance"], checks)

    @cached_property
    def hash(self) -> str:
        """The verdict's content id."""
        return hash_json(self.document())


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered version of a model: a bundle, its provenance and its verdict, by their hashes."""

    model: str
    number: int
    bundle: str
    provenance: str
    verdict: str
    passed: bool
    at: str
    by: str

    @property
    def reference(self) -> str:
        """The version as a person writes it."""
        return f"{self.model}@{self.number}"
