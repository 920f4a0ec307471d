import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.errors import (
    IntegrityError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from steelyard.registry.ledger import Ledger


def ref(text: str) -> Reference:
    return Reference.parse(text)


def promote(ledger, text, alias="champion", reason="it is better"):
    return ledger.promote(ref(text), alias=alias, reason=reason, by="bob")


def rollback(ledger, model="churn", alias="champion"):
    return ledger.rollback(model, alias=alias, reason="it is worse", by="bob")


# Registering


def test_a_version_holds_what_was_given(ledger, candidate):
    given = candidate(1)
    version = given.register(ledger)
    assert (version.model, version.number, version.by) == ("churn", 1, "ann")
    assert (version.bundle, version.verdict) == (given.bundle, given.verdict.hash)
    assert version.passed
    assert ledger.verdict(version) == given.verdict
    assert ledger.provenance(version) == given.provenance
    assert ledger.document(version, "card.md") == given.documents["card.md"]
    assert set(ledger.documents(version)) == set(given.documents)
    folder = ledger.bundle_folder(version)
    assert folder != given.folder
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in given.folder.iterdir()
    }
    assert Ledger(ledger.store).versions("churn") == (version,)


def test_numbers_count_up_and_models_are_apart(ledger, candidate):
    assert candidate(1).register(ledger).number == 1
    assert candidate(1, made=2).register(ledger).number == 2
    assert candidate(2, made=2).register(ledger).number == 3
    assert candidate(1).register(ledger, "flights").number == 1
    assert ledger.models() == ["churn", "flights"]


def test_the_same_again_is_the_same_version_without_an_event(ledger, candidate):
    first = candidate(1, measured=1.0).register(ledger)
    before = ledger.tail("churn")
    again = candidate(1, measured=2.0)
    assert again.register(Ledger(ledger.store), by="bob") == first
    assert ledger.tail("churn") == before
    assert ledger.verdict(first) == candidate(1, measured=1.0).verdict
    assert again.verdict.hash not in {k[9:-5] for k in ledger.store.list("verdicts")}


def test_a_verdict_that_judges_otherwise_is_added(ledger, candidate):
    first = candidate(1, outcome="failed").register(ledger)
    with pytest.raises(RefusedError):
        promote(ledger, "churn@1")
    second = candidate(1, outcome="passed").register(ledger, by="bob")
    assert (second.number, second.at, second.by) == (first.number, first.at, first.by)
    assert second.passed
    assert not first.passed
    assert [e["kind"] for e in ledger.history("churn")] == ["version", "verdict"]
    assert ledger.verdict(second).passed
    assert not ledger.verdict(first).passed
    assert b"passed" in ledger.document(second, "card.md")
    assert promote(ledger, "churn@1").moved


def test_a_later_failure_bars_promotion_but_takes_no_alias_away(ledger, candidate):
    candidate(1).register(ledger)
    promote(ledger, "churn@1")
    candidate(1, outcome="failed").register(ledger)
    champion = Ledger(ledger.store).resolve(ref("churn"))
    assert champion.passed
    assert ledger.prove(champion).passed
    assert not ledger.resolve(ref("churn@1")).passed
    with pytest.raises(RefusedError, match="roc_auc"):
        promote(ledger, "churn@1", alias="challenger")
    assert promote(ledger, "churn@1").moved is False


def test_a_run_again_repairs_a_lost_verdict(ledger, candidate):
    version = candidate(1, measured=1.0).register(ledger)
    Path(ledger.store.root, f"verdicts/{version.verdict}.json").unlink()
    with pytest.raises(RefusedError, match="missing"):
        promote(ledger, "churn@1")
    candidate(1, measured=2.0).register(ledger)
    assert promote(ledger, "churn@1").moved


def test_a_verdict_over_something_else_is_refused(ledger, candidate):
    given = candidate(1)
    for verdict in (candidate(2).verdict, candidate(1, made=2).verdict):
        with pytest.raises(RefusedError, match="judged bundle"):
            replace(given, verdict=verdict).register(ledger)
    assert ledger.models() == []
    assert ledger.store.list("bundles") == []


