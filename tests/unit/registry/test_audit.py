import os
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.core.reference import Reference
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger


def told(ledger):
    return {(f.state, f.where) for f in audit(ledger)}


@pytest.fixture
def full(ledger, candidate):
    candidate(1).register(ledger)
    candidate(2, outcome="failed").register(ledger)
    candidate(2).register(ledger)
    candidate(1).register(ledger, "flights")
    for ref in ("churn@1", "churn@2", "flights@1"):
        ledger.promote(Reference.parse(ref), reason="better", by="ann")
    ledger.rollback("churn", reason="worse", by="ann")
    return ledger


def test_nothing_is_wrong(ledger, full):
    assert audit(full) == []
    assert audit(Ledger(full.store)) == []


def test_an_empty_store_is_well(ledger):
    assert audit(ledger) == []


def test_every_changed_or_missing_file_is_named(full):
    root = full.store.root
    places = sorted(path for path in root.rglob("*") if path.is_file())
    assert {path.relative_to(root).parts[0] for path in places} == {
        "bundles",
        "documents",
        "ledger",
        "provenance",
        "verdicts",
    }
    for path in places:
        name = path.relative_to(root).as_posix()
        good = path.read_bytes()
        changed = bytes([good[0] ^ 1]) + good[1:] if good else b"x"
        path.write_bytes(changed)
        errors = [f for f in audit(full) if f.state == "error"]
        assert errors, name
        assert any(name in f.message for f in errors), (name, errors)
        path.unlink()
        findings = audit(full)
        if name in ("ledger/churn/0000000006.json", "ledger/flights/0000000002.json"):
            # Nothing follows the last event, so that a fresh reader cannot miss it.
            assert findings == []
        else:
            assert any(name in f.message for f in findings if f.state == "error"), (name, findings)
        path.write_bytes(good)
    assert audit(full) == []


def test_a_lost_last_registration_is_seen_by_what_it_left(ledger, candidate):
    candidate(1).register(ledger)
    version = candidate(2).register(ledger)
    Path(ledger.store.root, "ledger/churn/0000000002.json").unlink()
    assert ("note", f"bundles/{version.bundle}") in told(ledger)


def test_what_belongs_to_no_version_is_a_note(full, candidate):
    store = full.store
    store.put_folder("bundles/" + "0" * 64, candidate(7).folder)
    store.create("verdicts/" + "0" * 64 + ".json", b"{}")
    store.create("ledger/churn/readme.txt", b"hello")
    assert told(full) == {
        ("note", "bundles/" + "0" * 64),
        ("note", "verdicts/" + "0" * 64 + ".json"),
        ("note", "ledger/churn/readme.txt"),
    }
    assert full.resolve(Reference.parse("churn")).number == 1


def test_rests_of_killed_writers_are_removed(full):
    root = full.store.root
    (root / "bundles" / ".aside-999999999-ab12cd34-x").mkdir()
    (root / "bundles" / ".aside-999999999-ab12cd34-x" / "model.onnx").write_bytes(b"part")
    (root / "ledger" / "churn" / ".aside-999999999-ab12cd34-0000000007.json").write_bytes(b"part")
    assert told(full) == {("note", "bundles"), ("note", "ledger/churn")}
    assert audit(full) == []
    assert list(root.rglob(".aside-*")) == []


def test_a_living_writers_work_is_left_alone(full):
    work = full.store.root / "verdicts" / f".aside-{os.getpid()}-ab12cd34-x.json"
    work.write_bytes(b"part")
    assert audit(full) == []
    assert work.exists()


def test_a_holder_that_failed_since_is_a_note(full, candidate):
    candidate(1, outcome="failed").register(full)
    assert told(full) == {("note", "churn@champion")}


def test_a_damaged_ledger_hides_no_other_model(full):
    root = full.store.root
    Path(root, "ledger/churn/0000000002.json").unlink()
    version = full.resolve(Reference.parse("flights"))
    Path(root, f"bundles/{version.bundle}/model.onnx").write_bytes(b"x")
    assert told(full) == {
        ("error", "ledger/churn"),
        ("error", f"bundles/{version.bundle}/model.onnx"),
    }


def test_a_verdict_of_another_version_is_found(ledger, candidate):
    given = candidate(1)
    version = given.register(ledger)
    other = candidate(2).register(ledger)
    crossed = replace(version, verdict=other.verdict)
    path = Path(ledger.store.root, f"verdicts/{version.verdict}.json")
    path.write_bytes(Path(ledger.store.root, f"verdicts/{crossed.verdict}.json").read_bytes())
    assert told(ledger) == {("error", f"verdicts/{version.verdict}.json")}
