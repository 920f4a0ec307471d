"""Compacted predictions: one Parquet table, columns for what is filtered by, JSON for the rest."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from steelyard.core.answers import Flag
from steelyard.errors import UsageError
from steelyard.predictions.record import Output, Record

if TYPE_CHECKING:
    import polars as pl

__all__ = ["count_rows", "first_and_last", "read_parquet", "write_parquet"]

_GROUP_ROWS = 16_384
# Kept as the JSON text that was logged, so that numbers keep their digits and labels their type.
_JSON = ("key", "prediction", "probabilities", "outputs", "row", "flags")
_PLAIN = ("prediction_id", "time", "model", "version", "bundle", "source", "latency_us")
_EXTRA = "extra"
_OPTIONAL = {"key", "probabilities", "flags"}

_raw_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _polars() -> Any:
    try:
        import polars
    except ModuleNotFoundError as error:
        raise UsageError(
            "compacted predictions are Parquet, and polars is not installed",
            fix='Install it with: pip install "steelyard[train]"',
        ) from error
    return polars


def _schema() -> "dict[str, pl.DataType | type[pl.DataType]]":
    pl = _polars()
    plain = {
        "time": pl.Datetime("us", "UTC"),
        "version": pl.Int64,
        "latency_us": pl.Float64,
    }
    return {name: plain.get(name, pl.String) for name in (*_PLAIN, *_JSON, _EXTRA)}


def write_parquet(path: Path, records: Iterable[tuple[Record, bytes]]) -> int:
    """Write records, given with their payloads and in the order of ids; return how many.

    A key that this version does not know goes to the column `extra`, a JSON object.

    Raises:
        UsageError: polars is not installed.
    """
    rows = [_row(record, _raw_of(payload)) for record, payload in records]
    frame = _polars().DataFrame(rows, schema=_schema(), orient="row")
    frame.write_parquet(path, compression="zstd", row_group_size=_GROUP_ROWS)
    return len(rows)


def _row(record: Record, raw: Mapping[str, msgspec.Raw]) -> tuple[Any, ...]:
    plain = tuple(getattr(record, name) for name in _PLAIN)
    texts = tuple(_text(raw.get(name), name in _OPTIONAL) for name in _JSON)
    extra = {name: raw[name] for name in raw if name not in _PLAIN and name not in _JSON}
    return (*plain, *texts, msgspec.json.encode(extra).decode() if extra else None)


def _text(raw: msgspec.Raw | None, optional: bool) -> str | None:
    if raw is None:
        return None
    text = bytes(raw).decode()
    return None if optional and text == "null" else text


def _rows_of(path: Path) -> "pl.LazyFrame":
    return _polars().scan_parquet(path, glob=False, hive_partitioning=False)  # type: ignore[no-any-return]


def count_rows(path: Path) -> int:
    """Return how many ids can be read back from a compacted file."""
    return len(_rows_of(path).select("prediction_id").collect())


def first_and_last(path: Path) -> tuple[str, str] | None:
    """Return the first and the last id of a compacted file; None when it holds no record."""
    ids = _rows_of(path).select("prediction_id")
    first, last = ids.head(1).collect(), ids.tail(1).collect()
    return (first.item(), last.item()) if len(first) else None


def read_parquet(path: Path, low: str, high: str, newest_first: bool = False) -> Iterator[Record]:
    """Give the records of a compacted file with `low <= id < high`, in the order of ids.

    Raises:
        UsageError: polars is not installed.
    """
    ids = _polars().col("prediction_id")
    found = _rows_of(path).filter((ids >= low) & (ids < high)).collect()
    for row in (found.reverse() if newest_first else found).iter_rows(named=True):
        yield _record(row)


def _record(row: Mapping[str, Any]) -> Record:
    def decoded(name: str, kind: Any = Any) -> Any:
        text = row[name]
        return None if text is None else msgspec.json.decode(text, type=kind)

    return Record(
        prediction_id=row["prediction_id"],
        time=row["time"].replace(tzinfo=UTC),
        model=row["model"],
        version=row["version"],
        bundle=row["bundle"],
        source=row["source"],
        row=decoded("row"),
        outputs=decoded("outputs", list[Output]),
        prediction=decoded("prediction"),
        probabilities=decoded("probabilities", dict[str, float] | None),
        flags=decoded("flags", list[Flag] | None),
        key=decoded("key"),
        latency_us=row["latency_us"],
        trace_id=(decoded(_EXTRA) or {}).get("trace_id", ""),
    )
