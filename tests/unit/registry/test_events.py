import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.hashing import canonical_json, hash_bytes
from steelyard.core.seals import seal
from steelyard.errors import IntegrityError, SteelyardError, StoreError
from steelyard.registry.events import event_key, open_event, sequence_of

MEMBERS = {
    "format": 1,
    "model": "churn",
    "seq": 2,
    "previous": "ab",
    "kind": "alias",
    "at": "2026-01-01T00:00:00+00:00",
    "by": "ann",
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


def test_an_event_is_json_that_holds_its_own_hash():
    data = seal(MEMBERS)
    document = json.loads(data)
    digest = document.pop("hash")
    assert document == MEMBERS
    assert digest == hash_bytes(canonical_json(document))
    event = open_event(data, "churn", 2, "ab")
    assert event.hash == digest
    assert event.document() == json.loads(data)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_what_was_sealed_is_opened(extra):
    members = {**extra, **MEMBERS}
    assert open_event(seal(members), "churn", 2, "ab").members == members


def test_every_bit_of_an_event_counts():
    good = seal(MEMBERS)
    for place in range(8 * len(good)):
        changed = bytearray(good)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(IntegrityError, match=r"0000000002\.json"):
            open_event(bytes(changed), "churn", 2, "ab")


@given(st.binary(max_size=200))
def test_no_other_bytes_are_an_event(data):
    with pytest.raises(IntegrityError, match=r"0000000002\.json"):
        open_event(data, "churn", 2, "ab")


@given(VALUES)
def test_a_sealed_document_that_is_no_event_is_refused(value):
    with pytest.raises(SteelyardError):
        open_event(seal({"format": 1, "kind": value}), "churn", 2, "ab")


@pytest.mark.parametrize(
    ("model", "seq", "previous"), [("other", 2, "ab"), ("churn", 3, "ab"), ("churn", 2, None)]
)
def test_an_event_has_one_place(model, seq, previous):
    with pytest.raises(IntegrityError, match=event_key(model, seq)):
        open_event(seal(MEMBERS), model, seq, previous)


def test_a_newer_format_asks_for_an_upgrade():
    with pytest.raises(StoreError, match="Upgrade"):
        open_event(seal({**MEMBERS, "format": 2}), "churn", 2, "ab")


@pytest.mark.parametrize("key", ["ledger/churn/1.json", "0000000001.json~", "00000000010.json"])
def test_another_file_has_no_place(key):
    assert sequence_of(key) is None
    assert sequence_of(event_key("churn", 12)) == 12
