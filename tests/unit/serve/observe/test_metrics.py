import json

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from steelyard.errors import InputError
from steelyard.serve.observe.exposition import exposition
from steelyard.serve.observe.families import FAMILIES
from steelyard.serve.observe.metrics import Metrics
from steelyard.serve.observe.shared import bury
from steelyard.serve.observe.tallies import OutputProfile


def samples(metrics):
    """Return (name, labels but the model) -> value of what a scrape would read."""
    found = {}
    for family in text_string_to_metric_families(exposition(metrics)[0].decode()):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "model"))
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def refusal(*fields):
    return InputError([{"field": field, "message": "wrong", "got": None} for field in fields])


@pytest.fixture
def metrics(stand):
    return stand("price").metrics


def test_answers_are_counted_by_version_with_the_time_of_each_stage(metrics):
    # One row alone, then two together, of which the second came a microsecond later.
    metrics.answered(3, 400, [(0, 1_500, True)], (1_500, 11_500, 13_000, 16_000))
    metrics.answered(
        3, 300, [(0, 1_500, True), (1_000, 2_500, True)], (5_000, 12_000, 14_000, 17_000)
    )
    metrics.answered_rows(4, 100, 5_000, 0)
    found = samples(metrics)
    assert found["steelyard_predictions_total", (("version", "3"),)] == 3
    assert found["steelyard_predictions_total", (("version", "4"),)] == 100
    assert found["steelyard_log_bytes_total", ()] == 5_700
    times = {
        stage: found["steelyard_latency_seconds_sum", (("stage", stage),)] * 1e9
        for stage in ("decode", "wait", "predict", "encode", "log", "total")
    }
    assert times == pytest.approx(
        {"decode": 4_500, "wait": 6_000, "predict": 17_000, "encode": 3_500, "log": 6_000,
         "total": 49_000}
    )  # fmt: skip
    name = "steelyard_latency_seconds_bucket"
    assert found[name, (("le", "1e-06"), ("stage", "decode"))] == 0
    assert found[name, (("le", "2e-06"), ("stage", "decode"))] == 3
    assert found[name, (("le", "+Inf"), ("stage", "rows"))] == 1


def test_rows_that_one_call_answered_are_a_histogram(metrics):
    for rows in (1, 1, 2, 5):
        metrics.answered(1, 10, [(0, 1, True)] * rows, (1, 2, 3, 4))
    found = samples(metrics)
    counts = {
        le: found["steelyard_batch_rows_bucket", (("le", le),)]
        for le in ("1.0", "2.0", "4.0", "8.0")
    }
    assert counts == {"1.0": 2, "2.0": 3, "4.0": 3, "8.0": 4}
    assert found["steelyard_batch_rows_sum", ()] == 9


def test_requests_are_timed_by_route_and_a_row_asked_alone_is_a_request(metrics):
    metrics.answered(1, 10, [(0, 1, True), (0, 1, True), (0, 1, False)], (1, 2, 3, 3_000_000))
    metrics.requested("/predict", 40_000_000)
    metrics.requested("/v2", 1_000)
    found = samples(metrics)
    assert found["steelyard_request_seconds_count", (("route", "/predict"),)] == 3
    assert found["steelyard_request_seconds_sum", (("route", "/predict"),)] == pytest.approx(0.046)
    assert found["steelyard_request_seconds_bucket", (("le", "0.005"), ("route", "/predict"))] == 2
    assert found["steelyard_request_seconds_count", (("route", "/v2"),)] == 1


def test_counters_are_summed_up_on_the_way_before_they_grow_without_end(metrics):
    for _ in range(1_000):
        metrics.answered(1, 10, [(0, 1, True)] * 3, (1, 2, 3, 4))
        assert len(metrics._noted) < 100
    assert samples(metrics)["steelyard_predictions_total", (("version", "1"),)] == 3_000


def test_names_that_clients_invent_are_one_label(metrics):
    for i in range(100):
        metrics.refused(refusal(f"made.up.{i}", "rows.7.area", "area"), {"area", "rooms"})
    metrics.refused(refusal("body", "rows"), {"area"})
    counts = {key[1]: n for key, n in samples(metrics).items() if "refusals" in key[0]}
    assert counts == {
        (("field", "(unknown)"),): 100,
        (("field", "area"),): 100,
        (("field", "body"),): 1,
        (("field", "rows"),): 1,
    }


def test_responses_and_the_version_that_answers_are_shown(metrics):
    metrics.responded("/predict", 200)
    metrics.responded("/predict", 422)
    metrics.serving(7, "abc")
    metrics.count("swaps_refused")
    found = samples(metrics)
    assert found["steelyard_responses_total", (("route", "/predict"), ("status", "422"))] == 1
    assert found["steelyard_responses_total", (("route", "/predict"), ("status", "500"))] == 0
    assert found["steelyard_serving", (("bundle", "abc"), ("version", "7"))] == 1
    assert found["steelyard_swaps_refused_total", ()] == 1
    assert found["process_open_fds", (("worker", "0"),)] > 0
    info = next(dict(labels) for name, labels in found if name == "steelyard_build_info")
    assert set(info) == {"steelyard", "onnxruntime", "numpy", "python"}