def test_a_bundle_that_is_not_as_sealed_is_refused(ledger, candidate, tmp_path):
    given = candidate(1)
    copy = tmp_path / "copy"
    shutil.copytree(given.folder, copy)
    (copy / "model.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        replace(given, folder=copy).register(ledger)
    with pytest.raises(IntegrityError, match="manifest"):
        replace(given, bundle="0" * 64).register(ledger)
    assert ledger.store.list("") == []


def test_a_damaged_copy_in_the_store_is_named(ledger, candidate):
    given = candidate(1)
    kept = ledger.bundle_folder(given.register(ledger)) / "model.onnx"
    kept.write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"damaged: model\.onnx"):
        candidate(1, made=2).register(ledger)


def test_files_of_other_systems_are_kept_outside_the_hash(ledger, candidate, tmp_path):
    given = candidate(1)
    copy = tmp_path / "copy"
    shutil.copytree(given.folder, copy)
    (copy / "MLmodel").write_text("flavors: {}\n")
    (copy / "mlflow").mkdir()
    (copy / "mlflow" / "conda.yaml").write_text("name: x\n")
    version = replace(given, folder=copy).register(ledger)
    assert version.bundle == given.bundle
    assert (ledger.bundle_folder(version) / "mlflow" / "conda.yaml").is_file()
    assert promote(ledger, "churn@1").moved


@pytest.mark.parametrize("waived", [{}, {"reason": "x"}, {"reason": " ", "by": "a", "at": "t"}])
def test_a_waiver_says_why_who_and_when(ledger, candidate, waived):
    given = candidate(1)
    check = Check("latency", "p99", False, waived=waived)
    verdict = Verdict(given.bundle, given.verdict.provenance, (check,))
    with pytest.raises(UsageError, match="latency · p99"):
        replace(given, verdict=verdict).register(ledger)


def test_a_waiver_stands_in_the_ledger(ledger, candidate):
    version = candidate(1, outcome="waived").register(ledger)
    waiver = ledger.history("churn")[0]["waivers"][0]
    assert version.passed
    assert waiver["gate"] == "latency"
    assert (waiver["reason"], waiver["by"]) == ("nightly batch only", "ann")
    assert promote(ledger, "churn@1").moved


def test_records_must_be_plain_json(ledger, candidate):
    given = candidate(1)
    with pytest.raises(UsageError, match="plain JSON"):
        replace(given, provenance={"x": float("nan")}).register(ledger)
    with pytest.raises(UsageError, match="plain JSON"):
        replace(given, provenance={"x": Path()}).register(ledger)


@pytest.mark.parametrize("by", ["", "  ", "x" * 2000, "\udc80"])
def test_who_must_be_said_in_text(ledger, candidate, by):
    with pytest.raises(UsageError, match="by must"):
        candidate(1).register(ledger, by=by)


# Moving aliases


def test_promote_tells_the_move(ledger, candidate):
    candidate(1).register(ledger)
    second = candidate(2).register(ledger)
    first_move = promote(ledger, "churn@1")
    move = promote(ledger, "churn@2", reason=" a reason ")
    assert (first_move.before, first_move.to, first_move.moved) == (None, 1, True)
    assert (move.model, move.alias, move.before, move.to) == ("churn", "champion", 1, 2)
    assert (move.reason, move.by, move.verdict) == ("a reason", "bob", second.verdict)
    assert ledger.resolve(ref("churn")) == second
    assert dict(ledger.aliases("churn")) == {"champion": 2}


def test_promoting_the_holder_is_no_event_and_says_so(ledger, candidate):
    candidate(1).register(ledger)
    promote(ledger, "churn@1")
    before = ledger.tail("churn")
    move = promote(Ledger(ledger.store), "churn@1")
    assert not move.moved
    assert "already" in move.note
    assert ledger.tail("churn") == before


