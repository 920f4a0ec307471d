"""What a definition asks of the gates, gathered and checked before anything is judged."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from steelyard.core.definition import Model
from steelyard.core.gates import (
    AtLeast,
    AtMost,
    Baseline,
    Champion,
    Latency,
    Leakage,
    Schema,
    SlicesAtLeast,
    SlicesAtMost,
    Waiver,
)
from steelyard.errors import DefinitionError, nearest
from steelyard.features.parts import Task
from steelyard.validate.metrics import require_metric

__all__ = ["Settings", "check_settings"]

T = TypeVar("T")


def _last(given: tuple[Any, ...], kind: type[T], default: T) -> T:
    found = [setting for setting in given if isinstance(setting, kind)]
    return found[-1] if found else default


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one definition; of a kind that is given twice the last one counts."""

    given: tuple[Any, ...] = ()
    metric: str | None = None

    @classmethod
    def of(cls, definition: Model) -> "Settings":
        """Gather the settings of a definition."""
        return cls(tuple(definition.gates), definition.metric)

    @property
    def schema(self) -> Schema:
        """The largest share of bad rows."""
        return _last(self.given, Schema, Schema())

    @property
    def leakage(self) -> Leakage:
        """What a single feature may score."""
        return _last(self.given, Leakage, Leakage())

    @property
    def latency(self) -> Latency:
        """The largest p99 of one row."""
        return _last(self.given, Latency, Latency())

    @property
    def champion(self) -> Champion:
        """The metric to compare with the champion, and the tolerance."""
        found = _last(self.given, Champion, Champion())
        return Champion(found.metric or self.metric, found.tolerance)

    @property
    def baseline_metric(self) -> str | None:
        """The metric to compare with simple models; None for log-loss or RMSE."""
        return _last(self.given, Baseline, Baseline()).metric or self.metric

    @property
    def quality(self) -> tuple[AtLeast | AtMost, ...]:
        """The limits on metrics."""
        return tuple(s for s in self.given if isinstance(s, (AtLeast, AtMost)))

    @property
    def slices(self) -> tuple[SlicesAtLeast | SlicesAtMost, ...]:
        """The limits on metrics within slices."""
        return tuple(s for s in self.given if isinstance(s, (SlicesAtLeast, SlicesAtMost)))

    def waiver(self, gate: str) -> Waiver | None:
        """Return why a gate is turned off, or None."""
        found = [s for s in self.given if isinstance(s, Waiver) and s.gate == gate]
        return found[-1] if found else None


def check_settings(definition: Model, task: Task, features: Collection[str]) -> None:
    """Refuse settings that cannot be judged: unknown metrics, slices by what is not there.

    `features` are the names of the model's features. Raises DefinitionError with the nearest name.
    """
    settings = Settings.of(definition)
    limits = (*settings.quality, *settings.slices)
    named = [limit.metric for limit in limits]
    for metric in (*named, settings.baseline_metric, settings.champion.metric):
        if metric is not None:
            require_metric(metric, task)
    known = {field.name for field in definition.fields} | set(features)
    for limit in settings.slices:
        for name in limit.by:
            if name not in known:
                raise DefinitionError(
                    f"slices by {name!r}: the row has no such field and the model no such feature.",
                    field="gates",
                    fix=nearest(name, known),
                )