def test_fallbacks_flags_and_states_are_shown(metrics):
    metrics.fell_back("late", 0)
    metrics.fell_back("crashed")
    metrics.fell_back("crashed", 3)
    metrics.flagged("area", "out_of_range", 2)
    metrics.breaker("open")
    metrics.alarm("collapse", True)
    metrics.watch("waiting_rows", lambda: 5)
    found = samples(metrics)
    assert found["steelyard_fallbacks_total", (("reason", "late"),)] == 0
    assert found["steelyard_fallbacks_total", (("reason", "crashed"),)] == 4
    assert found["steelyard_flags_total", (("field", "area"), ("flag", "out_of_range"))] == 2
    assert found["steelyard_breaker", (("state", "open"),)] == 1
    assert found["steelyard_breaker", (("state", "closed"),)] == 0
    assert found["steelyard_alarm", (("alarm", "collapse"),)] == 1
    assert found["steelyard_waiting_rows", ()] == 5
    metrics.breaker("closed")
    metrics.alarm("collapse", False)
    found = samples(metrics)
    assert found["steelyard_breaker", (("state", "open"),)] == 0
    assert found["steelyard_alarm", (("alarm", "collapse"),)] == 0


def test_a_counter_that_nobody_named_is_a_mistake(metrics):
    with pytest.raises(KeyError):
        metrics.count("surprises")


def test_what_a_classifier_gave_is_counted_by_label_and_by_the_positive_probability(stand):
    made = stand("churn")
    edges = made.endpoint.loaded.outputs.edges
    served = made.endpoint.loaded.served.version
    low, high = edges[0], edges[-1]
    given = [(False, [1 - low, low])] * 3 + [(True, [1 - high, high])]
    made.metrics.answered(served, 1, [(0, 1, True)] * 4, (1, 2, 3, 4), given)
    found = samples(made.metrics)
    name, version = "steelyard_outputs_total", ("version", str(served))
    assert found[name, (("label", "False"), version)] == 3
    assert found[name, (("label", "True"), version)] == 1
    buckets = [
        (float(dict(labels)["le"]), n)
        for (name, labels), n in found.items()
        if name == "steelyard_output_value_bucket"
    ]
    assert [le for le, _ in buckets] == [*edges, float("inf")]
    assert [n for _, n in buckets] == [3] * (len(edges) - 1) + [4, 4]


def test_labels_that_were_never_given_show_as_none(stand):
    found = samples(stand("offer").metrics)
    given = {dict(k[1])["label"]: n for k, n in found.items() if "outputs_total" in k[0]}
    assert given == {"50% off": 0, 'say "yes"': 0, "Übung": 0}


def test_numbers_of_a_regression_lie_between_the_edges_of_its_baseline(stand):
    made = stand("price")
    loaded = made.endpoint.loaded
    low, high = loaded.outputs.edges[0], loaded.outputs.edges[-1]
    given = [(low - 1, None), (high + 1, None), (high + 2, None)]
    made.metrics.answered_rows(loaded.served.version, 3, 10, 0, given)
    found = samples(made.metrics)
    version = ("version", str(loaded.served.version))
    counts = [n for (name, _), n in found.items() if name == "steelyard_output_value_bucket"]
    assert counts == [1] * len(loaded.outputs.edges) + [3]
    assert found["steelyard_output_value_sum", (version,)] == pytest.approx(low + 2 * high + 2)


def test_a_thousand_labels_or_versions_are_no_thousand_series(metrics):
    labels = [f"label {i}" for i in range(1_000)]
    profile = OutputProfile.of(labels, {"outputs": {}})
    for version in range(100, 200):
        metrics.serving(version, "abc", profile)
        metrics.answered_rows(version, 1_000, 1, 0, [(label, None) for label in labels])
    found = [key for key in samples(metrics) if key[0] == "steelyard_outputs_total"]
    assert len(found) == 4 * 101
    versions = [key for key in samples(metrics) if key[0] == "steelyard_predictions_total"]
    assert len(versions) == 4
    others = (("label", "(others)"), ("version", "199"))
    assert samples(metrics)["steelyard_outputs_total", others] == 900


def test_a_log_that_fares_badly_shows(stand):
    made = stand("price")
    made.log.dropped, made.log.sync_errors = 5, 2
    found = samples(made.metrics)
    assert found["steelyard_log_dropped_total", ()] == 5
    assert found["steelyard_log_sync_errors_total", ()] == 2


