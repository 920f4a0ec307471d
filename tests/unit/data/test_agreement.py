"""Training and serving judge a row alike: the check of a table against the row decoder.

The table is checked vectorised, a request by the decoder. What one takes and the other refuses
would be skew, so here both see the same values.
"""

import json
from datetime import UTC, date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steelyard.core.fields import NULL_STRING, FieldSpec, Kind
from steelyard.core.validation import RowDecoder
from steelyard.data.check import check
from steelyard.errors import DataError, InputError
from steelyard.features.columns import columns_of

BOUND = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([-1.5, 0.5, 2.5, 2**53, 2.0**63]))
TIMES = [
    "2013-01-01",
    "2013-02-30",
    "0000-01-01",
    "2013-01-01T10:00:00",
    "2013-01-01 10:00:00.5",
    "2013-01-01t10:00:00.1234567Z",
    "2013-01-01T10:00:00+05:30",
    "2013-01-01T24:00:00Z",
    "9999-12-31T23:59:59.9999999",
    "0001-01-01T00:00:00+05:00",
]
NUMBERS: list[int | float] = [
    0, 1, -1, 2, 5, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1,
    2**64, 0.0, -0.0, 0.5, 1.0, 2.5, 5.0, 1e18, 2.0**63, -(2.0**63), 1e300,
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip


@st.composite
def specs(draw: st.DrawFn, name: str) -> FieldSpec:
    kinds: list[Kind] = ["int", "float", "bool", "str", "date", "datetime"]
    kind = draw(st.sampled_from(kinds))
    limits: dict[str, Any] = {"optional": draw(st.booleans())}
    if kind in ("int", "float"):
        limits |= {limit: draw(BOUND) for limit in ("ge", "gt", "le", "lt")}
        steps = [None, 1, 2, 5] if kind == "int" else [None, 0.5, 0.1, 3]
        limits["multiple_of"] = draw(st.sampled_from(steps))
    if kind == "str":
        limits["min_length"] = draw(st.sampled_from([None, 0, 1, 3]))
        limits["max_length"] = draw(st.sampled_from([None, 1, 4]))
        limits["pattern"] = draw(st.sampled_from([None, "a", "^[a-z]+$", r"\d\Z", r"^\w"]))
    if kind == "datetime":
        limits["aware"] = draw(st.booleans())
    if kind in ("int", "str") and draw(st.booleans()):
        limits["choices"] = (1, 5, 2**53) if kind == "int" else ("a", "bé", "")
    return FieldSpec(name, kind, **limits)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.sampled_from(["", "a", "bé", "5", "true", "abc", "a\n", "12٣", NULL_STRING, *TIMES]),
    st.text(max_size=5),
)


def one_row(values: dict[str, Any]) -> pl.DataFrame:
    """Return a typed table of one row, each column of the value's own type."""
    return pl.DataFrame([pl.Series(name, [value]) for name, value in values.items()])


def decided(decoder: RowDecoder, values: dict[str, Any]) -> tuple[Any, ...] | set[str]:
    """Return the decoder's values, or the fields that it refuses."""
    try:
        return decoder.check_one(values)
    except InputError as error:
        return {found["field"] for found in error.errors}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if a.dtype != b.dtype:
            return False
        # Bit for bit: -0.0 is not 0.0, and every NaN here is the one that stands for null.
        bits = a.dtype != object
        return bool(a.tobytes() == b.tobytes() if bits else a.tolist() == b.tolist())

    return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)


@settings(deadline=None, max_examples=200)
@given(
    fields=st.tuples(specs("a"), specs("b")),
    values=st.fixed_dictionaries({"a": VALUES, "b": VALUES}),
)
def test_a_typed_row_is_judged_as_the_decoder_judges_it(
    fields: tuple[FieldSpec, ...], values: dict[str, Any]
) -> None:
    checked = check(one_row(values), fields)
    verdict = decided(RowDecoder(fields, allow_unknown=False), values)
    assert {fault.field for fault in checked.faults} == (
        verdict if isinstance(verdict, set) else set()
    )
    if isinstance(verdict, tuple):
        assert same(dict(checked.columns), columns_of(fields, [verdict]))


@settings(deadline=None, max_examples=200)
@given(
    field=specs("a"),
    value=st.one_of(st.dates(), st.datetimes(), st.datetimes(timezones=st.just(UTC))),
)
def test_a_typed_time_is_judged_as_the_decoder_judges_it(field: FieldSpec, value: date) -> None:
    checked = check(one_row({"a": value}), [field])
    verdict = decided(RowDecoder([field], allow_unknown=False), {"a": value})
    assert checked.good.tolist() == [isinstance(verdict, tuple)]
    if isinstance(verdict, tuple):
        assert same(dict(checked.columns), columns_of([field], [verdict]))


