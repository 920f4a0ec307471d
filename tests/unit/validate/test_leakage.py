"""The leakage gate: by name, by value, and copies; each sin is stopped, its innocent twin is not."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import steelyard as sy
from steelyard.core.fields import NULL_STRING
from steelyard.core.records import Check
from steelyard.features.parts import Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.leakage import check_leakage

Make = Callable[..., Candidate]


def named(candidate: Candidate, name: str) -> Check:
    return next(check for check in check_leakage(candidate) if check.name == name)


def planted(candidate: Candidate, name: str, train: Any, test: Any) -> Candidate:
    """Give a candidate one more feature."""
    parts: dict[str, Any] = {
        which: replace(part, features={**part.features, name: values})
        for which, part, values in (
            ("train", candidate.train, train),
            ("test", candidate.test, test),
        )
    }
    return replace(candidate, model_features=(*candidate.model_features, name), **parts)


def both(candidate: Candidate, make: Callable[[Any], Any]) -> tuple[Any, Any]:
    return make(candidate.train.label), make(candidate.test.label)


def test_an_honest_candidate_passes(good: Candidate) -> None:
    checks = list(check_leakage(good))
    assert len(checks) == 4
    assert all(check.passed and not check.flagged for check in checks)
    shown = named(good, "single feature").evidence["features"]
    assert shown[0]["feature"] in ("plan", "tenure")
    assert 0.55 < shown[0]["score"] < 0.9


def test_a_field_that_is_known_afterwards_is_named_with_what_must_happen_first(make: Make) -> None:
    made = make(definition={"available_after": {"total": "the contract has ended", "other": "x"}})
    found = named(made, "known only afterwards")
    assert not found.passed
    assert found.value == "total"
    assert "the contract has ended" in found.evidence["message"]
    assert found.evidence["columns"][0]["used_by"] == ["total"]


def test_a_row_feature_that_uses_a_late_column_is_caught(make: Make) -> None:
    made = make(definition={"available_after": {"since": "the customer signed"}})
    made = planted(made, "age", *both(made, lambda label: np.arange(len(label)) * 1.0))
    found = named(replace(made, uses={"age": frozenset({"since"})}), "known only afterwards")
    assert not found.passed
    assert "used by the feature age" in found.evidence["message"]


def test_a_late_field_is_refused_even_where_no_feature_uses_it(make: Make) -> None:
    class Late(sy.Row):
        tenure: int
        ended: str | None = sy.Field(available_after="the contract has ended")

    found = named(make(definition={"row": Late}), "known only afterwards")
    assert found.value == "ended"


def test_the_label_among_the_features_is_caught(good: Candidate) -> None:
    made = planted(good, "left", *both(good, lambda label: label))
    assert named(made, "known only afterwards").value == "left"


def noisy(label: Any) -> Any:
    rng = np.random.default_rng(len(label))
    return (label == "yes") * 1.0 + rng.normal(scale=0.05, size=len(label))


def hidden(label: Any) -> Any:
    """The label told by a number that no single threshold finds."""
    rng = np.random.default_rng(len(label))
    return np.where(
        label == "yes", rng.uniform(4, 6, len(label)), rng.choice([1.0, 9.0], len(label))
    )


@pytest.mark.parametrize(
    "leak",
    [
        lambda label: np.where(label == "yes", "Y", "N").astype(object),
        lambda label: np.where(label == "yes", np.nan, 3.0),  # null tells it
        lambda label: np.where(label == "yes", NULL_STRING, "given").astype(object),
        lambda label: label == "no",
        noisy,
        lambda label: -noisy(label),
        hidden,
    ],
    ids=["category", "null number", "null string", "flag", "noisy", "reversed", "hidden"],
)
def test_a_feature_that_gives_the_label_away_is_named(good: Candidate, leak: Any) -> None:
    found = named(planted(good, "refund", *both(good, leak)), "single feature")
    assert not found.passed
    assert found.evidence["guilty"] == ["refund"]
    assert "'refund'" in found.evidence["message"]
    assert isinstance(found.value, float)
    assert found.value >= 0.98


def test_a_key_of_many_values_cannot_overfit(good: Candidate) -> None:
    rng = np.random.default_rng(3)
    keys = np.array([f"k{i}" for i in range(400)], dtype=object)
    made = planted(good, "key", rng.choice(keys, len(good.train)), rng.choice(keys, len(good.test)))
    found = named(made, "single feature")
    assert found.passed
    score = next(f["score"] for f in found.evidence["features"] if f["feature"] == "key")
    assert 0.4 < score < 0.6


def test_a_strong_honest_feature_passes_and_one_that_beats_the_model_is_flagged(
    good: Candidate,
) -> None:
    def strong(label: Any) -> Any:
        rng = np.random.default_rng(len(label))
        return (label == "yes") + rng.normal(scale=0.45, size=len(label))

    made = planted(good, "strong", *both(good, strong))
    assert named(made, "single feature").passed
    against = named(made, "feature against model")
    assert against.passed
    assert against.flagged
    assert "'strong'" in against.evidence["message"]


def test_the_limit_may_be_set_and_a_looser_one_shows(make: Make) -> None:
    tight = named(make(gates=(sy.Leakage(auc=0.6),)), "single feature")
    assert not tight.passed
    loose = named(make(gates=(sy.Leakage(auc=0.999),)), "single feature")
    assert loose.passed
    assert loose.flagged


def test_multiclass_leaks_are_caught_and_one_told_class_is_flagged(make: Make) -> None:
    made = make("multiclass")
    whole = planted(made, "code", *both(made, lambda label: label * 10.0))
    assert not named(whole, "single feature").passed
    part = planted(made, "is_three", *both(made, lambda label: label == 3))
    found = named(part, "single feature")
    assert found.passed
    assert found.flagged
    assert "'is_three'" in found.evidence["message"]


@pytest.mark.parametrize(
    "leak",
    [
        lambda label: 3 * label + 1,
        lambda label: np.exp(label / 3),
        lambda label: (label - 2) ** 2 * np.sign(label - 2),
        lambda label: -label + np.random.default_rng(1).normal(scale=0.05, size=len(label)),
        lambda label: np.round(label).astype(str).astype(object),
    ],
    ids=["linear", "exponential", "cubic", "noisy", "text"],
)
def test_regression_leaks_are_caught(make: Make, leak: Any) -> None:
    made = make("regression")
    found = named(planted(made, "price", *both(made, leak)), "single feature")
    assert not found.passed
    assert found.evidence["guilty"] == ["price"]
    assert named(made, "single feature").passed


def test_too_few_rows_of_a_class_cannot_be_judged(good: Candidate) -> None:
    few = np.flatnonzero(good.test.label == "yes")[:3]
    rows = np.concatenate([few, np.flatnonzero(good.test.label == "no")])
    made = replace(
        good,
        test=good.test.take(rows),
        scores=good.packed({name: column[rows] for name, column in good.test.columns.items()}),
    )
    found = named(made, "single feature")
    assert (found.passed, found.flagged) == (True, True)
    assert "hold out more" in found.evidence["message"]


def copied(candidate: Candidate, rows: int) -> Candidate:
    """Replace held-out rows by copies of training rows."""
    train, test = candidate.train, candidate.test
    places = np.arange(rows)

    def mix(known: Any, asked: Any) -> Any:
        changed = asked.copy()
        changed[places] = known[places]
        return changed

    changed = replace(
        test,
        columns={name: mix(train.columns[name], test.columns[name]) for name in test.columns},
        features={name: mix(train.features[name], test.features[name]) for name in test.features},
        label=mix(train.label, test.label),
    )
    return replace(candidate, test=changed, scores=candidate.packed(changed.columns))


def test_copies_across_the_split_are_refused(good: Candidate) -> None:
    found = named(copied(good, 60), "copies across the split")
    assert not found.passed
    assert found.value == pytest.approx(60 / 500)
    assert "Remove the copies" in found.evidence["message"]
    assert set(found.evidence["metric"]) == {"name", "all", "without_twins"}


def test_copies_of_regression_rows_are_refused(make: Make) -> None:
    assert not named(copied(make("regression"), 60), "copies across the split").passed


def test_a_handful_of_copies_passes(good: Candidate) -> None:
    found = named(copied(good, 4), "copies across the split")
    assert found.passed
    assert found.evidence["rows"] == 4


def test_a_table_copied_ten_times_before_the_split_is_refused(good: Candidate) -> None:
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.repeat(np.arange(100), 10))
    train, test = good.train.take(rows[:800]), good.train.take(rows[800:])
    made = replace(good, train=train, test=test, scores=good.packed(test.columns))
    found = named(made, "copies across the split")
    assert not found.passed
    assert found.value == 1.0


def small_table(candidate: Candidate, noise: float) -> Candidate:
    """Leave two features of few values, which repeat by nature."""
    rng = np.random.default_rng(5)

    def part_of(rows: int) -> tuple[Any, Any]:
        features = {"a": rng.integers(0, 4, rows), "b": rng.integers(0, 5, rows)}
        truth = np.where(
            (features["a"] + features["b"] > 4) ^ (rng.random(rows) < noise), "yes", "no"
        )
        return features, truth.astype(object)

    changed: dict[str, Any] = {}
    for which in ("train", "test"):
        part = getattr(candidate, which)
        features, label = part_of(len(part))
        changed[which] = replace(part, features=features, label=label)
    test = changed["test"]
    told = np.where(test.features["a"] + test.features["b"] > 4, 0.9, 0.1)
    scores = Scores(
        np.where(told > 0.5, "yes", "no").astype(object),
        np.column_stack([1 - told, told]),
        ("no", "yes"),
    )
    return replace(candidate, model_features=("a", "b"), scores=scores, **changed)


@pytest.mark.parametrize("noise", [0.2, 0.0])
def test_a_table_of_few_values_repeats_by_nature(good: Candidate, noise: float) -> None:
    found = named(small_table(good, noise), "copies across the split")
    assert found.value == 1.0  # every held-out row has a twin
    assert found.passed
    assert found.flagged == (noise == 0.0)  # nothing tells twins of certain labels from copies


def test_a_large_table_is_sampled_and_quick(good: Candidate) -> None:
    rng = np.random.default_rng(0)
    rows = {"train": 180_000, "test": 60_000}
    label = {name: rng.random(size) < 0.3 for name, size in rows.items()}
    words = np.array([f"w{i}" for i in range(300)], dtype=object)
    parts: dict[str, Any] = {}
    for name, size in rows.items():
        features: dict[str, Any] = {f"n{i}": rng.normal(size=size) + label[name] for i in range(6)}
        features |= {f"s{i}": rng.choice(words, size) for i in range(4)}
        part = getattr(good, name)
        parts[name] = replace(
            part, rows=np.arange(size), columns={}, features=features, label=label[name]
        )
    told = np.full(rows["test"], 0.3)
    scores = Scores(told > 0.5, np.column_stack([1 - told, told]), (False, True))
    names = tuple(parts["test"].features)
    made = replace(good, scores=scores, model_features=names, **parts)
    started = time.process_time()
    found = named(made, "single feature")
    assert time.process_time() - started < 5
    assert found.evidence["sampled"] is True
    assert found.evidence["rows"] == {"train": 50_000, "test": 50_000}
    assert found.passed
