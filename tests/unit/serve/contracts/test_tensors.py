import contextlib
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from steelyard.core.fields import FieldSpec
from steelyard.errors import UsageError
from steelyard.serve.contracts.tensors import Tensor, datatype_of, raw_bytes, raw_values, rows_of

NUMBERS = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BOOL": "?",
}  # fmt: skip
FIELDS = [
    FieldSpec("age", "int"),
    FieldSpec("score", "float", optional=True),
    FieldSpec("city", "str", optional=True),
    FieldSpec("since", "date"),
    FieldSpec("known", "bool", optional=True),
]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_raw_numbers_are_little_endian_whatever_the_machine_is(datatype):
    values = [True, False] if datatype == "BOOL" else [1, 100]
    raw = struct.pack(f"<2{NUMBERS[datatype]}", *values)
    found = raw_values("x", datatype, raw, 2)
    assert found == values
    assert type(found[0]) in (bool, int, float)
    assert raw_bytes(datatype, values) == raw


@given(st.lists(st.text(max_size=9)))
def test_raw_texts_are_those_of_the_protocols_own_client(texts):
    theirs = serialize_byte_tensor(np.array(texts, dtype=np.object_))
    raw = theirs.item() if theirs.size else b""
    assert raw_bytes("BYTES", texts) == raw
    assert raw_values("x", "BYTES", raw, len(texts)) == texts
    assert [text.decode() for text in deserialize_bytes_tensor(raw)] == texts


@pytest.mark.parametrize(
    ("datatype", "raw", "count"),
    [
        ("FP64", bytes(7), 1),
        ("FP64", bytes(16), 1),
        ("INT64", b"", 1),
        ("INT32", bytes(4), 2**62),
        ("BOOL", b"\x02", 1),
        ("BYTES", b"", 1),
        ("BYTES", bytes(3), 1),
        ("BYTES", bytes(4), 0),
        ("BYTES", bytes(8), 1),
        ("BYTES", struct.pack("<I", 5) + b"four", 1),
        ("BYTES", struct.pack("<I", 2**32 - 1), 1),
        ("BYTES", struct.pack("<I", 1) + b"\xff", 1),
        ("BYTES", bytes(4), 2**62),
    ],
)
def test_bytes_that_are_not_the_tensor_are_refused_with_its_name(datatype, raw, count):
    with pytest.raises(UsageError, match="input age: "):
        raw_values("age", datatype, raw, count)


@given(st.sampled_from([*NUMBERS, "BYTES"]), st.binary(max_size=40), st.integers(0, 9))
def test_any_bytes_are_that_many_values_or_refused(datatype, raw, count):
    with contextlib.suppress(UsageError):
        assert len(raw_values("x", datatype, raw, count)) == count


def test_nan_and_the_empty_text_are_null_where_there_is_a_null():
    raw = {
        "age": np.array([3, 4]),
        "score": np.array([np.nan, 0.5]),
        "city": ["", "Oslo"],
        "since": ["2024-01-01", ""],
        "known": np.array([np.nan, 1.0]),
    }
    tensors = [
        Tensor(f.name, datatype_of(f), [2, 1], raw_bytes(datatype_of(f), raw[f.name]))
        for f in FIELDS
    ]
    assert rows_of(FIELDS, tensors) == [
        {"age": 3, "score": None, "city": None, "since": "2024-01-01", "known": None},
        {"age": 4, "score": 0.5, "city": "Oslo", "since": "", "known": True},
    ]


def test_nan_where_there_is_no_null_is_left_to_the_row_check():
    (row,) = rows_of([FieldSpec("x", "float")], [Tensor("x", "FP32", [1], [math.nan])])
    assert math.isnan(row["x"])


@pytest.mark.parametrize("shape", [[], [-1], [2], [1, 2], [1, 0], [0, 1], [1, -1, -1]])
def test_a_shape_that_is_no_column_of_the_data_is_refused(shape):
    with pytest.raises(UsageError, match="input x: "):
        rows_of([FieldSpec("x", "float")], [Tensor("x", "FP64", shape, bytes(8))])
