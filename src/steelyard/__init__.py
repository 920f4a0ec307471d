"""Steelyard: one definition per model, one compiled artifact, nothing unproven in production."""

from steelyard.core.definition import Constant, Model, param, row_features
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
from steelyard.core.schema import Field, Row
from steelyard.core.sources import Csv, Parquet, Python, Sql
from steelyard.core.splits import ColumnSplit, GroupSplit, Stratified, TimeSplit

__all__ = [
    "AtLeast",
    "AtMost",
    "Baseline",
    "Champion",
    "ColumnSplit",
    "Constant",
    "Csv",
    "Field",
    "GroupSplit",
    "Latency",
    "Leakage",
    "Model",
    "Parquet",
    "Python",
    "Row",
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
