import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.testing.conformance.answers import same
from steelyard.testing.conformance.talk import Violation
from steelyard.testing.conformance.tensors import (
    FORMATS,
    Input,
    checked_output,
    from_binary,
    inputs_of,
    sample_rows,
    tensor,
    to_binary,
)


@given(st.lists(st.text()))
def test_texts_survive_the_binary_form(texts):
    assert from_binary("BYTES", to_binary("BYTES", texts)) == texts


@pytest.mark.parametrize("datatype", list(FORMATS))
def test_numbers_survive_the_binary_form(datatype):
    values = [True, False] if datatype == "BOOL" else [1, 100]
    assert from_binary(datatype, to_binary(datatype, values)) == values


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT32", b"abc"),
        ("BYTES", b"\x05\0\0\0ab"),
        ("BYTES", b"\x01\0"),
        ("BYTES", b"\1\0\0\0\xff"),
    ],
)
def test_broken_binary_data_are_a_violation(datatype, data):
    with pytest.raises(Violation):
        from_binary(datatype, data)


def test_metadata_tell_the_inputs_and_rows_fill_them():
    entries = [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "BYTES", "shape": [-1]},
    ]
    inputs = inputs_of({"inputs": entries}, None)
    rows = [{"a": [1, 2], "b": "x"}, {"a": [None, 4], "b": None}]
    assert tensor(inputs[1], rows) == {
        "name": "b", "datatype": "BYTES", "shape": [2], "data": ["x", ""],
    }  # fmt: skip
    made = tensor(inputs[0], rows)
    assert made["shape"] == [2, 2]
    assert same(made["data"], [1.0, 2.0, math.nan, 4.0])
    assert all(len(row["a"]) == 2 for row in sample_rows(inputs))


def test_without_metadata_rows_tell_the_inputs():
    assert inputs_of({}, [{"x": [[1.5, 2.5]], "y": True}]) == (
        Input("x", "FP64", (-1, 1, 2)),
        Input("y", "BOOL", (-1,)),
    )
    assert inputs_of({}, None) == ()


GOOD = {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [[1.5], [2]]}


def test_a_good_output_gives_its_values():
    assert checked_output(GOOD, 2) == [1.5, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"datatype": "FLOAT"},
        {"shape": [3, 1]},
        {"shape": "2"},
        {"data": None},
        {"data": [True, False]},
        {"datatype": "INT64"},
        {"datatype": "BOOL"},
        {"datatype": "BYTES"},
        {"name": "y", "shape": [1, 2]},
    ],
)
def test_a_bad_output_is_a_violation(change):
    with pytest.raises(Violation):
        checked_output(GOOD | change, 2)


def test_numbers_are_the_same_within_the_bound_and_labels_only_as_they_are():
    assert same({"a": [1, math.nan]}, {"a": [1.000001, math.nan]})
    assert not same(1.0, 1.001)
    assert not same(True, 1)
    assert not same("1", 1)
    assert not same([1], [1, 1])
    assert not same({"a": 1}, {"b": 1})
