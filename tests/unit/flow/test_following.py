import json
from pathlib import Path

import pytest

from steelyard.bundle.format import seal
from steelyard.core.config import Config
from steelyard.core.hashing import canonical_json, hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.errors import IntegrityError, NotFoundError, RefusedError, UsageError
from steelyard.flow.following import subject
from steelyard.flow.stores import open_ledger
from steelyard.registry.ledger import Ledger

PROVENANCE = {"seed": 1}


def sealed(folder: Path, model: str = "churn") -> tuple[str, Path]:
    """A bundle as far as a ledger cares."""
    return seal({"model.json": canonical_json({"model": model})}, folder)


def verdict(bundle: str, *, passed: bool = True) -> Verdict:
    return Verdict(bundle, hash_json(PROVENANCE), (Check("schema", "rows", passed),))


def register(ledger: Ledger, folder: Path, model: str = "churn", *, passed: bool = True) -> str:
    bundle, place = sealed(folder, model)
    ledger.register(
        model,
        bundle=place,
        bundle_hash=bundle,
        provenance=PROVENANCE,
        verdict=verdict(bundle, passed=passed),
        documents={},
        by="test",
    )
    return bundle


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path / "state")


def test_a_reference_is_followed_in_the_store(config: Config, tmp_path: Path) -> None:
    ledger = open_ledger(config)
    bundle = register(ledger, tmp_path)
    ledger.promote(Reference("churn", version=1), reason="", by="test")
    found = subject("churn", config)
    served = found.follow()
    assert (found.model, served.version, served.bundle) == ("churn", 1, bundle)
    with pytest.raises(NotFoundError, match="Did you mean churn"):
        subject("chrun", config).follow()


def test_a_store_that_is_taken_away_is_told_from_one_in_which_nothing_changes(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(config)
    register(ledger, tmp_path)
    ledger.promote(Reference("churn", version=1), reason="", by="test")
    follow = subject("churn", config).follow
    monkeypatch.setattr("steelyard.flow.following._SURE_SECONDS", 0.0)
    served = follow()
    store, away = Path(config.store), tmp_path / "away"
    store.rename(away)
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"there is no .* in the store"):
            follow()
    away.rename(store)
    assert follow() == served


def test_a_bundle_alone_is_version_0(config: Config, tmp_path: Path) -> None:
    bundle, folder = sealed(tmp_path / "made")
    for place in (folder, folder.parent):  # also where a package has the bundle's folder in it
        found = subject(f"{place}/", config)
        served = found.follow()
        assert (found.model, served.version) == ("churn", 0)
        assert (served.bundle, served.folder) == (bundle, folder)
    assert subject(f"file://{folder}", config).model == "churn"


def test_a_store_with_one_model_serves_its_champion(config: Config, tmp_path: Path) -> None:
    ledger = open_ledger(config)
    bundle = register(ledger, tmp_path)
    with pytest.raises(NotFoundError):
        subject(config.store, config).follow()
    ledger.promote(Reference("churn", version=1), reason="", by="test")
    served = subject(config.store, config).follow()
    assert (served.version, served.bundle) == (1, bundle)
    register(ledger, tmp_path, "price")
    with pytest.raises(UsageError, match="several models: churn, price"):
        subject(config.store, config)


def test_what_is_no_bundle_is_told(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        subject(f"{tmp_path}/", config)
    for place in ("gs://bucket/model", f"{tmp_path}/none"):
        with pytest.raises(UsageError, match="is no folder of this machine"):
            subject(place, config)


def test_a_changed_file_is_told(config: Config, tmp_path: Path) -> None:
    _, folder = sealed(tmp_path / "made")
    (folder / "model.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=r"model\.json"):
        subject(f"{folder}", config)


def test_a_verdict_beside_a_bundle_is_held_to(config: Config, tmp_path: Path) -> None:
    bundle, folder = sealed(tmp_path / "made")
    beside = folder / "verdict.json"
    beside.write_text(json.dumps(verdict(bundle).document()))
    assert subject(f"{folder}", config).follow().bundle == bundle
    for wrong in (verdict(bundle, passed=False), verdict("0" * 64)):
        beside.write_text(json.dumps(wrong.document()))
        with pytest.raises(RefusedError, match="is no verdict that this bundle"):
            subject(f"{folder}", config)
    for text in ("{", "[]", '{"bundle": 1}'):
        beside.write_text(text)
        with pytest.raises(RefusedError, match="is no verdict"):
            subject(f"{folder}", config)
