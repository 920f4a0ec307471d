"""Reading gives every record once, in the order of ids, from whatever holds it."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steelyard.core.ids import CLOCK_TOLERANCE_MS, EPOCH, floor_of
from steelyard.errors import UsageError
from steelyard.predictions import (
    Damage,
    PredictionWriter,
    compact,
    parse_since,
    read,
    sources,
    time_of,
    uuid7,
)
from steelyard.predictions.segment import FORMAT, Header, framed, header_line

HOUR = 3_600_000
START = 1_790_000_000_000 // HOUR * HOUR


def _id(milliseconds: int, number: int = 0) -> str:
    return f"{floor_of(milliseconds)}-7000-8000-{number:012x}"


@pytest.fixture
def put(tmp_path: Path, make_payload) -> Callable[..., Path]:
    """Return a function that makes a segment as a writer at that time would have left it."""

    def make(started: int, ids: Iterable[str], tail: bytes = b"") -> Path:
        path = tmp_path / "segments" / f"{_id(started, len(list(tmp_path.rglob('*'))))}-7.log"
        path.parent.mkdir(exist_ok=True)
        header = header_line(Header(FORMAT, "churn", 0, 7))
        frames = [framed(make_payload(one, time=time_of(one))) for one in ids]
        path.write_bytes(header + b"".join(frames) + tail)
        return path

    return make


def _ids(folder: Path, **options) -> list[str]:
    return [record.prediction_id for record in read(folder, **options)]


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert _ids(tmp_path / "nothing") == []
    assert _ids(tmp_path / "nothing", prediction_id=uuid7()) == []


def test_what_a_writer_wrote_is_read_while_it_writes(tmp_path: Path, make_payload) -> None:
    with PredictionWriter(tmp_path, model="churn", segment_bytes=2000) as log:
        made = [uuid7() for _ in range(30)]
        for one in made:
            log.append(make_payload(one, key="C-17"))
        records = list(read(tmp_path))
        assert [record.prediction_id for record in records] == made
        assert records[0].row["Contract"] == "Zwölf Monate"
        assert records[0].key == "C-17"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_order_is_that_of_ids_and_doubles_count_once(
    tmp_path_factory: pytest.TempPathFactory, make_payload, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    (folder / "segments").mkdir()
    written = set()
    for number in range(data.draw(st.integers(1, 5))):
        started = START + data.draw(st.integers(0, 3 * HOUR))
        rest_of_hour = HOUR - started % HOUR
        times = data.draw(st.lists(st.integers(-350_000, rest_of_hour - 1), max_size=6))
        ids = [_id(started + one) for one in times]
        written |= set(ids)
        frames = b"".join(framed(make_payload(one)) for one in ids)
        header = header_line(Header(FORMAT, "churn", 0, 7))
        (folder / "segments" / f"{_id(started, number)}-7.log").write_bytes(header + frames)
    assert _ids(folder) == sorted(written)
    low = data.draw(st.integers(0, 3 * HOUR))
    high = data.draw(st.integers(low, 4 * HOUR))
    since, until = (EPOCH + timedelta(milliseconds=START + one) for one in (low, high))
    expected = [one for one in sorted(written) if since <= time_of(one) < until]
    assert _ids(folder, since=since, until=until) == expected
    assert _ids(folder, since=since, until=until, newest_first=True) == expected[::-1]
    assert _ids(folder, newest_first=True, limit=3) == sorted(written)[-1:-4:-1]
    for one in written:
        assert _ids(folder, prediction_id=one) == [one]


def test_since_is_inclusive_and_until_exclusive(tmp_path: Path, put) -> None:
    ids = [_id(START + one) for one in range(10)]
    put(START, ids)
    moment = time_of(ids[4])
    assert _ids(tmp_path, since=moment) == ids[4:]
    assert _ids(tmp_path, until=moment) == ids[:4]
    abroad = moment.astimezone(timezone(timedelta(hours=5)))
    assert _ids(tmp_path, since=abroad, limit=2) == ids[4:6]
    assert _ids(tmp_path, limit=0) == []


def test_segments_of_other_times_are_not_opened(
    tmp_path: Path, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(START + hour * HOUR, [_id(START + hour * HOUR)]) for hour in range(8)]
    opened: list[Path] = []
    read_segment = sources.read_segment
    monkeypatch.setattr(
        sources, "read_segment", lambda path: opened.append(path) or read_segment(path)
    )
    since = EPOCH + timedelta(milliseconds=START + 4 * HOUR + HOUR // 2)
    until = since + timedelta(hours=1)
    assert _ids(tmp_path, since=since, until=until) == [_id(START + 5 * HOUR)]
    assert opened == paths[4:6]
    opened.clear()
    assert _ids(tmp_path, prediction_id=_id(START + 2 * HOUR)) == [_id(START + 2 * HOUR)]
    assert opened == paths[2:3]


def test_segments_are_opened_as_their_time_comes(
    tmp_path: Path, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in range(8):
        put(START + hour * HOUR, [_id(START + hour * HOUR)])
    opened: list[Path] = []
    read_segment = sources.read_segment
    monkeypatch.setattr(
        sources, "read_segment", lambda path: opened.append(path) or read_segment(path)
    )
    records = read(tmp_path)
    next(records)
    assert len(opened) <= 2


def test_the_latest_are_found_without_opening_what_is_older(
    tmp_path: Path, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for minute in range(0, 60, 15):
        started = START + minute * 60_000
        paths.append(put(started, [_id(started + one) for one in range(5)]))
        os.utime(paths[-1], (started / 1000, started / 1000))
    opened: list[Path] = []
    read_segment = sources.read_segment
    monkeypatch.setattr(
        sources, "read_segment", lambda path: opened.append(path) or read_segment(path)
    )
    late = START + 45 * 60_000
    found = _ids(tmp_path, newest_first=True, limit=3)
    assert found == [_id(late + 4), _id(late + 3), _id(late + 2)]
    assert opened == paths[3:]
    opened.clear()
    assert _ids(tmp_path, since=time_of(_id(late))) == [_id(late + one) for one in range(5)]
    assert opened == paths[3:]


def test_a_clock_that_was_set_back_hides_nothing(tmp_path: Path, put) -> None:
    ids = [_id(START + 40 * 60_000 + one) for one in range(5)]
    path = put(START + 40 * 60_000, ids)
    os.utime(path, (START / 1000, START / 1000))
    assert _ids(tmp_path, since=time_of(ids[0])) == ids
    assert _ids(tmp_path, newest_first=True) == ids[::-1]


def test_a_record_that_came_hours_late_is_found(tmp_path: Path, put) -> None:
    late = _id(START)
    put(START + 6 * HOUR, [_id(START + 6 * HOUR), late])
    assert _ids(tmp_path, prediction_id=late) == [late]
    assert _ids(tmp_path) == [late, _id(START + 6 * HOUR)]


def test_an_unknown_id_is_not_found(tmp_path: Path, put) -> None:
    put(START, [_id(START, 1), _id(START, 3)])
    assert _ids(tmp_path, prediction_id=_id(START, 2)) == []
    assert _ids(tmp_path, prediction_id=_id(START, 1), since=time_of(_id(START + 1))) == []


def test_a_mention_of_the_id_is_not_the_record(tmp_path: Path, make_payload) -> None:
    sought = uuid7()
    with PredictionWriter(tmp_path, model="churn") as log:
        log.append(make_payload(row={"before": sought}))
        log.append(make_payload(sought))
    assert _ids(tmp_path, prediction_id=sought) == [sought]


def test_damage_is_told_and_the_rest_read(
    tmp_path: Path, put, make_payload, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [_id(START + one) for one in range(3)]
    foreign = (
        framed(make_payload("not-an-id"))
        + framed(b"[1]")
        + framed(b'{"prediction_id":"' + ids[2].encode() + b'"}')
    )
    path = put(START, ids[:2], tail=b"corrupt\n" + foreign + b"torn")
    told: list[Damage] = []
    assert _ids(tmp_path, on_damage=told.append) == ids[:2]
    assert sorted(one.reason for one in told) == ["corrupt"] + ["unreadable"] * 3
    content = path.read_bytes()
    (corrupt,) = (one for one in told if one.reason == "corrupt")
    assert content[corrupt.offset : corrupt.offset + corrupt.length] == b"corrupt\n"
    assert _ids(tmp_path) == ids[:2]
    assert len(caplog.records) == 4
    assert str(path) in caplog.text


def test_damage_is_told_once_though_the_reader_starts_anew(tmp_path: Path, put) -> None:
    living = put(START, [_id(START), _id(START + 1)], tail=b"corrupt\n")
    put(START + HOUR // 2, [_id(START + HOUR // 2)])
    told: list[Damage] = []
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        records = read(tmp_path, on_damage=told.append)
        found = [next(records).prediction_id]
        assert compact(tmp_path).segments == 1
        found += [record.prediction_id for record in records]
    assert found == [_id(START), _id(START + 1), _id(START + HOUR // 2)]
    assert [one.path for one in told] == [living]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path, put) -> None:
    path = put(START, [_id(START)])
    (path.parent / "notes.log").write_text("remember")
    path.with_suffix(".new").write_bytes(b"")
    (tmp_path / "parquet" / "day=someday").mkdir(parents=True)
    (tmp_path / "parquet" / "day=someday" / "x.parquet").write_text("")
    assert _ids(tmp_path) == [_id(START)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_reader_goes_on_where_compaction_overtakes_it(
    tmp_path: Path, put, newest_first: bool
) -> None:
    ids = [_id(START + hour * HOUR + one) for hour in range(5) for one in range(3)]
    for hour in range(5):
        put(START + hour * HOUR, ids[3 * hour : 3 * hour + 3])
    records = read(tmp_path, newest_first=newest_first)
    found = [next(records).prediction_id for _ in range(4)]
    assert compact(tmp_path).segments == 5
    found += [record.prediction_id for record in records]
    assert found == (ids[::-1] if newest_first else ids)


def test_a_segment_that_cannot_be_opened_is_an_error_not_a_circle(tmp_path: Path, put) -> None:
    path = put(START, [_id(START)])
    path.with_name(f"{_id(START, 99)}-8.log").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        _ids(tmp_path)


def test_segments_and_parquet_are_one_log(tmp_path: Path, put) -> None:
    old = [_id(START + one) for one in range(0, 300, 3)]
    put(START, old)
    assert compact(tmp_path).records == 100
    new = [_id(START + one) for one in range(1, 300, 3)]
    put(START, new)
    everything = sorted(old + new)
    assert _ids(tmp_path) == everything
    assert _ids(tmp_path, since=time_of(everything[50]), limit=60) == everything[50:110]
    assert _ids(tmp_path, newest_first=True, limit=60) == everything[:-61:-1]
    assert _ids(tmp_path, prediction_id=old[7]) == [old[7]]
    assert _ids(tmp_path, prediction_id=new[7]) == [new[7]]


def test_without_polars_segments_are_read_and_parquet_is_refused_by_name(
    tmp_path: Path, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(START, [_id(START)])
    compact(tmp_path)
    put(START + 48 * HOUR, [_id(START + 48 * HOUR)])
    monkeypatch.setitem(sys.modules, "polars", None)
    assert _ids(tmp_path, since=time_of(_id(START + 40 * HOUR))) == [_id(START + 48 * HOUR)]
    with pytest.raises(UsageError, match="polars is not installed") as caught:
        _ids(tmp_path)
    assert "steelyard[train]" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since": datetime(2026, 11, 24)}, "since needs a time zone"),
        ({"until": datetime(2026, 11, 24)}, "until needs a time zone"),
        ({"limit": -1}, "limit"),
        ({"prediction_id": "17"}, "expected a prediction id"),
    ],
)
def test_misuse_is_refused_at_the_call(tmp_path: Path, options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, **options)


NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45s", NOW - timedelta(seconds=45)),
        ("30m", NOW - timedelta(minutes=30)),
        ("1h", NOW - timedelta(hours=1)),
        (" 2d ", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:30", datetime(2026, 11, 20, 10, 30, tzinfo=UTC)),
        ("2026-11-20T10:30:00Z", datetime(2026, 11, 20, 10, 30, tzinfo=UTC)),
        ("2026-11-20T10:30:00.5+02:00", datetime(2026, 11, 20, 8, 30, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_ages_and_times_are_understood(text: str, expected: datetime) -> None:
    moment = parse_since(text, now=NOW)
    assert moment == expected
    assert moment.tzinfo is UTC


def test_an_age_counts_from_now() -> None:
    assert abs(parse_since("1h") - (datetime.now(UTC) - timedelta(hours=1))) < timedelta(seconds=5)


@given(st.text(max_size=40))
@example("999999999w")
@example("0001-01-01T00:00+12:00")
@example("-1h")
@example("٣h")
def test_any_text_is_a_time_or_a_clear_refusal(text: str) -> None:
    try:
        assert parse_since(text, now=NOW).tzinfo is UTC
    except UsageError as error:
        refusal = error
    else:
        return
    assert refusal.fix


def test_ids_of_a_clients_clock_are_found_by_their_time(tmp_path: Path, put) -> None:
    early, late = _id(START - CLOCK_TOLERANCE_MS), _id(START + CLOCK_TOLERANCE_MS, 1)
    put(START, [early, late])
    for one in (early, late):
        moment = time_of(one)
        until = moment + timedelta(milliseconds=1)
        assert _ids(tmp_path, since=moment, until=until) == [one]
