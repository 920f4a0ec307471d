"""Snapshots: training data kept once, under the hash of its values, checked when opened.

A folder `<id>` holds `table.parquet` and `meta.json`, whole or not at all. `index/<key>` holds the
id that the same bytes, read in the same way, gave before.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import polars as pl

from steelyard.core.files import atomic_folder, atomic_write, sweep_aside
from steelyard.core.hashing import canonical_json, file_hash, hash_json
from steelyard.core.records import Snapshot
from steelyard.core.sources import Csv, Parquet, Source
from steelyard.data.identity import column_digests, column_types, table_id
from steelyard.data.read import READING, describe, read, source_files
from steelyard.errors import DataError, IntegrityError, NotFoundError

__all__ = ["open_snapshot", "take_snapshot"]

_TABLE: Final = "table.parquet"
_META: Final = "meta.json"
_ID = re.compile(r"[0-9a-f]{64}")


def take_snapshot(source: Source, folder: Path, snapshots: Path) -> Snapshot:
    """Read a source and keep its table under its id; the same values again are no second copy.

    Paths of the source are relative to `folder`. A file source whose bytes were read before, with
    the same declaration, is not parsed again. Safe beside other processes and at any kill: a
    snapshot is whole or absent. Raises DataError as `read` does.
    """
    for place in (snapshots, snapshots / "index"):
        sweep_aside(place)
    key = _key(source, folder)
    known = _known(snapshots, key) if key else None
    if known is None:
        table = read(source, folder)
        if key != _key(source, folder):
            raise DataError(
                f"{describe(source)} changed while it was read.", fix="Run again when it is whole."
            )
        known = _keep(table, source, snapshots)
        if key:
            atomic_write(_index(snapshots, key), known.encode())
    meta = _read_meta(snapshots / known)
    return _snapshot(snapshots / known, meta, describe(source))


def open_snapshot(snapshots: Path, snapshot_id: str) -> tuple[Snapshot, pl.DataFrame]:
    """Return a snapshot and its table, once the stored values hash to the id.

    Raises NotFoundError where there is none, and IntegrityError with the file named where it was
    changed.
    """
    folder = snapshots / snapshot_id
    if not _ID.fullmatch(snapshot_id) or not folder.is_dir():
        raise NotFoundError(
            f"there is no snapshot {snapshot_id[:64]!r} in {snapshots}.",
            fix="Run the definition again to take one.",
        )
    meta = _read_meta(folder)
    path = folder / _TABLE
    if not path.is_file():
        raise _damaged(path, "is missing")
    # The bytes first: a damaged file must not reach the Parquet reader.
    if file_hash(path) != meta["table"]:
        raise _damaged(path, "does not have the bytes that were written")
    try:
        table = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    found = {"rows": table.height, "columns": column_types(table), "digests": column_digests(table)}
    if any(meta[name] != value for name, value in found.items()):
        raise _damaged(path, "does not hold the values that the id was made from")
    return _snapshot(folder, meta, meta["source"]), table


def _index(snapshots: Path, key: str) -> Path:
    return snapshots / "index" / key


def _key(source: Source, folder: Path) -> str | None:
    """Return a hash of the bytes and of how they are read; None where bytes do not settle the values."""
    if not isinstance(source, (Csv, Parquet)):
        return None
    how: dict[str, Any] = {"reading": READING, "polars": pl.__version__}
    if isinstance(source, Csv):
        how |= {"separator": source.separator, "nulls": sorted(source.nulls)}
        how["packed"] = Path(source.path).suffix if source.path.endswith((".gz", ".zip")) else ""
    files = [file_hash(path) for path in source_files(source, folder)]
    return hash_json({"kind": type(source).__name__, "files": files, **how})


def _known(snapshots: Path, key: str) -> str | None:
    path = _index(snapshots, key)
    try:
        found = path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    whole = _ID.fullmatch(found) and all(
        (snapshots / found / name).is_file() for name in (_TABLE, _META)
    )
    return found if whole else None


def _keep(table: pl.DataFrame, source: Source, snapshots: Path) -> str:
    types, digests = column_types(table), column_digests(table)
    found = table_id(table.height, types, digests)
    if not (snapshots / found).is_dir():
        with atomic_folder(snapshots / found) as aside:
            table.write_parquet(aside / _TABLE, compression="zstd", compression_level=1)
            meta = {
                "id": found,
                "rows": table.height,
                "columns": types,
                "digests": digests,
                "source": describe(source),
                "table": file_hash(aside / _TABLE),
            }
            document = {**meta, "hash": hash_json(meta)}
            (aside / _META).write_bytes(canonical_json(document))
    return found


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / _META
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except ValueError as error:
        raise _damaged(path, f"is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _damaged(path, "is no JSON object")
    recorded = document.pop("hash", None)
    if recorded != hash_json(document) or document.get("id") != folder.name:
        raise _damaged(path, "does not match its own hash")
    if table_id(document["rows"], document["columns"], document["digests"]) != folder.name:
        raise _damaged(path, "does not describe the table of its id")
    return document


def _damaged(path: Path, how: str) -> IntegrityError:
    return IntegrityError(
        f"the snapshot's file {path} {how}.",
        fix=f"Remove the folder {path.parent} and run again, or bring it back from a backup.",
    )


def _snapshot(folder: Path, meta: dict[str, Any], source: str) -> Snapshot:
    return Snapshot(meta["id"], meta["rows"], meta["columns"], source, folder)
