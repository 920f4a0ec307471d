"""One canonical form, one hash."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.hashing import canonical_json, file_hash, hash_bytes, hash_json

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(documents)
def test_the_canonical_form_reads_back_and_is_a_fixed_point(document: Any) -> None:
    form = canonical_json(document)
    assert json.loads(form) == document
    assert canonical_json(json.loads(form)) == form


def test_order_of_keys_does_not_matter_and_values_do() -> None:
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json(float("nan"))


def test_a_file_hashes_as_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert file_hash(tmp_path / "f") == hash_bytes(b"abc" * 100_000)