def test_the_times_and_batches_of_many_rows_are_what_numpy_makes_of_each_alone(metrics):
    random = np.random.default_rng(0)
    totals = []
    for _ in range(200):
        rows = int(random.integers(1, 9))
        asked = [(int(s), int(s) + 700, True) for s in random.integers(0, 50_000, rows)]
        metrics.answered(1, 1, asked, (60_000, 70_000, 80_000, 10_000_000))
        totals += [10_000_000 - started for started, *_ in asked]
    found = samples(metrics)
    name = "steelyard_latency_seconds"
    assert found[f"{name}_count", (("stage", "total"),)] == len(totals)
    assert found[f"{name}_sum", (("stage", "total"),)] == pytest.approx(sum(totals) / 1e9)
    for bound in (0.005, 0.01):
        expected = sum(total <= bound * 1e9 for total in totals)
        assert found[f"{name}_bucket", (("le", str(bound)), ("stage", "total"))] == expected


def test_every_family_is_openmetrics_with_its_unit_and_its_meaning(stand, tmp_path):
    made = stand("churn")
    made.client.call("POST", "/predict/churn", {"tenure": "x"})
    made.metrics.fell_back("late")
    made.metrics.flagged("tenure", "out_of_range")
    answer = made.client.call(
        "GET", "/metrics", accept="application/openmetrics-text;version=1.0.0;q=0.9"
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {f.name: f for f in openmetrics_families(answer.body.decode())}
    for name, family in FAMILIES.items():
        found = families[f"steelyard_{name}"]
        assert (found.type, found.unit) == (family.kind, family.unit)
        assert found.documentation == family.help


def test_counters_that_cannot_be_left_for_others_end_nothing(stand, tmp_path, caplog):
    metrics = Metrics("price", stand("price").log, tmp_path / "gone")
    metrics.responded("/predict", 200)
    metrics.publish()
    assert "cannot be told" in caplog.text
    assert (("/predict", "200"), 1) in metrics.counted().counters["responses"]


def test_any_worker_tells_the_sum_over_all_and_over_the_dead(stand, tmp_path):
    log = stand("price").log
    mine, other = Metrics("price", log, tmp_path), Metrics("price", log, tmp_path, place=1)
    for metrics, rows in ((mine, 5), (other, 7)):
        metrics.serving(1, "abc", OutputProfile({}, (1.0, 2.0)))
        metrics.answered_rows(1, rows, 0, 0, [(1.5, None)])
        metrics.answered(1, 0, [(0, 10, True)], (20, 30, 40, 50))
        metrics.responded("/predict", 200)
    other.publish()
    file = next(tmp_path.glob("*.json"))
    elsewhere = tmp_path / "1-2.json"  # as another process would name it
    file.rename(elsewhere)
    (tmp_path / "2-3.new").write_bytes(b"{half")
    mine.publish()
    assert summed(mine) == (14, 2, 2, 2, 2)
    assert samples(mine)["steelyard_worker_deaths_total", ()] == 0
    before = elsewhere.read_bytes()
    bury(tmp_path, 1)
    assert not elsewhere.exists()
    assert summed(mine) == (14, 2, 2, 2, 1)
    assert samples(mine)["steelyard_worker_deaths_total", ()] == 1
    elsewhere.write_bytes(before)  # a reader that saw it before it was gone
    assert summed(mine) == (14, 2, 2, 2, 1)
    assert json.loads((tmp_path / "dead.json").read_bytes())["counted"]["gauges"] == {}


def summed(metrics):
    found = samples(metrics)
    return (
        found["steelyard_predictions_total", (("version", "1"),)],
        found["steelyard_latency_seconds_count", (("stage", "total"),)],
        found["steelyard_output_value_bucket", (("le", "2.0"), ("version", "1"))],
        found["steelyard_responses_total", (("route", "/predict"), ("status", "200"))],
        found["steelyard_workers", ()],
    )


def test_many_deaths_leave_one_file(stand, tmp_path):
    log = stand("price").log
    for pid in range(100, 200):
        worker = Metrics("price", log, tmp_path)
        worker.answered_rows(1, 3, 0, 0)
        worker.publish()
        next(tmp_path.glob("*-*.json")).rename(tmp_path / f"{pid}-1.json")
        bury(tmp_path, pid)
    bury(tmp_path, 7)  # it died before it counted anything
    assert [path.name for path in tmp_path.iterdir()] == ["dead.json"]
    found = samples(Metrics("price", log, tmp_path))
    assert found["steelyard_predictions_total", (("version", "1"),)] == 300
    assert found["steelyard_worker_deaths_total", ()] == 101


def test_only_answers_are_timed_on_the_prediction_route(stand, house):
    made = stand("price")
    made.client.call("POST", "/predict/price", house)
    made.client.call("POST", "/predict/price", {"rows": [house, house]})
    made.client.call("POST", "/predict/price", {"rooms": "x"})
    made.client.call("POST", "/predict/other", house)
    made.client.call("GET", "/health/live")
    assert made.counted("request_seconds") == {("/predict",): 2, ("/health",): 1}
