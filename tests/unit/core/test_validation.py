"""The fast validator, the slow one and an oracle written without msgspec agree on every body."""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError

WORDS = ("basic", "pro", "One year", "é", "")


def errors_of(call: Any, *given: Any) -> list[dict[str, Any]]:
    with pytest.raises(InputError) as caught:
        call(*given)
    return caught.value.errors


def refusal(call: Any, *given: Any) -> list[dict[str, Any]] | None:
    try:
        call(*given)
    except InputError as error:
        return error.errors
    return None


def fields_named(call: Any, *given: Any) -> set[str]:
    return {error["field"] for error in errors_of(call, *given)}


# The oracle: the rules of strict input, said once more in plain Python.


def allowed(spec: FieldSpec, value: Any) -> bool:
    if value is None:
        return spec.optional
    return ORACLES[spec.kind](spec, value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return _number(value) and math.isfinite(_as_float(value)) and value == int(value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _int_allowed(spec: FieldSpec, value: int) -> bool:
    low, high = spec.int_bounds
    chosen = spec.choices is None or value in spec.choices
    return low <= value <= high and chosen and _limits(spec, value)


def _limits(spec: FieldSpec, value: float) -> bool:
    return (
        (spec.ge is None or value >= spec.ge)
        and (spec.gt is None or value > spec.gt)
        and (spec.le is None or value <= spec.le)
        and (spec.lt is None or value < spec.lt)
        and (spec.multiple_of is None or math.fmod(value, spec.multiple_of) == 0)
    )


def _str_allowed(spec: FieldSpec, value: str) -> bool:
    return (
        (spec.choices is None or value in spec.choices)
        and (spec.min_length is None or len(value) >= spec.min_length)
        and (spec.max_length is None or len(value) <= spec.max_length)
        and (spec.pattern is None or re.search(spec.pattern, value) is not None)
    )


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_date(value: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_time(value: str, aware: bool) -> bool:
    shape = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)?"
    if not re.fullmatch(shape, value, re.ASCII):
        return False
    try:
        found = datetime.fromisoformat(value.upper())
        if found.tzinfo is not None:
            found.astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return (found.tzinfo is not None) == aware


def _text_oracle(spec: FieldSpec, value: Any) -> bool:
    if not isinstance(value, str) or not _encodes(value):
        return False
    if spec.kind == "str":
        return value != NULL_STRING and _str_allowed(spec, value)
    return _is_date(value) if spec.kind == "date" else _is_time(value, spec.aware)


ORACLES: dict[str, Callable[[FieldSpec, Any], bool]] = {
    "bool": lambda spec, value: isinstance(value, bool),
    "int": lambda spec, value: _whole(value) and _int_allowed(spec, int(value)),
    "float": lambda spec, value: (
        _number(value) and math.isfinite(_as_float(value)) and _limits(spec, float(value))
    ),
    "str": _text_oracle,
    "date": _text_oracle,
    "datetime": _text_oracle,
}


# Schemas and rows, good and hostile.

limit = st.integers(-20, 20) | st.sampled_from([-0.5, 0.5, 2.5, 1e6])


@st.composite
def specs(draw: st.DrawFn, name: str) -> FieldSpec:
    kind = draw(st.sampled_from(["int", "float", "bool", "str", "date", "datetime"]))
    optional = draw(st.booleans())
    given: dict[str, Any] = {"optional": optional}
    if optional and draw(st.booleans()):
        given["default"] = None
    if kind in ("int", "float"):
        for bound in draw(st.sets(st.sampled_from(["ge", "gt", "le", "lt"]), max_size=2)):
            given[bound] = draw(limit)
        if draw(st.integers(0, 4)) == 0:
            given["multiple_of"] = draw(st.sampled_from([1, 2, 5, 0.5, 2.5]))
        if kind == "int" and draw(st.integers(0, 3)) == 0:
            given["choices"] = tuple(draw(st.sets(st.integers(-5, 5), min_size=1)))
    if kind == "str":
        if draw(st.booleans()):
            given["choices"] = draw(st.sampled_from([WORDS, WORDS[:1], WORDS[2:4]]))
        if draw(st.integers(0, 3)) == 0:
            given["min_length"] = draw(st.integers(0, 3))
            given["max_length"] = draw(st.integers(2, 6))
        if draw(st.integers(0, 3)) == 0:
            given["pattern"] = draw(st.sampled_from(["^[a-z]", "o", r"\d$"]))
    given["aware"] = kind == "datetime" and draw(st.booleans())
    return FieldSpec(name, kind, **given)


names = st.lists(
    st.sampled_from(["tenure", "Contract", "a", "f0", "__init__", "class", "é", "x:y"]),
    min_size=1,
    max_size=4,
    unique=True,
)
schemas = names.flatmap(lambda found: st.tuples(*(specs(name) for name in found)))

texts = st.sampled_from(
    [*WORDS, NULL_STRING, f"x{NULL_STRING}", "5", "true", "a:b", 'say ":x"', "\ud800", "a1", "\0"]
) | st.text(max_size=5)
numbers = (
    st.integers(-8, 8)
    | st.integers(-8, 8).map(float)
    | st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63, 10**400, 0.1, -0.5, 2.5, 1e300, 5e-324])
    | st.floats()
)
moments = st.sampled_from(
    [
        "2024-02-29",
        "2023-02-29",
        "0001-01-01",
        "20240101",
        "2024-01-01T00:00:00",
        "2024-01-01 23:59:59.123456",
        "2024-01-01T00:00:00Z",
        "2024-01-01t00:00:00-12:30",
        "0001-01-01T00:00:00+02:00",
        "9999-12-31T23:59:59-00:30",
        "2024-01-01T24:00:00",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00",
    ]
)
anything = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | moments
    | st.sampled_from([[], {}, [1, "rows"], {"a": {"a": 1}}])
)


