"""A segment gives back every whole record, whatever happened to the bytes around it."""

import json
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import StoreError, UsageError
from steelyard.predictions import Damage, read_segment
from steelyard.predictions.segment import FORMAT, Header, framed, header_line, start_of

HEADER = header_line(Header(FORMAT, "churn", 0, 17))
THREE = [b'{"a":1}', b'{"b":"' + b"x" * 40 + b'"}', b'{"c":[3]}']

payloads = st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")), max_size=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments") / "one.log"


def _frames(records: list[bytes]) -> list[bytes]:
    return [framed(record) for record in records]


@settings(deadline=None)
@given(records=payloads)
def test_what_is_framed_is_read(path: Path, records: list[bytes]) -> None:
    path.write_bytes(HEADER + b"".join(_frames(records)))
    reader = read_segment(path)
    assert list(reader) == records
    assert reader.header == Header(FORMAT, "churn", 0, 17)
    assert (reader.dropped_bytes, reader.damage) == (0, [])


def test_a_person_can_read_it(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(_frames(THREE)))
    lines = path.read_text().splitlines()
    assert lines[0].startswith("steelyard-log ")
    assert [json.loads(line.split(" ", 2)[2]) for line in lines[1:]] == [
        json.loads(record) for record in THREE
    ]


def test_a_record_is_one_line() -> None:
    with pytest.raises(UsageError, match="line end at byte 4"):
        framed(b'{"a"\n:1}')


def test_a_tail_torn_at_any_byte_is_dropped_and_counted(path: Path) -> None:
    head = HEADER + b"".join(_frames(THREE[:2]))
    last = framed(THREE[2])
    for kept in range(len(last) - 1):
        path.write_bytes(head + last[:kept])
        reader = read_segment(path)
        assert list(reader) == THREE[:2]
        assert reader.dropped_bytes == kept
        torn = [Damage(path, len(head), kept, "torn")] if kept else []
        assert reader.damage == torn


def test_a_record_that_lacks_only_its_line_end_is_whole(path: Path) -> None:
    path.write_bytes((HEADER + b"".join(_frames(THREE)))[:-1])
    reader = read_segment(path)
    assert list(reader) == THREE
    assert reader.dropped_bytes == 0


@pytest.mark.parametrize("kept", range(len(HEADER) - 1))
def test_a_torn_header_leaves_no_record(path: Path, kept: int) -> None:
    path.write_bytes(HEADER[:kept])
    reader = read_segment(path)
    assert list(reader) == []
    assert (reader.header, reader.dropped_bytes) == (None, kept)


@settings(deadline=None)
@given(records=payloads, cut=st.floats(0, 1))
def test_any_cut_keeps_every_record_before_it(path: Path, records: list[bytes], cut: float) -> None:
    frames = _frames(records)
    whole = HEADER + b"".join(frames)
    size = int(len(whole) * cut)
    path.write_bytes(whole[:size])
    ends = accumulate((len(frame) for frame in frames), initial=len(HEADER))
    # The line end itself may be missing: the checksum says that the record is whole.
    held = [record for record, end in zip(records, list(ends)[1:], strict=True) if end - 1 <= size]
    assert list(read_segment(path)) == held


def test_zeros_that_a_power_failure_left_at_the_end_are_dropped(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(_frames(THREE)) + bytes(4096))
    reader = read_segment(path)
    assert list(reader) == THREE
    assert reader.dropped_bytes == 4096


def test_a_flipped_bit_anywhere_is_reported_and_costs_at_most_its_record(path: Path) -> None:
    frames = _frames(THREE)
    whole = HEADER + b"".join(frames)
    start = len(HEADER) + len(frames[0])
    for place in range(start, start + len(frames[1])):
        for bit in range(8):
            broken = bytearray(whole)
            broken[place] ^= 1 << bit
            path.write_bytes(broken)
            reader = read_segment(path)
            found = list(reader)
            line_end_only = place == start + len(frames[1]) - 1
            assert found == (THREE if line_end_only else [THREE[0], THREE[2]]), (place, bit)
            assert reader.damage, (place, bit)
            assert all(one.reason == "corrupt" for one in reader.damage)
            assert any(one.offset <= place < one.offset + one.length for one in reader.damage), (
                place,
                bit,
            )
            assert reader.dropped_bytes == 0


def test_a_flipped_bit_in_the_header_costs_no_record(path: Path) -> None:
    for place in range(len(HEADER)):
        broken = bytearray(HEADER + b"".join(_frames(THREE)))
        broken[place] ^= 1
        path.write_bytes(broken)
        reader = read_segment(path)
        assert list(reader) == THREE, place
        assert [one.reason for one in reader.damage][:1] == ["corrupt"]


@settings(max_examples=200, deadline=None)
@given(records=payloads, data=st.data(), junk=st.binary(min_size=1, max_size=30))
def test_overwritten_bytes_never_cost_a_record_that_they_do_not_touch(
    path: Path, records: list[bytes], data: st.DataObject, junk: bytes
) -> None:
    records = [b"%d:%b" % numbered for numbered in enumerate(records)]
    frames = _frames(records)
    whole = HEADER + b"".join(frames)
    place = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[place : place + len(junk)] = junk[: len(whole) - place]
    path.write_bytes(broken)
    found = list(read_segment(path))
    position = len(HEADER)
    for record, frame in zip(records, frames, strict=True):
        # The line end before a record is where the reader finds it again.
        if place + len(junk) < position or place >= position + len(frame):
            assert record in found
        position += len(frame)
    assert found == [record for record in records if record in found]


def test_the_offset_leads_to_the_payload(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(_frames(THREE)))
    content = path.read_bytes()
    reader = read_segment(path)
    for payload in reader:
        assert content[reader.offset : reader.offset + len(payload)] == payload


def test_another_format_is_refused(path: Path) -> None:
    path.write_bytes(b"steelyard-log " + framed(b'{"format":2}') + framed(b'{"a":1}'))
    with pytest.raises(StoreError, match=f"format 2, expected {FORMAT}"):
        list(read_segment(path))


def test_a_checked_header_that_is_no_header_is_refused(path: Path) -> None:
    path.write_bytes(b"steelyard-log " + framed(b"[]"))
    with pytest.raises(StoreError, match="no readable header"):
        list(read_segment(path))


def test_what_is_added_while_reading_is_left_for_the_next_reader(path: Path) -> None:
    path.write_bytes(HEADER + b"".join(_frames(THREE)))
    reader = read_segment(path)
    found = [next(reader)]
    with path.open("ab") as file:
        file.write(framed(b"later") * 3)
    found += reader
    assert found == THREE


def test_a_name_tells_the_start() -> None:
    assert start_of(Path("01a20e21-9020-7e2a-b4b1-0230b800b3eb-17.log")) == 0x01A20E219020
    for other in (
        "notes.log",
        "01a20e21-9020-7e2a-b4b1-0230b800b3eb-17.new",
        "x" * 36 + "-1.log",
    ):
        assert start_of(Path(other)) is None
