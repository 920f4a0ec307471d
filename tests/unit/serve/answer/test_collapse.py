"""The alarm for a model that answers the same to everything: what it promises and what it ignores."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.serve.answer.collapse import ARL, Chart, Collapse, State, evidence, limit

LABELS = ["no", "yes"]


def answers(labels: list[int] | Any, start: int = 0) -> list[Any]:
    """Answers with a number of their own each, as a model that has not collapsed gives."""
    return [(LABELS[i], [1 / (start + n + 2), n]) for n, i in enumerate(labels)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([0.25, -1.0, 0.5, -0.125, 3.0]), min_size=1, max_size=80),
    st.lists(st.integers(1, 30), min_size=1, max_size=80),
)
def test_a_chart_is_the_recursion_whatever_the_batches(found: list[float], cuts: list[int]) -> None:
    chart, start, alarms = Chart(4.0), 0, []
    for size in [*cuts, len(found)]:
        alarms += [start + at for at in chart.advance(np.array(found[start : start + size]))]
        start += size
    alarmed, total, wanted = False, 0.0, []
    for i, value in enumerate(found):
        total = max(0.0, total + (-value if alarmed else value))
        if total >= 4.0:
            alarmed, total = not alarmed, 0.0
            if alarmed:
                wanted.append(i)
    assert (chart.alarmed, alarms) == (alarmed, wanted)


@given(st.floats(0, 1, exclude_max=True))
def test_no_bet_is_expected_to_win_against_a_healthy_model(share: float) -> None:
    found = evidence(share)
    odds = 4 * max(share, 0.5) / (1 - max(share, 0.5))
    worst = odds / (1 + odds)
    for healthy in (worst, share, 0.0, worst / 2):
        mean = healthy * math.exp(found.repeated) + (1 - healthy) * math.exp(found.other)
        assert mean <= 1 + 1e-9
    assert found.repeated > 0 > found.other


def test_the_rate_of_false_alarms_keeps_to_its_bound_at_the_edge() -> None:
    """At the oddest rate that still counts as healthy, where the bound is nearest."""
    rng, arl = np.random.default_rng(0), 300.0
    found = evidence(0.9)
    worst = 1 - 0.1 / (0.1 + 4 * 0.9)
    times = []
    for _ in range(400):
        chart = Chart(math.log(arl))
        steps = np.where(rng.random(60_000) < worst, *found)
        for n in range(0, 60_000, 500):
            if at := chart.advance(steps[n : n + 500]):
                times.append(n + at[0] + 1)
                break
        else:
            times.append(60_000)
    assert arl < np.mean(times) < 100 * arl  # about arl / (information of an answer)


def test_a_stuck_answer_is_told_after_as_many_as_the_formula_says() -> None:
    watch = Collapse({"no": 0.999, "yes": 0.001}, 0.01)
    fewest = evidence(0.01).fewest
    assert fewest == math.ceil(math.log(2 * ARL) / math.log(0.98 / 0.8)) == 106
    watch.observe([("no", [0.9, 0.1])] * fewest)
    assert watch.state() == State(False)
    watch.observe([("no", [0.9, 0.1])])
    assert watch.state() == State(True, "answer", "no", 1)


def test_a_stuck_label_is_told_though_its_numbers_vary() -> None:
    watch = Collapse({"no": 0.9, "yes": 0.1}, 0.01)
    fewest = evidence(0.9).fewest
    watch.observe(answers([0] * fewest))
    assert watch.state() == State(False)
    watch.observe(answers([0], fewest))
    assert watch.state() == State(True, "label", "no", 1)


def test_the_rarer_label_is_told_sooner() -> None:
    assert evidence(0.9999).fewest > evidence(0.99).fewest > evidence(0.5).fewest
    assert evidence(0.5) == evidence(0.001)
    watch = Collapse({"no": 0.999, "yes": 0.001}, 0.01)
    watch.observe(answers([1] * 107))
    assert watch.state() == State(True, "label", "yes", 1)


def test_nearly_always_the_same_is_a_collapse_as_well() -> None:
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    watch.observe(answers([0 if i % 100 else 1 for i in range(1, 400)]))
    assert watch.state() == State(True, "label", "no", 1)


def test_it_clears_by_the_same_kind_of_evidence() -> None:
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    watch.observe([("yes", [0.25, 0.75])] * 200)
    assert watch.state() == State(True, "answer", "yes", 1)
    watch.observe(answers([0, 1]))
    assert watch.state().collapsed
    watch.observe(answers(np.arange(40) % 2, 2))
    assert watch.state() == State(False, alarms=1)
    watch.observe([("no", [0.75, 0.25])] * 200)
    assert watch.state() == State(True, "answer", "no", 2)


def test_a_collapse_that_nobody_saw_is_counted() -> None:
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    watch.observe([("no", [0.75, 0.25])] * 200 + answers(np.arange(200) % 2))
    assert watch.state() == State(False, alarms=1)


def test_a_whole_answer_that_varies_again_leaves_the_label() -> None:
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    watch.observe([("no", [0.75, 0.25])] * 200)
    watch.observe(answers([0] * 60))
    assert watch.state() == State(True, "label", "no", 1)


def test_a_regression_is_watched_by_its_numbers() -> None:
    watch = Collapse({}, 0.05)
    watch.observe([(float(i % 9), None) for i in range(5_000)])
    assert watch.state() == State(False)
    watch.observe([(3.5, None)] * 107)
    assert watch.state() == State(True, "answer", 3.5, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 400))
def test_batches_make_no_difference(sizes: list[int], stuck: int) -> None:
    rng = np.random.default_rng(stuck)
    stream = answers(rng.integers(0, 2, 200).tolist()) + [("no", [0.5, 0.5])] * stuck
    whole = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    whole.observe(stream)
    parted, start = Collapse({"no": 0.5, "yes": 0.5}, 0.01), 0
    for size in [*sizes, len(stream)]:
        parted.observe(stream[start : start + size])
        start += size
    assert parted.state() == whole.state()


def test_one_row_asked_again_and_again_is_no_collapse() -> None:
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    for _ in range(50):
        watch.observe([("no", [0.75, 0.25])] * 20, [(5, "Oslo")] * 20)
    assert watch.state() == State(False)
    watch.observe([("no", [0.75, 0.25])] * 200, [(i, "Oslo") for i in range(200)])
    assert watch.state().collapsed


def test_what_training_never_answered_is_rare_and_not_impossible() -> None:
    baseline = {
        "outputs": {"prediction": {"counts": {"1": 998}}},
        "answers": {"count": 998, "commonest": 4},
    }
    watch = Collapse.of((1, 2), baseline)
    watch.observe([(2, [n / 1_000, 0.5]) for n in range(107)])
    assert watch.state() == State(True, "label", 2, 1)
    assert evidence(999 / 1_000).fewest > 90_000


def test_a_bundle_brings_what_the_watch_needs(versions: Any, customer: Any, house: Any) -> None:
    for name in ("churn", "price", "offer"):
        predictor = versions[name].predictor
        same = predictor.baseline["answers"]
        assert same["count"] == 240
        assert 1 <= same["commonest"] < 240
        row = predictor.decoder.check_one(customer if name == "churn" else house)
        watch = Collapse.of(predictor.classes, predictor.baseline)
        watch.observe(predictor.predict_many([row] * 300))
        assert watch.state().what == "answer"
    assert limit(1e9) == pytest.approx(21.416, abs=1e-3)
