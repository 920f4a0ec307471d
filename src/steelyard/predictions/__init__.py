"""The prediction log: what was answered, on disk before the answer left.

Each worker appends to segments of its own; readers merge them, and what was compacted to
Parquet, by id. Writing needs nothing but the base install; Parquet needs the extra `train`.

    <state>/predictions/<model>/segments/<uuid7>-<pid>.log
    <state>/predictions/<model>/parquet/day=YYYY-MM-DD/<hash>.parquet
    <state>/predictions/<model>/damaged/    segments with broken stretches, kept after compaction
    <state>/predictions/<model>/compacting/ the work of a compaction
"""

from steelyard.core.ids import time_of, uuid7
from steelyard.predictions.compact import Compaction, compact
from steelyard.predictions.query import parse_since, read
from steelyard.predictions.record import Output, Record
from steelyard.predictions.segment import Damage, SegmentReader, read_segment
from steelyard.predictions.writer import PredictionWriter

__all__ = [
    "Compaction",
    "Damage",
    "Output",
    "PredictionWriter",
    "Record",
    "SegmentReader",
    "compact",
    "parse_since",
    "read",
    "read_segment",
    "time_of",
    "uuid7",
]