@st.composite
def fitting(draw: st.DrawFn, spec: FieldSpec) -> Any:
    """A value that the field often allows, so that the accepting paths are walked as well."""
    if spec.choices is not None:
        return draw(st.sampled_from(spec.choices))
    likely = {
        "int": st.integers(-20, 20),
        "float": st.floats(-20, 20) | st.integers(-20, 20),
        "bool": st.booleans(),
        "str": st.sampled_from(WORDS) | st.text(max_size=4),
        "date": st.dates().map(date.isoformat),
        "datetime": st.datetimes(
            datetime(2, 1, 1), timezones=st.just(UTC) if spec.aware else st.none()
        ).map(datetime.isoformat),
    }
    return draw(likely[spec.kind])


@st.composite
def requests(draw: st.DrawFn) -> tuple[tuple[FieldSpec, ...], bool, list[tuple[str, Any]]]:
    """A schema, whether it allows unknown fields, and the pairs of an object, maybe repeated."""
    schema = draw(schemas)
    pairs: list[tuple[str, Any]] = []
    for spec in schema:
        if draw(st.integers(0, 9)):
            good = fitting(spec)
            pairs.append((spec.name, draw(good if draw(st.integers(0, 3)) else anything)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        name = draw(st.sampled_from(["extra", "tenur", "A", schema[0].name]))
        pairs.append((name, draw(anything)))
    return schema, draw(st.booleans()), draw(st.permutations(pairs))


def written(pairs: list[tuple[str, Any]], ascii_only: bool, blank: str) -> bytes:
    parts = [
        f"{json.dumps(name, ensure_ascii=ascii_only)}{blank}:{blank}"
        + json.dumps(value, ensure_ascii=ascii_only)
        for name, value in pairs
    ]
    return ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")


def expected_bad(
    schema: tuple[FieldSpec, ...], allow_unknown: bool, pairs: list[tuple[str, Any]]
) -> set[str]:
    row = dict(pairs)
    bad = {name for name in row if sum(other == name for other, _ in pairs) > 1}
    for spec in schema:
        if spec.name not in row:
            bad |= {spec.name} if spec.required else set()
        elif not allowed(spec, row[spec.name]):
            bad.add(spec.name)
    if not allow_unknown:
        bad |= row.keys() - {spec.name for spec in schema}
    return bad


@settings(max_examples=300, deadline=None)
@given(requests(), st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_both_validators_and_the_oracle_agree(request_, ascii_only, blank):
    schema, allow_unknown, pairs = request_
    body = written(pairs, ascii_only, blank)
    decoder = RowDecoder(schema, allow_unknown=allow_unknown)
    # JSON has no NaN and no lone surrogate: such a body is refused even in an ignored field.
    ignored = [
        value
        for name, value in pairs
        if (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, str) and not _encodes(value))
        if allow_unknown and name not in {spec.name for spec in schema}
    ]
    bad = expected_bad(schema, allow_unknown, pairs)
    fast = decoder._decode_fast(body)
    if fast is not None:
        assert not bad
        assert same(fast, decoder._decode_slow(body))
    if bad or ignored:
        refused = refusal(decoder.decode_one, body)
        if refused is None:  # bytes of an ignored field, that no one decodes
            assert not bad
        else:
            named = {error["field"] for error in refused}
            assert named <= bad | {"body"}
            # A body that is no JSON may hide repeated keys; every other bad field is named.
            assert named == bad or "body" in named or len(dict(pairs)) < len(pairs)
    else:
        values = decoder.decode_one(body)
        assert len(values) == len(schema)
        if fast is None:  # the only good reason: an int was written 5.0
            row = dict(pairs)
            assert any(s.kind == "int" and type(row.get(s.name)) is float for s in schema)


def same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return first == second and [type(a) for a in first] == [type(b) for b in second]


@settings(max_examples=300, deadline=None)
@given(requests())
def test_python_objects_are_judged_like_their_json(request_):
    schema, allow_unknown, pairs = request_
    row = dict(pairs)
    decoder = RowDecoder(schema, allow_unknown=allow_unknown)
    bad = expected_bad(schema, allow_unknown, [*row.items()])
    fast = decoder._convert_fast(row)
    if fast is not None:
        assert not bad
        assert same(fast, decoder._checked(row, lambda check, value: check.from_python(value)))
    if bad:
        assert fields_named(decoder.check_one, row) == bad
    else:
        values = decoder.check_one(row)
        clean = {s.name: row[s.name] for s in schema if s.name in row}
        assert same(values, decoder.decode_one(written([*clean.items()], True, "")))


@settings(max_examples=200, deadline=None)
@given(schemas, st.booleans(), st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@example((FieldSpec("a", "int"),), False, b'{"a":' + b"[" * 100_000)
@example((FieldSpec("a", "int"),), True, b'{"b":' + b'{"b":' * 50_000)
@example((FieldSpec("a", "int"),), False, b'{"a":1' + b"0" * 5_000 + b"}")
@example((FieldSpec("a", "float"),), False, b'{"a":1' + b"0" * 5_000 + b"}")
@example((FieldSpec("a", "int"),), False, b'{"rows":[' + b"[" * 100_000)
def test_no_bytes_crash_any_way_in(schema, allow_unknown, body):
    decoder = RowDecoder(schema, allow_unknown=allow_unknown)
    for call in (decoder.decode_one, decoder.decode_many, decoder.decode):
        errors = refusal(call, body)
        assert errors is None or errors
        json.dumps(errors, allow_nan=False).encode()
        assert all(len(json.dumps(error)) < 1200 for error in errors or ())


@settings(max_examples=200, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=4), st.booleans())
def test_rows_are_judged_as_if_they_came_alone(found, ascii_only):
    schema, allow_unknown, _ = found[0]
    decoder = RowDecoder(schema, allow_unknown=allow_unknown)
    bodies = [written(pairs, ascii_only, "") for _, _, pairs in found]
    table = b'{"rows": [' + b", ".join(bodies) + b"]}"
    refused = refusal(decoder.decode_many, table)
    if refused:
        assert {error["field"] for error in refused} == {"body"}
        return
    outcomes = decoder.decode_many(table)
    assert len(outcomes) == len(bodies)
    for outcome, body in zip(outcomes, bodies, strict=True):
        if isinstance(outcome, InputError):
            assert errors_of(decoder.decode_one, body) == outcome.errors
        else:
            assert same(outcome, decoder.decode_one(body))


def one(kind: Any, **given: Any) -> RowDecoder:
    return RowDecoder([FieldSpec("x", kind, **given)], allow_unknown=False)


@pytest.mark.parametrize(
    ("spec", "body", "value"),
    [
        ({"kind": "float"}, b"5", 5.0),
        ({"kind": "int"}, b"5.0", 5),
        ({"kind": "int"}, b"1e3", 1000),
        ({"kind": "int", "choices": (1, 5)}, b"5.0", 5),
        ({"kind": "int"}, b"-9223372036854775808", -(2**63)),
        ({"kind": "int", "optional": True}, b"9007199254740992", 2**53),
        ({"kind": "str", "optional": True}, b"null", None),
        ({"kind": "str"}, b'""', ""),
        ({"kind": "date"}, b'"2024-02-29"', date(2024, 2, 29)),
        (
            {"kind": "datetime", "aware": True},
            b'"2024-01-01T01:00:00+02:00"',
            datetime(2023, 12, 31, 23, tzinfo=UTC),
        ),
        ({"kind": "datetime"}, b'"2024-01-01T01:00:00"', datetime(2024, 1, 1, 1)),
    ],
)
def test_what_is_accepted(spec, body, value):
    found = one(**spec).decode_one(b'{"x":' + body + b"}")
    assert found == (value,)
    assert type(found[0]) is type(value)


@pytest.mark.parametrize(
    ("spec", "body", "message", "got"),
    [
        ({"kind": "int", "ge": 0}, b"-1", "expected an integer >= 0", -1),
        ({"kind": "int"}, b'"5"', "expected an integer", "5"),
        ({"kind": "int"}, b"true", "expected an integer", True),
        ({"kind": "int"}, b"5.5", "expected an integer", 5.5),
        (
            {"kind": "int"},
            b"9223372036854775808",
            "expected an integer between -9223372036854775808 and 9223372036854775807",
            "an integer of 64 bits",
        ),
        (
            {"kind": "int", "optional": True},
            b"9007199254740993",
            "expected an integer or null between -9007199254740992 and 9007199254740992",
            9007199254740993,
        ),
        ({"kind": "float", "gt": 0, "le": 2.5}, b"3", "expected a number > 0 and <= 2.5", 3),
        ({"kind": "float"}, b"1e999", "expected a number", "1e999"),
        ({"kind": "float"}, b"NaN", "expected a number", "NaN"),
        ({"kind": "float"}, b"-Infinity", "expected a number", "-Infinity"),
        ({"kind": "bool"}, b"1", "expected true or false", 1),
        ({"kind": "str"}, b"null", "expected text", None),
        (
            {"kind": "str", "choices": ("One year", "Two year")},
            b'"One yaer"',
            "expected one of 'One year', 'Two year'. Did you mean One year?",
            "One yaer",
        ),
        (
            {"kind": "str", "max_length": 2, "pattern": "^a"},
            b'"abc"',
            "expected text of at most 2 characters and that matches ^a",
            "abc",
        ),
        ({"kind": "str"}, b'"\xff"', "expected text in UTF-8", '"\\xff"'),
        ({"kind": "str"}, b'"\\ud800"', "expected valid Unicode text", "\\ud800"),
        ({"kind": "date"}, b'"2023-02-29"', "expected a date like 2026-11-24", "2023-02-29"),
        (
            {"kind": "datetime", "aware": True},
            b'"2024-01-01T00:00:00"',
            "expected a time with its UTC offset, like 2026-11-24T15:04:05Z",
            "2024-01-01T00:00:00",
        ),
    ],
)
def test_a_refusal_says_what_was_expected(spec, body, message, got):
    decoder = one(**spec)
    assert errors_of(decoder.decode_one, b'{"x":' + body + b"}") == [
        {"field": "x", "message": message, "got": got}
    ]


def test_the_null_string_is_refused_raw_and_escaped_but_not_inside_a_text():
    decoder = one("str")
    for text in (NULL_STRING, "\\ufdd0", "\\uFDD0"):
        assert fields_named(decoder.decode_one, f'{{"x":"{text}"}}'.encode()) == {"x"}
    assert decoder.decode_one(f'{{"x":"a{NULL_STRING}"}}'.encode()) == (f"a{NULL_STRING}",)
    assert fields_named(decoder.check_one, {"x": NULL_STRING}) == {"x"}


@pytest.mark.parametrize(
    "body", [b'{"x":1,"x":2}', b'{"x":1,"\\u0078":2}', b'{"x" : "bad" ,"x":2}', b'{"x" :1,"x":1}']
)
def test_a_repeated_key_is_refused(body):
    assert errors_of(one("int").decode_one, body)[-1] == {
        "field": "x",
        "message": "expected once; the object repeats it",
        "got": None,
    }


def test_an_absent_field_with_a_default_hides_no_repeated_key():
    fields = [FieldSpec("a", "int"), FieldSpec("b", "float", default=1)]
    decoder = RowDecoder(fields, allow_unknown=False)
    assert decoder.decode_one(b'{"a":1}') == (1, 1.0)
    assert fields_named(decoder.decode_one, b'{"a":1,"a":1}') == {"a"}


def test_unknown_fields_offer_the_nearest_name_and_are_bounded():
    decoder = RowDecoder([FieldSpec("tenure", "int")], allow_unknown=False)
    many = {f"k{i}": i for i in range(5000)}
    found = errors_of(decoder.decode_one, json.dumps({"tenur": 5, **many}).encode())
    assert found[0]["message"] == "expected an integer; it is missing"
    assert found[1]["message"] == "unknown field. Did you mean tenure?"
    assert found[-1]["message"] == "and 4981 more unknown fields"
    assert len(found) < 30


def test_unknown_fields_are_ignored_where_the_definition_allows_them():
    decoder = RowDecoder([FieldSpec("a", "int")], allow_unknown=True)
    assert decoder.decode_one(b'{"z":{"a":[1]},"a":1,"y":"\\ufdd0"}') == (1,)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected a JSON object; the body is empty"),
        (b"[1]", "expected a JSON object with one member a field"),
        (b'\xef\xbb\xbf{"x":1}', "expected JSON without a byte order mark"),
        (b'{"x":1}x', "expected valid JSON: trailing characters (byte 8)"),
        (b'{"x":1,}', "expected valid JSON: trailing comma in object (byte 7)"),
    ],
)
def test_a_body_that_is_no_object_is_one_error(body, message):
    found = errors_of(one("int").decode_one, body)
    assert [(error["field"], error["message"]) for error in found] == [("body", message)]


