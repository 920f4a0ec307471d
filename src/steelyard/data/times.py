"""ISO dates and datetimes in text, read vectorised: the grammar of RFC 3339, offset by declaration.

A blank may stand for the T, as the RFC allows. Fractions beyond microseconds are rounded half up.
"""

from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["DATETIME_RANGE", "DATE_RANGE", "dates", "datetimes", "has_offset"]

_DATE = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
_ANY = f"^{_DATE}[Tt ]{_TIME}{_OFFSET}?$"

_EPOCH: Final = date(1970, 1, 1).toordinal()
DATE_RANGE: Final = (date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH)
"""The first and last day that Python, and so a served row, can say: years 1 to 9999."""
_DAY: Final = 86_400_000_000
DATETIME_RANGE: Final = (DATE_RANGE[0] * _DAY, (DATE_RANGE[1] + 1) * _DAY - 1)


def dates(text: pl.Series) -> pl.Series:
    """Return the dates [N] of strings such as 2013-10-01; null where a string is none.

    >>> dates(pl.Series(["2013-02-28", "2013-02-30"])).to_list()
    [datetime.date(2013, 2, 28), None]
    """
    shaped = pl.when(pl.col("x").str.contains(f"^{_DATE}$")).then("x")
    return text.to_frame("x").select(shaped.str.to_date("%Y-%m-%d", strict=False))["x"]


def has_offset(text: pl.Series) -> npt.NDArray[np.bool_]:
    """Return where a string ends as a datetime with an offset does [N]; False for null."""
    return text.str.contains(f":[0-9.]+{_OFFSET}$").fill_null(False).to_numpy()


def datetimes(text: pl.Series) -> pl.Series:
    """Return int64 microseconds since 1970 [N]: in UTC with an offset, else as written.

    Null where a string is no datetime such as 2013-10-01T12:30:00.5+02:00.

    >>> datetimes(pl.Series(["1970-01-01T01:00:00+01:00", "1970-01-01 00:00:00.5", "1970"])).to_list()
    [0, 500000, None]
    """
    x = pl.col("x")
    shaped = text.to_frame("x").select(pl.when(x.str.contains(_ANY)).then(x))
    whole = pl.concat_str(x.str.slice(0, 10), x.str.slice(11, 8), separator=" ")
    seconds = whole.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    fraction = x.str.extract(r"\.([0-9]+)").str.pad_end(7, "0")
    parts = shaped.select(
        micros=seconds.to_physical(),
        fraction=fraction.str.slice(0, 6).cast(pl.Int64)
        + (fraction.str.slice(6, 1).cast(pl.Int64) >= 5).cast(pl.Int64),
        hours=x.str.extract(r"([+-][0-9]{2}):?[0-9]{2}$").cast(pl.Int64),
        minutes=x.str.extract(r":[0-9.]+[+-][0-9]{2}:?([0-9]{2})$").cast(pl.Int64),
        west=x.str.contains(r":[0-9.]+-[0-9]{2}:?[0-9]{2}$"),
    )
    return parts.select(
        pl.col("micros") + pl.col("fraction").fill_null(0) - _shift().fill_null(0)
    ).to_series()


def _shift() -> pl.Expr:
    minutes = pl.when("west").then(-pl.col("minutes")).otherwise("minutes")
    return (pl.col("hours") * 60 + minutes) * 60_000_000
