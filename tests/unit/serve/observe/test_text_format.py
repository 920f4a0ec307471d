from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition as library
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics_library

from steelyard.serve.observe.exposition import families
from steelyard.serve.observe.text_format import media_type, written

PLAIN, OPENMETRICS = media_type(""), media_type("application/openmetrics-text;version=1.0.0")


def same_as_the_library(found):
    registry = SimpleNamespace(collect=lambda: found)
    assert written(found, PLAIN) == library.generate_latest(registry)
    assert written(found, OPENMETRICS) == openmetrics_library.generate_latest(registry)


texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.floats() | st.integers(0, 10**18)


@given(st.lists(st.tuples(texts, numbers)), texts)
def test_any_value_and_any_label_is_written_as_the_client_library_writes_it(series, explained):
    gauge = GaugeMetricFamily("g", explained, labels=["b"], unit="bytes")
    counter = CounterMetricFamily("c", explained, labels=["z", "a"])
    histogram = HistogramMetricFamily("h", explained, labels=["x"], unit="seconds")
    for label, value in series:
        gauge.add_metric([label], value)
        counter.add_metric([label, "é"], value)
        histogram.add_metric([label], [("0.5", 1), ("+Inf", 2)], value)
    info = InfoMetricFamily("i", explained, {"version": "1"})
    same_as_the_library([gauge, counter, histogram, info, GaugeMetricFamily("n", "", 3)])


def test_all_that_a_server_tells_is_written_as_the_client_library_writes_it(stand):
    made = stand("churn")
    made.metrics.answered_rows(1, 5, 10, 0, [(True, [0.25, 0.75])])
    found = list(families(made.metrics))
    assert len(found) > 25
    same_as_the_library(found)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics"),
    ],
)
def test_a_scraper_gets_what_it_asks_for(accept, kind):
    assert media_type(accept).startswith(kind)
