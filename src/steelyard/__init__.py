"""Steelyard: one definition per model, one compiled artifact, nothing unproven in production."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# A command line and a server import the package without defining a model; pydantic, which only
# definitions need, would be most of their start. So names are fetched when they are first used.
if TYPE_CHECKING:
    from steelyard.client import AsyncClient, Client
    from steelyard.core.definition import Model, param, row_features
    from steelyard.core.fallbacks import Constant, PreviousChampion, Rule
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
        waive,
    )
    from steelyard.core.guards import Guards
    from steelyard.core.schema import Field, Row
    from steelyard.core.sources import Csv, Parquet, Python, Sql
    from steelyard.core.splits import ColumnSplit, GroupSplit, Stratified, TimeSplit

__all__ = [
    "AsyncClient",
    "AtLeast",
    "AtMost",
    "Baseline",
    "Champion",
    "Client",
    "ColumnSplit",
    "Constant",
    "Csv",
    "Field",
    "GroupSplit",
    "Guards",
    "Latency",
    "Leakage",
    "Model",
    "Parquet",
    "PreviousChampion",
    "Python",
    "Row",
    "Rule",
    "Schema",
    "SlicesAtLeast",
    "SlicesAtMost",
    "Sql",
    "Stratified",
    "TimeSplit",
    "param",
    "row_features",
    "waive",
]
__version__ = "0.1.0"

_HOMES = {
    "client": ("AsyncClient", "Client"),
    "core.definition": ("Model", "param", "row_features"),
    "core.fallbacks": ("Constant", "PreviousChampion", "Rule"),
    "core.gates": (
        "AtLeast",
        "AtMost",
        "Baseline",
        "Champion",
        "Latency",
        "Leakage",
        "Schema",
        "SlicesAtLeast",
        "SlicesAtMost",
        "waive",
    ),
    "core.guards": ("Guards",),
    "core.schema": ("Field", "Row"),
    "core.sources": ("Csv", "Parquet", "Python", "Sql"),
    "core.splits": ("ColumnSplit", "GroupSplit", "Stratified", "TimeSplit"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"steelyard.{home}"), name)
            globals()[name] = value
            return value
    message = f"module 'steelyard' has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
