import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.keys import check_key
from steelyard.errors import UsageError


@given(st.text(), st.sampled_from(["{}", "a/{}", "{}/b", "a/{}/b"]))
def test_an_accepted_key_stays_inside(text, shape):
    key = shape.format(text)
    try:
        assert check_key(key) == key
    except UsageError:
        return
    parts = key.split("/")
    assert all(part and not part.startswith(".") and part.isascii() for part in parts)
    assert not set(key) & set('\\\0\n\r:*?"<>|% ')


@pytest.mark.parametrize("key", ["a", "a/b.json", "bundles/ab12", "x@y+z=1-2_3", "0", "a" * 200])
def test_plain_keys_are_accepted(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "..", "a/..", ".x", "-x", "a" * 201])
def test_what_could_lead_out_or_hide_is_refused(key):
    with pytest.raises(UsageError, match="a key is parts"):
        check_key(key)
