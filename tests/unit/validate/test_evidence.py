"""Evidence is plain JSON, bounded, and without private values."""

import json

import numpy as np

from steelyard.core.fields import FieldSpec
from steelyard.validate.evidence import found, plain, plain_check, public_rows


def test_everything_becomes_json() -> None:
    value = {
        "a": np.float32(0.5), "b": np.array([1, 2]), "c": float("inf"), "d": np.bool_(True),
        "e": {np.int64(3): np.nan}, "f": "x" * 1000, "g": "\ud800", "h": np.datetime64("2020-01-01"),
        "i": {1, 2}, "j": object,
    }  # fmt: skip
    text = json.dumps(plain(value), allow_nan=False)
    read = json.loads(text)
    assert read["a"] == 0.5
    assert read["c"] == "inf"
    assert read["d"] is True
    assert read["e"] == {"3": None}
    assert len(read["f"]) == 500
    assert read["h"] == "2020-01-01"


def test_a_check_is_made_plain() -> None:
    check = plain_check(found("schema", "x", True, "Told.", value=np.nan))
    assert check.value is None
    assert check.evidence == {"message": "Told."}


def test_private_fields_do_not_become_evidence() -> None:
    fields = [FieldSpec("name", "str", private=True), FieldSpec("note", "str")]
    rows = public_rows(fields, [{"name": "Ada", "note": "n" * 100}] * 9)
    assert rows == [{"note": "n" * 40}] * 5
