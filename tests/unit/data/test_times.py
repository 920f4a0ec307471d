"""ISO times in text: the grammar of the row decoder, vectorised."""

from datetime import UTC, date, datetime

import msgspec
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steelyard.data.times import DATE_RANGE, DATETIME_RANGE, dates, datetimes, has_offset

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Near enough to the grammar that both sides of it are met.
NEARLY = st.one_of(
    st.from_regex(
        r"\A[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?"
        r"([Zz]|[+-][0-2][0-9]:?[0-6][0-9])?\Z"
    ),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.text("0123456789-:TtZz .+", max_size=26),
)


def decoded(text: str) -> int | None:
    """The reference: what the decoder of served rows reads."""
    try:
        found = msgspec.json.decode(msgspec.json.encode(text), type=datetime)
    except msgspec.ValidationError:
        return None
    delta = (found if found.tzinfo else found.replace(tzinfo=UTC)) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(NEARLY, min_size=1, max_size=20))
@example(["2013-01-01T00:00:00.1234565Z", "2013-01-01T00:00:00.12345649", "2013-01-01T24:00:00"])
@example(["2013-01-01T00:00:00+23:59", "2013-01-01 00:00:00-0030", "0000-01-01T00:00:00"])
@example(["2013-02-29T00:00:00", "2012-02-29T00:00:00", "1900-02-29T00:00:00", "2013-01-01T00:00"])
@example(["2013-01-01T23:59:60Z", "2013-01-01T00:00:00,5", "2013-01-01T00:00:00.", "2013-01-01"])
@example(["2013-01-01T00:00:00\n", " 2013-01-01T00:00:00", "٢٠١٣-01-01T00:00:00"])
def test_datetimes_are_those_that_the_decoder_reads(texts: list[str]) -> None:
    found = datetimes(pl.Series(texts, dtype=pl.String)).to_list()
    # The decoder refuses what rounds up beyond the year 9999; here that is the range's matter.
    inside = [None if v is None or v > DATETIME_RANGE[1] else v for v in found]
    assert inside == [decoded(text) for text in texts]


@settings(deadline=None, max_examples=100)
@given(
    texts=st.lists(
        st.one_of(
            st.dates().map(date.isoformat),
            st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]\Z"),
            st.text("0123456789- T", max_size=11),
        ),
        min_size=1,
        max_size=20,
    )
)
@example(["0000-01-01", "0001-01-01", "9999-12-31", "2013-1-1", "2013-02-29", "2013-01-01\n"])
def test_dates_are_those_that_python_reads(texts: list[str]) -> None:
    expected: list[date | None] = []
    for text in texts:
        try:
            expected.append(msgspec.json.decode(msgspec.json.encode(text), type=date))
        except msgspec.ValidationError:
            expected.append(None)
    assert dates(pl.Series(texts, dtype=pl.String)).to_list() == expected


def test_nulls_stay_null() -> None:
    nulls = pl.Series([None, None], dtype=pl.String)
    assert datetimes(nulls).to_list() == dates(nulls).to_list() == [None, None]
    assert has_offset(nulls).tolist() == [False, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-01-01T00:00:00Z", True),
        ("2013-01-01 00:00:00.5+0200", True),
        ("2013-01-01T00:00:00-02:00", True),
        ("2013-01-01T00:00:00", False),
        ("2013-01-01", False),
    ],
)
def test_has_offset(text: str, expected: bool) -> None:
    assert has_offset(pl.Series([text])).tolist() == [expected]


def test_the_ranges_are_python_s() -> None:
    assert date.fromordinal(date(1970, 1, 1).toordinal() + DATE_RANGE[0]) == date.min
    assert date.fromordinal(date(1970, 1, 1).toordinal() + DATE_RANGE[1]) == date.max
    first, last = (pl.Series([d.isoformat()]) for d in (datetime.min, datetime.max))
    assert (*datetimes(first), *datetimes(last)) == DATETIME_RANGE
