"""Replay: what events add up to, how references are resolved, and damage that is found."""

import json
import time
from pathlib import Path

import pytest

from steelyard.core.reference import Reference
from steelyard.core.seals import seal
from steelyard.errors import IntegrityError, NotFoundError, StoreError, UsageError
from steelyard.registry.events import event_key
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore


def ref(text: str) -> Reference:
    return Reference.parse(text)


def promote(ledger, text):
    return ledger.promote(ref(text), reason="it is better", by="bob")


# Resolving


def test_resolve_by_number_hash_and_alias(ledger, candidate):
    first = candidate(1).register(ledger)
    second = candidate(1, made=2).register(ledger)
    third = candidate(2).register(ledger)
    assert ledger.resolve(ref("churn@1")) == first
    # The newest of those that share the bundle.
    assert ledger.resolve(ref(f"churn@sha256:{first.bundle[:12]}")) == second
    assert ledger.resolve(ref(f"churn@sha256:{third.bundle}")) == third


def test_a_short_hash_may_be_ambiguous(ledger, candidate):
    bundles: dict[str, str] = {}
    for content in range(40):
        given = candidate(content)
        given.register(ledger)
        if given.bundle[0] in bundles:
            break
        bundles[given.bundle[0]] = given.bundle
    reference = Reference("churn", bundle=given.bundle[0])
    with pytest.raises(UsageError, match="Give more of the hash"):
        ledger.resolve(reference)


def test_what_is_not_there_is_told_with_the_nearest(ledger, candidate):
    with pytest.raises(NotFoundError, match="There is none yet"):
        ledger.resolve(ref("churn"))
    version = candidate(1).register(ledger)
    with pytest.raises(NotFoundError, match="Did you mean churn"):
        ledger.resolve(ref("chrun"))
    with pytest.raises(NotFoundError, match="churn@1"):
        ledger.resolve(ref("churn"))
    promote(ledger, "churn@1")
    with pytest.raises(NotFoundError, match="Did you mean champion"):
        ledger.resolve(ref("churn@champoin"))
    with pytest.raises(NotFoundError, match="versions 1 to 1"):
        ledger.resolve(ref("churn@2"))
    with pytest.raises(NotFoundError, match="starts with ffffffff"):
        ledger.resolve(ref("churn@sha256:ffffffff"))
    with pytest.raises(NotFoundError, match=r"Did you mean card\.md"):
        ledger.document(version, "card.txt")
    with pytest.raises(UsageError):
        ledger.resolve(Reference("../churn", version=1))


# Following


def test_tail_is_a_token_of_change_without_a_listing(store, ledger, candidate):
    class Counting(FolderStore):
        listed = 0

        def list(self, prefix):
            self.listed += 1
            return super().list(prefix)

    counting = Counting(store.root)
    follower = Ledger(counting)
    assert follower.tail("churn") == 0
    candidate(1).register(ledger)
    assert follower.tail("churn") == 1
    promote(ledger, "churn@1")
    assert follower.tail("churn") == 2
    listed = counting.listed
    for _ in range(100):
        assert follower.tail("churn") == 2
    assert counting.listed == listed
    assert follower.resolve(ref("churn")).number == 1


def forged(store: FolderStore, model: str, count: int) -> None:
    """Write `count` well-formed events at once, as fast as a test needs."""
    folder = store.root / "ledger" / model
    folder.mkdir(parents=True)
    previous = None
    for seq in range(1, count + 1):
        number = (seq + 1) // 2
        common = {"format": 1, "model": model, "seq": seq, "previous": previous, "id": "00"}
        common |= {"at": "2026-01-01T00:00:00.000000+00:00", "by": "ann"}
        if seq % 2:
            hashes = dict.fromkeys(("bundle", "provenance", "verdict"), f"{number:064x}")
            members = {"kind": "version", "number": number, **hashes, "run": None}
            members |= {"passed": True, "waivers": [], "documents": {"card.md": "0" * 64}}
        else:
            moved = {"move": "promote", "alias": "champion", "reason": "better", "note": ""}
            members = {"kind": "alias", **moved, "from": number - 1 or None, "to": number}
            members["verdict"] = f"{number:064x}"
        data = seal({**common, **members})
        previous = json.loads(data)["hash"]
        (folder / Path(event_key(model, seq)).name).write_bytes(data)


def test_ten_thousand_events_are_replayed_in_a_second(store):
    forged(store, "churn", 10_000)
    took = []
    for _ in range(3):
        started = time.process_time()
        ledger = Ledger(store)
        assert ledger.tail("churn") == 10_000
        took.append(time.process_time() - started)
    assert dict(ledger.aliases("churn")) == {"champion": 5_000}
    assert min(took) < 1.0
    started = time.process_time()
    for _ in range(100):
        ledger.tail("churn")
    assert (time.process_time() - started) / 100 < 0.001