def test_rows_are_told_from_one_row_by_their_key():
    decoder = RowDecoder([FieldSpec("a", "str", default="rows")], allow_unknown=True)
    assert decoder.decode(b'{"a":"rows"}') == ("rows",)
    assert decoder.decode(b'{"rows":[{}]}') == [("rows",)]
    assert decoder.decode(b'{"\\u0072ows":[{"a":"b"}]}') == [("b",)]
    assert decoder.decode(b"{}") == ("rows",)


@pytest.mark.parametrize("row", [b'{"x":1}', b"{}", b"1"])
def test_more_rows_than_allowed_are_refused(row):
    body = b'{"rows":[' + b",".join([row] * 4) + b"]}"
    for decoder in (one("int"), one("int", default=1)):
        found = errors_of(lambda d=decoder: d.decode_many(body, max_rows=3))
        assert found[0]["field"] == "rows"
        assert found[0]["message"] == "expected at most 3 rows"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"rows":{}}', "rows"),
        (b'{"rows":5}', "rows"),
        (b'{"rows":[{"x":1}],"y":1}', "body"),
        (b'{"rows":[{"x":1}]} x', "body"),
        (b'{"rows":[{"x":1}', "body"),
        (b'{"rows":[{"x":1} {"x":1}]}', "body"),
        (b'{"rows":[],"rows":[]}', "rows"),
    ],
)
def test_a_broken_list_of_rows_is_refused_whole(body, field):
    assert fields_named(one("int").decode_many, body) == {field}