def test_aliases_are_apart(ledger, candidate):
    candidate(1).register(ledger)
    candidate(2).register(ledger)
    promote(ledger, "churn@1")
    promote(ledger, "churn@2", alias="challenger")
    assert dict(ledger.aliases("churn")) == {"challenger": 2, "champion": 1}
    assert promote(ledger, "churn@challenger").to == 2


@pytest.mark.parametrize(("outcome", "why"), [("failed", "roc_auc"), ("empty", "no gate")])
def test_what_did_not_pass_is_refused_with_the_reason(ledger, candidate, outcome, why):
    version = candidate(1, outcome=outcome).register(ledger)
    assert not version.passed
    with pytest.raises(RefusedError, match=why):
        promote(ledger, "churn@1")
    with pytest.raises(RefusedError, match=why):
        ledger.prove(version)
    assert dict(ledger.aliases("churn")) == {}


def test_every_part_of_the_proof_must_be_whole(ledger, candidate):
    version = candidate(1).register(ledger)
    root = ledger.store.root
    for place in (
        f"verdicts/{version.verdict}.json",
        f"provenance/{version.provenance}.json",
        f"bundles/{version.bundle}/model.onnx",
        f"bundles/{version.bundle}/manifest.json",
    ):
        path = root / place
        good = path.read_bytes()
        for bad in (None, b"", good[:-1], bytes([good[0] ^ 1]) + good[1:]):
            path.unlink(missing_ok=True)
            if bad is not None:
                path.write_bytes(bad)
            with pytest.raises(RefusedError, match=path.name.replace(".", r"\.")):
                promote(ledger, "churn@1")
        path.write_bytes(good)
    assert dict(ledger.aliases("churn")) == {}
    assert promote(ledger, "churn@1").moved


def test_another_versions_verdict_does_not_do(ledger, candidate):
    first = candidate(1).register(ledger)
    second = candidate(2).register(ledger)
    crossed = replace(first, verdict=second.verdict)
    with pytest.raises(IntegrityError, match="not to those of churn@1"):
        ledger.verdict(crossed)
    with pytest.raises(RefusedError, match="not proven"):
        ledger.prove(crossed)


def test_rollback_goes_back_and_further_back(ledger, candidate):
    for content in (1, 2, 3):
        candidate(content).register(ledger)
        promote(ledger, f"churn@{content}")
    assert (rollback(ledger).before, ledger.resolve(ref("churn")).number) == (3, 2)
    assert rollback(ledger).to == 1
    with pytest.raises(RefusedError, match="no earlier version"):
        rollback(ledger)
    promote(ledger, "churn@3")
    assert rollback(Ledger(ledger.store)).to == 1


def test_rollback_passes_over_what_is_no_longer_proven(ledger, candidate):
    for content in (1, 2, 3):
        candidate(content).register(ledger)
        promote(ledger, f"churn@{content}")
    damaged = ledger.bundle_folder(ledger.resolve(ref("churn@2"))) / "model.onnx"
    damaged.write_bytes(b"other")
    move = rollback(ledger)
    assert move.to == 1
    assert "churn@2" in move.note
    assert ledger.history("churn")[-1]["note"] == move.note
    promote(ledger, "churn@3")
    candidate(1, outcome="failed").register(ledger)
    with pytest.raises(RefusedError, match="churn@1 is not proven"):
        rollback(ledger)


def test_rollback_of_nothing(ledger, candidate):
    with pytest.raises(NotFoundError, match="no model churn"):
        rollback(ledger)
    candidate(1).register(ledger)
    with pytest.raises(NotFoundError, match="no champion"):
        rollback(ledger)


@pytest.mark.parametrize("alias", ["3", "a/b", "", "x" * 80])
def test_an_alias_is_a_name(ledger, candidate, alias):
    candidate(1).register(ledger)
    with pytest.raises(UsageError, match="alias"):
        promote(ledger, "churn@1", alias=alias)
