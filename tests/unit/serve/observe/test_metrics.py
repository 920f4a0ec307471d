import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from steelyard.errors import InputError
from steelyard.serve.observe.exposition import exposition
from steelyard.serve.observe.metrics import Metrics


def samples(metrics):
    """Return (name, labels but the model) -> value of what a scrape would read."""
    found = {}
    for family in text_string_to_metric_families(exposition(metrics).decode()):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "model"))
            found[sample.name, labels] = sample.value
    return found


def refusal(*fields):
    return InputError([{"field": field, "message": "wrong", "got": None} for field in fields])


@pytest.fixture
def metrics(stand):
    return stand("price").metrics


def test_answers_are_counted_by_version_with_the_time_of_each_stage(metrics):
    # One row alone, then two together, of which the second came a microsecond later.
    metrics.answered(3, 400, [(0, 1_500)], (1_500, 11_500, 13_000, 16_000))
    metrics.answered(3, 300, [(0, 1_500), (1_000, 2_500)], (5_000, 12_000, 14_000, 17_000))
    metrics.answered_rows(4, 100, 5_000, 0)
    found = samples(metrics)
    assert found["steelyard_predictions_total", (("version", "3"),)] == 3
    assert found["steelyard_batches_total", ()] == 2
    assert found["steelyard_predictions_total", (("version", "4"),)] == 100
    assert found["steelyard_log_bytes_total", ()] == 5_700
    times = {
        stage: found["steelyard_latency_seconds_sum", (("stage", stage),)] * 1e9
        for stage in ("decode", "predict", "encode", "log", "total")
    }
    assert times == pytest.approx(
        {"decode": 4_500, "predict": 17_000, "encode": 3_500, "log": 6_000, "total": 49_000}
    )
    name = "steelyard_latency_seconds_bucket"
    assert found[name, (("le", "1e-06"), ("stage", "decode"))] == 0
    assert found[name, (("le", "2e-06"), ("stage", "decode"))] == 3
    assert found[name, (("le", "+Inf"), ("stage", "rows"))] == 1


def test_counters_are_summed_up_on_the_way_before_they_grow_without_end(metrics):
    for _ in range(1_000):
        metrics.answered(1, 10, [(0, 1)], (1, 2, 3, 4))
    assert len(metrics._batches) < 100
    assert dict(metrics.document()["predictions"]) == {1: 1_000}


def test_names_that_clients_invent_are_one_label(metrics):
    for i in range(100):
        metrics.refused(refusal(f"made.up.{i}", "rows.7.area", "area"), {"area", "rooms"})
    metrics.refused(refusal("body", "rows"), {"area"})
    counts = dict(metrics.document()["refusals"])
    assert counts == {"(unknown)": 100, "area": 100, "body": 1, "rows": 1}


def test_responses_and_the_version_that_answers_are_shown(metrics):
    metrics.responded("/predict", 200)
    metrics.responded("/predict", 422)
    metrics.serving(7, "abc")
    metrics.swap_refused()
    found = samples(metrics)
    assert found["steelyard_responses_total", (("route", "/predict"), ("status", "422"))] == 1
    assert found["steelyard_serving", (("bundle", "abc"), ("version", "7"))] == 1
    assert found["steelyard_swaps_refused_total", ()] == 1
    assert found["process_open_fds", ()] > 0


def test_a_log_that_fares_badly_shows(stand):
    made = stand("price")
    made.log.dropped, made.log.sync_errors = 5, 2
    found = samples(made.metrics)
    assert found["steelyard_log_dropped_total", ()] == 5
    assert found["steelyard_log_sync_errors_total", ()] == 2


def test_any_worker_tells_the_sum_over_all_and_over_the_dead(stand, tmp_path):
    log = stand("price").log
    mine = Metrics("price", log, tmp_path)
    other = Metrics("price", log, tmp_path)
    mine.answered_rows(1, 5, 0, 0)
    other.answered_rows(1, 7, 0, 0)
    other.publish()
    (tmp_path / f"{other_file(tmp_path)}").rename(tmp_path / "1.json")  # as another process would
    (tmp_path / "2.new").write_bytes(b"{half")
    mine.publish()
    assert samples(mine)["steelyard_predictions_total", (("version", "1"),)] == 12
    assert json.loads((tmp_path / "1.json").read_bytes())["predictions"] == [[1, 7]]


def other_file(folder):
    return next(folder.glob("*.json")).name
