"""Tables as Arrow streams: data frames of polars by polars, all others by pyarrow."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final, Protocol, TypeGuard, overload

from steelyard.client.rows import Chunk, RowLike
from steelyard.errors import UsageError

__all__ = ["ARROW", "TableLike", "dicts", "is_table", "joined", "parted"]

ARROW: Final = "application/vnd.apache.arrow.stream"
_MOST_ROWS: Final = 10_000
_MOST_BYTES: Final = 4 * 1024 * 1024


class TableLike(Protocol):
    """What gives its columns as an Arrow stream: frames of pandas and polars, Arrow's own tables."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the stream's capsule."""


class _Rows(Sequence[RowLike]):
    """The rows of a part of a table; dicts are made where somebody looks at them."""

    def __init__(self, count: int, make: Callable[[], list[dict[str, Any]]]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> RowLike: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[RowLike]: ...
    def __getitem__(self, at: int | slice) -> RowLike | Sequence[RowLike]:
        return self._make()[at]

    def __iter__(self) -> Iterator[RowLike]:
        return iter(self._make())


def is_table(rows: object) -> TypeGuard[TableLike]:
    """Say whether rows come as a table."""
    return hasattr(rows, "__arrow_c_stream__")


def parted(table: TableLike, most: int | None) -> Iterator[Chunk]:
    """Part a table into streams of at most `most` rows and about four megabytes.

    Raises UsageError where pyarrow is needed and not installed.
    """
    if _of_polars(table):
        import polars as pl

        whole: Any = pl.DataFrame(table)
        count, size, write = whole.height, int(whole.estimated_size()), _written_by_polars
    else:
        whole = _arrow_table(table)
        count, size, write = whole.num_rows, whole.nbytes, _written_by_pyarrow
    least = max(_MOST_BYTES * count // max(size, 1), 1)
    step = min(most or _MOST_ROWS, _MOST_ROWS, least)
    for start in range(0, max(count, 1), step):
        part = whole.slice(start, step)
        dicts_of = part.to_dicts if _of_polars(table) else part.to_pylist
        rows = _Rows(min(step, count - start), dicts_of)
        yield Chunk(start, rows, write(part), ARROW)


def dicts(table: TableLike) -> list[dict[str, Any]]:
    """Return a table's rows. Raises UsageError where pyarrow is needed and not installed."""
    if _of_polars(table):
        import polars as pl

        return pl.DataFrame(table).to_dicts()
    found: list[dict[str, Any]] = _arrow_table(table).to_pylist()
    return found


def joined(streams: Sequence[bytes], like: TableLike) -> Any:
    """Return the table that several streams hold: of polars where `like` is, else of pyarrow."""
    if _of_polars(like):
        import polars as pl

        return pl.concat([pl.read_ipc_stream(BytesIO(stream)) for stream in streams])
    import pyarrow as pa

    return pa.concat_tables([pa.ipc.open_stream(stream).read_all() for stream in streams])


def _of_polars(table: object) -> bool:
    return type(table).__module__.partition(".")[0] == "polars"


def _arrow_table(table: TableLike) -> Any:
    if find_spec("pyarrow") is None:
        raise UsageError(
            f"to read a {type(table).__name__}, pyarrow is needed, which is not installed.",
            fix="pip install pyarrow, or give a polars DataFrame or rows as dicts.",
        )
    import pyarrow as pa

    return pa.RecordBatchReader.from_stream(table).read_all()


def _written_by_polars(part: Any) -> bytes:
    stream = BytesIO()
    part.write_ipc_stream(stream, compression="uncompressed")
    return stream.getvalue()


def _written_by_pyarrow(part: Any) -> bytes:
    import pyarrow as pa

    stream = BytesIO()
    with pa.ipc.new_stream(stream, part.schema) as writer:
        writer.write_table(part)
    return stream.getvalue()