LITERALS = st.one_of(
    st.from_regex(r"\A-?[0-9]{1,20}(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})?\Z"),
    st.sampled_from([repr(number) for number in NUMBERS]),
    st.sampled_from(
        ["", "-", "+1", ".5", "5.", "1e", "0x1", "1_0", "NaN", "Infinity", "007", "-0"]
    ),
    st.sampled_from(["true", "false", "True", "[1]", "{}", '"5"', "1 2", "5x"]),
)


@settings(deadline=None, max_examples=200)
@given(field=specs("a").filter(lambda f: f.kind in ("int", "float", "bool")), literal=LITERALS)
@example(FieldSpec("a", "int"), "9223372036854775807")
@example(FieldSpec("a", "int"), "9223372036854775808")
@example(FieldSpec("a", "int"), "1e18")
@example(FieldSpec("a", "int", optional=True), "9007199254740993")
@example(FieldSpec("a", "float"), "1e400")
@example(FieldSpec("a", "int", choices=(1, 5, 9), le=3), "2")
def test_text_is_the_literal_that_a_request_would_hold(field: FieldSpec, literal: str) -> None:
    checked = check(pl.DataFrame({"a": [literal]}), [field], text=True)
    if field.kind == "bool":  # a CSV may also say True, False, 1 and 0
        json_text = {"True": "true", "False": "false", "1": "true", "0": "false"}
        literal = json_text.get(literal, literal)
    try:
        verdict = RowDecoder([field], allow_unknown=False).decode_one(
            f'{{"a": {literal or "x"}}}'.encode()
        )
    except InputError:
        assert not checked.good.any()
        return
    assert checked.good.all()
    assert same(dict(checked.columns), columns_of([field], [verdict]))


@settings(deadline=None, max_examples=200)
@given(
    field=specs("a").filter(lambda f: f.kind in ("str", "date", "datetime")),
    text=st.one_of(
        st.sampled_from(TIMES), st.text(max_size=5), st.sampled_from(["abc", "bé", "a1"])
    ),
)
def test_text_of_a_string_or_time_is_judged_as_a_request(field: FieldSpec, text: str) -> None:
    checked = check(pl.DataFrame({"a": [text]}), [field], text=True)
    try:
        verdict = RowDecoder([field], allow_unknown=False).decode_one(
            json.dumps({"a": text}).encode()
        )
    except InputError:
        assert not checked.good.any()
        return
    assert checked.good.all()
    assert same(dict(checked.columns), columns_of([field], [verdict]))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_many_rows_are_judged_as_one_by_one(data: st.DataObject) -> None:
    field = data.draw(specs("a").filter(lambda f: f.kind in ("int", "float")))
    numbers = [float(number) for number in NUMBERS]
    values = data.draw(st.lists(st.one_of(st.none(), st.sampled_from(numbers)), max_size=30))
    checked = check(pl.DataFrame({"a": pl.Series(values, dtype=pl.Float64)}), [field])
    verdicts = [decided(RowDecoder([field], allow_unknown=False), {"a": value}) for value in values]
    good = [verdict for verdict in verdicts if isinstance(verdict, tuple)]
    assert checked.good.tolist() == [isinstance(verdict, tuple) for verdict in verdicts]
    if good:
        assert same(dict(checked.columns), columns_of([field], good))


def test_an_absent_field_is_judged_alike() -> None:
    fields = [FieldSpec("a", "int", default=3), FieldSpec("b", "str", optional=True, default=None)]
    checked = check(pl.DataFrame({"other": [1]}), fields)
    verdict = RowDecoder(fields, allow_unknown=False).check_one({})
    assert same(dict(checked.columns), columns_of(fields, [verdict]))
    required = [FieldSpec("c", "int", optional=True)]
    assert decided(RowDecoder(required, allow_unknown=False), {}) == {"c"}
    with pytest.raises(DataError, match="no column 'c'"):
        check(pl.DataFrame({"other": [1]}), required)


def test_the_null_of_strings_is_refused_by_both() -> None:
    field = FieldSpec("a", "str", optional=True)
    assert decided(RowDecoder([field], allow_unknown=False), {"a": NULL_STRING}) == {"a"}
    assert check(pl.DataFrame({"a": [NULL_STRING]}), [field]).good.tolist() == [False]
    assert np.asarray(check(pl.DataFrame({"a": [None, "x"]}), [field]).good).all()
