"""A row's values reach the server as what they are, or as what it refuses; never as another value."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.client.rows import encode
from steelyard.core.fields import FieldSpec
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError, UsageError

FIELDS = (
    FieldSpec("whole", "int"),
    FieldSpec("number", "float", optional=True),
    FieldSpec("word", "str", optional=True),
    FieldSpec("truth", "bool", optional=True),
    FieldSpec("day", "date", optional=True),
    FieldSpec("at", "datetime", optional=True, aware=True),
)
DECODER = RowDecoder(FIELDS, allow_unknown=False)
REST = dict.fromkeys(("number", "word", "truth", "day", "at"))


def read_back(**values: Any) -> dict[str, Any]:
    body = encode({"whole": 1, **REST, **values}, None)
    found = DECODER.decode_one(body)
    names = [field.name for field in FIELDS]
    return {name: found[names.index(name)] for name in values}


@pytest.mark.parametrize(
    "values",
    [
        {"whole": 2**53 - 1, "number": 0.1, "word": 'é"\n', "truth": True},
        {"day": date(2026, 11, 24), "at": datetime(2026, 11, 24, 1, 2, 3, 4, tzinfo=UTC)},
        {"whole": Decimal(7), "number": Decimal("0.1")},
        {"whole": np.int64(7), "number": np.float32(0.5), "truth": np.bool_(False)},
        {"number": np.float64(1e300), "word": np.str_("x")},
        {"at": np.datetime64("2026-11-24T01:02:03", "s").astype(datetime).replace(tzinfo=UTC)},
    ],
)
def test_values_are_read_back_as_they_were(values) -> None:
    wanted = {k: float(v) if k == "number" else v for k, v in values.items()}
    assert read_back(**values) == wanted


@pytest.mark.parametrize(
    "number", [float("nan"), np.float64("inf"), Decimal("NaN"), Decimal("-Infinity")]
)
def test_what_is_not_finite_is_refused_by_name_and_never_null(number) -> None:
    with pytest.raises(InputError, match="number: expected a number"):
        read_back(number=number)


def test_text_that_is_no_unicode_is_refused_by_the_server() -> None:
    with pytest.raises(InputError, match="word: expected text in UTF-8"):
        read_back(word="\ud800")


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, 1j])
def test_what_has_no_form_is_not_sent(value) -> None:
    with pytest.raises(UsageError, match=f"type {type(value).__name__} has no form"):
        encode({"whole": value}, None)


def test_an_instance_is_sent_with_its_defaults() -> None:
    class House(sy.Row):
        rooms: int
        garden: bool = False

    assert json.loads(encode(House(rooms=2), None)) == {"rooms": 2, "garden": False}


def test_a_check_lists_what_is_wrong() -> None:
    with pytest.raises(InputError) as refused:
        encode({"whole": "1", "extra": 2, **REST}, DECODER)
    assert [error["field"] for error in refused.value.errors] == ["whole", "extra"]
