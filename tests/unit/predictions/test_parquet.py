"""A compacted record is the record: value for value, whatever the JSON held."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.predictions import Record, uuid7
from steelyard.predictions.parquet import count_rows, first_and_last, read_parquet, write_parquet
from steelyard.predictions.record import decode_record

text = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
changes = st.fixed_dictionaries(
    {
        "row": st.dictionaries(text, scalars, max_size=4),
        "prediction": scalars,
        "outputs": st.lists(st.fixed_dictionaries({"name": text, "value": documents}), max_size=3),
        "version": st.integers(1, 2**62),
        "source": text,
        "time": st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    },
    optional={
        "probabilities": st.none() | st.dictionaries(text, st.floats(0, 1), max_size=3),
        "flags": st.none()
        | st.lists(
            st.fixed_dictionaries({"field": text, "rule": text, "message": text}), max_size=2
        ),
        "key": scalars,
        "latency_us": st.none() | st.floats(0, 1e9),
    },
)


def _written(path: Path, payloads: list[bytes]) -> list[Record]:
    records = [decode_record(payload) for payload in payloads]
    assert write_parquet(path, zip(records, payloads, strict=True)) == len(payloads)
    assert count_rows(path) == len(payloads)
    return records


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, min_size=1, max_size=4))
def test_records_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, make_payload, several
) -> None:
    path = tmp_path_factory.mktemp("table") / "one.parquet"
    records = _written(path, [make_payload(**one) for one in several])
    found = list(read_parquet(path, "", "g"))
    assert found == records
    assert repr(found) == repr(records)


def test_the_columns_are_those_that_people_filter_by(tmp_path: Path, make_payload) -> None:
    path = tmp_path / "one.parquet"
    one = make_payload(key=17, latency_us=80.5, shadow={"version": 4}, later=[1])
    _written(path, [one, make_payload(key=None, flags=None)])
    table = pl.read_parquet(path)
    assert table.schema["time"] == pl.Datetime("us", "UTC")
    assert table.schema["version"] == pl.Int64
    assert table["model"].to_list() == ["churn", "churn"]
    assert table["key"].to_list() == ["17", None]
    assert table["prediction"].to_list() == ['"Yes"', '"Yes"']
    assert table["flags"].to_list() == [None, None]
    assert table["latency_us"].to_list() == [80.5, None]
    assert json.loads(table["row"][0]) == json.loads(one)["row"]
    assert json.loads(table["extra"][0]) == {"shadow": {"version": 4}, "later": [1]}
    assert table["extra"][1] is None


def test_the_trace_of_a_prediction_is_kept(tmp_path: Path, make_payload) -> None:
    path = tmp_path / "one.parquet"
    _written(path, [make_payload(trace_id="4bf92f3577b34da6a3ce929d0e0e4736"), make_payload()])
    found = [record.trace_id for record in read_parquet(path, "", "g")]
    assert sorted(found) == ["", "4bf92f3577b34da6a3ce929d0e0e4736"]


def test_numbers_keep_their_digits(tmp_path: Path, make_payload) -> None:
    payload = make_payload().replace(b"70.35", b"70.350000000000001421")
    _written(tmp_path / "one.parquet", [payload])
    assert "70.350000000000001421" in pl.read_parquet(tmp_path / "one.parquet")["row"][0]


def test_a_range_of_ids_is_read(tmp_path: Path, make_payload) -> None:
    path = tmp_path / "one.parquet"
    ids = [uuid7() for _ in range(40)]
    _written(path, [make_payload(one) for one in ids])
    assert first_and_last(path) == (ids[0], ids[-1])
    assert [one.prediction_id for one in read_parquet(path, ids[10], ids[20])] == ids[10:20]
    newest = read_parquet(path, ids[10], ids[20], newest_first=True)
    assert [one.prediction_id for one in newest] == ids[19:9:-1]


def test_a_file_without_records_has_no_ends(tmp_path: Path) -> None:
    _written(tmp_path / "none.parquet", [])
    assert first_and_last(tmp_path / "none.parquet") is None
