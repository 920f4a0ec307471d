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


def test_some_rows_asked_in_turn_are_no_collapse_either() -> None:
    """As a check from outside asks them, whatever other rows come between."""
    watch = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    # Some of them have the same answer.
    few = [((i, "Oslo"), ("no", [0.5 + i // 3 / 100, 0.5 - i // 3 / 100])) for i in range(16)]
    stream: list[Any] = []
    for n in range(200):
        stream += few
        if n % 50 == 49:
            stream += [((n, i), answers([i % 2], n)[0]) for i in range(20)]
    watch.observe([answer for _, answer in stream], [row for row, _ in stream])
    assert watch.state() == State(False)
    unseen = Collapse({"no": 0.5, "yes": 0.5}, 0.01)
    unseen.observe([answer for _, answer in stream])
    assert unseen.state().alarms == 1


def test_what_held_out_rows_never_answered_is_rare_and_not_impossible() -> None:
    held_out = {"answers": {"count": 998, "commonest": 4, "labels": {"1": 998}}}
    watch = Collapse.of((1, 2), held_out)
    watch.observe([(2, [n / 1_000, 0.5]) for n in range(107)])
    assert watch.state() == State(True, "label", 2, 1)


@pytest.mark.parametrize("rare", [0, 1])
def test_one_label_is_no_collapse_where_it_is_not_known_how_rare_the_others_are(rare: int) -> None:
    labels = {"no": 1_000 - rare, "yes": rare}
    watch = Collapse.of(LABELS, {"answers": {"count": 1_000, "commonest": 4, "labels": labels}})
    watch.observe([("no", [i, i]) for i in range(200_000)])
    assert watch.state() == State(False)
    watch.observe([("no", [0.5, 0.5])] * 107)
    assert watch.state() == State(True, "answer", "no", 1)


@pytest.mark.parametrize("baseline", [{}, {"answers": {"count": 98, "commonest": 9}}])
def test_a_bundle_without_counts_of_its_labels_is_judged_by_whole_answers(
    baseline: dict[str, Any],
) -> None:
    watch = Collapse.of(LABELS, baseline)
    watch.observe(answers([0] * 20_000))
    assert watch.state() == State(False)
    watch.observe([("no", [0.5, 0.5])] * 107)
    assert watch.state() == State(True, "answer", "no", 1)


def test_a_share_that_the_definition_gives_counts_in_place_of_the_held_out_one() -> None:
    held_out = {"answers": {"count": 1_000, "commonest": 4, "labels": {"no": 500, "yes": 500}}}
    stream = answers([0] * 9_000)
    for share, collapsed in ((None, True), (0.99, False)):
        watch = Collapse.of(LABELS, held_out, share)
        watch.observe(stream)
        assert watch.state().collapsed is collapsed
    value = Collapse.of(None, held_out, 0.99)
    value.observe([(0.0, None)] * 9_000)
    assert not value.state().collapsed
    value.observe([(0.0, None)] * 1_000)
    assert value.state().what == "answer"


def test_the_rate_of_false_alarms_keeps_to_its_bound_over_all_workers() -> None:
    """Healthy answers at the edge, dealt to workers: in the mean n / ARL false alarms, or fewer."""
    rng, arl, n = np.random.default_rng(1), 20.0, 2_000
    found, worst = evidence(0.5), 0.8
    begun = 0
    for _ in range(100):
        charts = [Chart(limit(arl)) for _ in range(8)]
        workers = rng.integers(0, 4, n)
        for worker in range(4):
            size = int((workers == worker).sum())
            for chart in charts[2 * worker : 2 * worker + 2]:
                begun += len(chart.advance(np.where(rng.random(size) < worst, *found)))
    assert 1 < begun / 100 <= n / arl


def test_a_bundle_brings_what_the_watch_needs(versions: Any, customer: Any, house: Any) -> None:
    for name in ("churn", "price", "offer"):
        predictor = versions[name].predictor
        held_out = predictor.baseline["answers"]
        assert held_out["count"] == 60
        assert 1 <= held_out["commonest"] < 60
        if predictor.classes is None:
            assert "labels" not in held_out
        else:
            assert list(held_out["labels"]) == [str(label) for label in predictor.classes]
            assert sum(held_out["labels"].values()) == 60
        row = predictor.decoder.check_one(customer if name == "churn" else house)
        watch = Collapse.of(predictor.classes, predictor.baseline)
        watch.observe(predictor.predict_many([row] * 300))
        assert watch.state().what == "answer"
    assert limit(1e9) == pytest.approx(21.416, abs=1e-3)