# Damage to the ledger itself


def history_of(ledger, candidate):
    for content in (1, 2):
        candidate(content).register(ledger)
        promote(ledger, f"churn@{content}")
    candidate(3, outcome="failed").register(ledger)
    return ledger.store.root / "ledger" / "churn"


def test_a_changed_byte_in_an_event_is_found(ledger, candidate):
    folder = history_of(ledger, candidate)
    for path in sorted(folder.iterdir()):
        good = path.read_bytes()
        for place in range(0, len(good), 9):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(IntegrityError, match=path.name):
                Ledger(ledger.store).tail("churn")
        for bad in (b"", b"{}", good[:-1], good + b"\n", b"[]" * 50):
            path.write_bytes(bad)
            with pytest.raises(IntegrityError, match=path.name):
                Ledger(ledger.store).tail("churn")
        path.write_bytes(good)
    assert Ledger(ledger.store).tail("churn") == 5


def test_a_missing_event_is_found(ledger, candidate):
    folder = history_of(ledger, candidate)
    paths = sorted(folder.iterdir())
    for path in paths[:-1]:
        good = path.read_bytes()
        path.unlink()
        with pytest.raises(IntegrityError, match=path.name):
            Ledger(ledger.store).versions("churn")
        with pytest.raises(IntegrityError, match=path.name):
            candidate(4).register(ledger)
        path.write_bytes(good)


def test_the_last_event_is_missed_by_who_had_read_it(ledger, candidate):
    folder = history_of(ledger, candidate)
    last = max(folder.iterdir())
    last.unlink()
    with pytest.raises(IntegrityError, match=last.name):
        candidate(4).register(ledger)


def test_events_cannot_be_exchanged_or_carried_over(ledger, candidate):
    folder = history_of(ledger, candidate)
    first, second, third = sorted(folder.iterdir())[:3]
    goods = first.read_bytes(), third.read_bytes()
    first.write_bytes(goods[1])
    third.write_bytes(goods[0])
    with pytest.raises(IntegrityError, match=first.name):
        Ledger(ledger.store).tail("churn")
    first.write_bytes(goods[0])
    third.write_bytes(goods[1])
    candidate(1).register(ledger, "other")
    (folder.parent / "other" / second.name).write_bytes(second.read_bytes())
    with pytest.raises(IntegrityError, match=f"other/{second.name}"):
        Ledger(ledger.store).tail("other")


def test_a_resealed_event_breaks_the_chain_at_the_next(ledger, candidate):
    folder = history_of(ledger, candidate)
    second, third = sorted(folder.iterdir())[1:3]
    members = json.loads(second.read_bytes())
    del members["hash"]
    second.write_bytes(seal({**members, "reason": "another"}))
    with pytest.raises(IntegrityError, match=third.name):
        Ledger(ledger.store).tail("churn")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"to": 3}, IntegrityError),
        ({"to": 9}, IntegrityError),
        ({"to": 0}, IntegrityError),
        ({"to": "1"}, IntegrityError),
        ({"from": 1}, IntegrityError),
        ({"verdict": "0" * 64}, IntegrityError),
        ({"move": "rollback", "to": 2}, IntegrityError),
        ({"kind": "version"}, IntegrityError),
        ({"kind": "verdict", "number": 9}, IntegrityError),
        ({"seq": 7}, IntegrityError),
        ({"kind": "seance"}, StoreError),
        ({"format": 2}, StoreError),
    ],
)
def test_a_well_sealed_event_that_breaks_the_rules_is_refused(ledger, candidate, changes, error):
    folder = history_of(ledger, candidate)
    events = sorted(folder.iterdir())
    members = json.loads(events[3].read_bytes())
    good = {
        **members,
        "seq": 6,
        "from": 2,
        "to": 1,
        "previous": json.loads(events[4].read_bytes())["hash"],
    }
    good["verdict"] = ledger.resolve(ref("churn@1")).verdict
    del good["hash"]
    forgery = folder / "0000000006.json"
    forgery.write_bytes(seal({**good, **changes}))
    with pytest.raises(error, match=forgery.name):
        Ledger(ledger.store).tail("churn")
    forgery.write_bytes(seal(good))
    assert Ledger(ledger.store).resolve(ref("churn")).number == 1


def test_a_changed_document_is_found(ledger, candidate):
    version = candidate(1).register(ledger)
    path = ledger.store.root / "documents" / ledger.documents(version)["card.md"]
    path.write_bytes(b"# a better model\n")
    with pytest.raises(IntegrityError, match=path.name):
        ledger.document(version, "card.md")
    path.unlink()
    with pytest.raises(IntegrityError, match=path.name):
        ledger.document(version, "card.md")