def test_nan_in_one_of_many_rows_is_named_in_that_row():
    good, bad = one("float").decode_many(b'{"rows":[{"x":1},{"x":NaN}]}')
    assert good == (1.0,)
    assert isinstance(bad, InputError)
    assert bad.errors == [{"field": "x", "message": "expected a number", "got": "NaN"}]


def test_a_good_row_of_plain_objects_takes_the_short_way():
    spec = [FieldSpec("x", "float"), FieldSpec("s", "str"), FieldSpec("d", "date", default=None)]
    decoder = RowDecoder(spec, allow_unknown=False)
    assert decoder._convert_fast({"x": 5, "s": "é"}) == (5.0, "é", None)
    for row in ({"x": math.nan, "s": ""}, {"x": 1.0, "s": "\ud800"}, {"x": 1.0, "s": NULL_STRING}):
        assert decoder._convert_fast(row) is None


def test_python_objects_of_tables_are_read():
    fields = [
        FieldSpec("i", "int", optional=True),
        FieldSpec("f", "float"),
        FieldSpec("d", "date"),
        FieldSpec("t", "datetime", aware=True),
    ]
    decoder = RowDecoder(fields, allow_unknown=False)
    row = {
        "i": Decimal("5.00"),
        "f": Decimal("0.5"),
        "d": datetime(2024, 1, 1),
        "t": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    }
    assert decoder.check_one(row) == (
        5,
        0.5,
        date(2024, 1, 1),
        datetime(2023, 12, 31, 22, tzinfo=UTC),
    )
    wrong = {"i": math.nan, "f": math.inf, "d": datetime(2024, 1, 1, 1), "t": datetime(2024, 1, 1)}
    assert fields_named(decoder.check_one, wrong) == {"i", "f", "d", "t"}


def test_bounds_that_nothing_meets_refuse_everything():
    for bounds in ({"gt": 2**63 - 1}, {"ge": 5, "le": 4}, {"ge": 0.2, "le": 0.8}):
        for number in (b"0", b"1", b"5", b"9223372036854775807"):
            assert fields_named(one("int", **bounds).decode_one, b'{"x":' + number + b"}") == {"x"}
