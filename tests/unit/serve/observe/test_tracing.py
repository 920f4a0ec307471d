"""Spans as the SDK records them; tests/e2e/test_traced.py has those that a collector receives."""

import asyncio
import json
import subprocess
import sys
from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from steelyard.errors import UsageError
from steelyard.serve.observe.requests import Traced
from steelyard.serve.observe.tracing import Tracing, is_wanted, route_of, trace_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"


class Stage:
    """A front whose requests are traced, and what came of it."""

    def __init__(self, made):
        self.made = made
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.client = type(made.client)(
            Traced(made.front, Tracing(provider, made.front.endpoint.model))
        )

    def spans(self):
        """Return the span of the request, and those below it by name."""
        found = self.exporter.get_finished_spans()
        (server,) = [span for span in found if span.kind is SpanKind.SERVER]
        below = {span.name: span for span in found if span is not server}
        assert {span.parent.span_id for span in below.values()} <= {server.context.span_id}
        return server, below


@pytest.fixture
def stage(stand):
    return Stage(stand("price"))


def test_a_request_continues_the_trace_of_its_sender(stage, house):
    answer = stage.client.call(
        "POST", "/predict/price", house, traceparent=SAMPLED, tracestate="a=1,b=2"
    )
    server, below = stage.spans()
    assert f"{server.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == PARENT
    assert server.context.trace_state.to_header() == "a=1,b=2"
    assert server.name == "POST /predict/{model}"
    served = stage.made.endpoint.loaded.served
    assert dict(server.attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/predict/{model}",
        "network.protocol.version": "1.1",
        "url.path": "/predict/price",
        "url.scheme": "http",
        "steelyard.model": "price",
        "steelyard.version": served.version,
        "steelyard.bundle": served.bundle,
        "steelyard.prediction_id": answer.document["prediction_id"],
        "steelyard.rows": 1,
        "steelyard.source": "model",
    }
    assert server.status.status_code is StatusCode.UNSET
    assert list(below) == ["wait", "predict", "log"]
    times = [(span.start_time, span.end_time) for span in below.values()]
    assert all(a[0] <= a[1] <= b[0] <= b[1] for a, b in pairwise(times))
    assert server.start_time <= times[0][0] <= times[-1][1] <= server.end_time
    assert below["predict"].attributes["steelyard.batch_rows"] == 1


def test_the_record_names_the_trace_and_others_do_not(stage, house):
    stage.client.call("POST", "/predict/price", house, traceparent=SAMPLED)
    stage.client.call("POST", "/predict/price", {"rows": [house]}, traceparent=SAMPLED)
    stage.made.client.call("POST", "/predict/price", house, traceparent=SAMPLED)
    records = stage.made.log.records
    assert [record.get("trace_id") for record in records] == [TRACE, TRACE, None]
    assert all(record["row"] == house for record in records)


def test_one_whose_parent_is_not_sampled_is_no_span_and_still_in_the_log(stage, house):
    answer = stage.client.call("POST", "/predict/price", house, traceparent=UNSAMPLED)
    assert answer.status == 200
    assert stage.exporter.get_finished_spans() == ()
    assert stage.made.log.records[0]["trace_id"] == TRACE


@pytest.mark.parametrize("given", [{}, {"traceparent": "00-nonsense-01"}, {"traceparent": ""}])
def test_a_request_without_a_trace_begins_one(stage, house, given):
    stage.client.call("POST", "/predict/price", house, **given)
    server, _ = stage.spans()
    assert server.parent is None
    assert stage.made.log.records[0]["trace_id"] == f"{server.context.trace_id:032x}"


def test_several_rows_are_one_span_that_says_what_became_of_them(stage, house):
    odd = {**house, "area": 1e9}
    stage.client.call("POST", "/predict/price", {"rows": [house, odd, house]})
    server, below = stage.spans()
    assert server.attributes["steelyard.rows"] == 3
    assert server.attributes["steelyard.fallbacks"] == 0
    assert server.attributes["steelyard.flagged_fields"] == ("area", "prediction")
    assert below == {}


def test_a_model_that_fails_is_a_span_that_says_so(stage, house):
    def fail(*_):
        raise RuntimeError("broken")

    stage.made.endpoint.calls._timed_call = fail
    answer = stage.client.call("POST", "/predict/price", house)
    assert answer.status == 500
    server, _ = stage.spans()
    assert server.status.status_code is StatusCode.ERROR
    assert server.attributes["error.type"] == "500"


def test_what_a_fallback_answered_is_told(stage, house):
    def fail(*_):
        raise RuntimeError("broken")

    loaded = stage.made.endpoint.loaded
    stage.made.endpoint.calls._timed_call = fail
    before, loaded.fallback = loaded.fallback, lambda values: (1.5, None)
    try:
        stage.client.call("POST", "/predict/price", house)
        stage.client.call("POST", "/predict/price", {"rows": [house]})
    finally:
        loaded.fallback = before
    one, several = [s for s in stage.exporter.get_finished_spans() if s.kind is SpanKind.SERVER]
    assert one.attributes["steelyard.source"] == "fallback"
    assert one.attributes["steelyard.reason"] == "failed"
    assert several.attributes["steelyard.fallbacks"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("POST", "/predict/price", 422, "POST /predict/{model}"),
        ("POST", "/predict/other", 404, "POST /predict/{model}"),
        ("GET", "/etc/passwd", 404, "GET"),
        ("BREW", "/predict/price", 405, "HTTP /predict/{model}"),
    ],
)
def test_a_request_that_is_refused_is_no_error_of_the_server(stage, method, path, status, name):
    answer = stage.client.call(method, path, {"rooms": "x"})
    assert answer.status == status
    server, _ = stage.spans()
    assert server.name == name
    assert server.attributes["http.response.status_code"] == status
    assert server.status.status_code is StatusCode.UNSET
    assert server.attributes.get("http.request.method_original") == (
        "BREW" if method == "BREW" else None
    )


def test_neither_the_query_nor_a_key_is_told(stage, house):
    async def ask():
        scope_of = stage.client.application
        sent = []

        async def application(scope, receive, send):
            await scope_of({**scope, "query_string": b"key=very-secret"}, receive, send)

        client = type(stage.client)(application)
        sent.append(
            await client.request(
                "POST",
                "/predict/price",
                [json.dumps(house).encode()],
                {"authorization": "Bearer very-secret", "user-agent": "tester/1"},
            )
        )
        return sent

    asyncio.run(ask())
    server, _ = stage.spans()
    assert "very-secret" not in server.to_json()
    assert server.attributes["user_agent.original"] == "tester/1"


def test_a_client_that_left_has_no_response(stage):
    async def leave():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            pytest.fail("nobody is there")

        scope = {"type": "http", "method": "POST", "path": "/predict/price", "headers": []}
        await stage.client.application(scope, receive, send)

    asyncio.run(leave())
    server, _ = stage.spans()
    assert server.attributes["error.type"] == "no_response"
    assert "http.response.status_code" not in server.attributes


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/v2/health/live"])
def test_what_asks_whether_all_is_well_is_not_traced(stage, path):
    assert stage.client.call("GET", path).status == 200
    assert stage.exporter.get_finished_spans() == ()


def test_within_a_request_the_trace_is_known_to_the_log_and_outside_it_is_not(stage, house):
    seen = []

    async def application(scope, receive, send):
        seen.append(trace_id())
        await stage.made.front(scope, receive, send)

    traced = Traced(application, stage.client.application._tracing)
    type(stage.client)(traced).call("POST", "/predict/price", house, traceparent=SAMPLED)
    assert (seen, trace_id()) == ([TRACE], "")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/predict/churn", "/predict/{model}"),
        ("/v1/models/churn:predict", "/v1/models/{model}:predict"),
        ("/v1/models/churn", "/v1/models/{model}"),
        ("/v2/models/churn", "/v2/models/{model}"),
        ("/v2/models/churn/infer", "/v2/models/{model}/infer"),
        ("/v2/models/churn/versions/3/ready", "/v2/models/{model}/versions/{version}/ready"),
        ("/invocations", "/invocations"),
        ("/predict/churn/more", None),
        ("/v2/models/churn/versions/3/delete", None),
        ("/predict/", None),
    ],
)
def test_routes_are_few_however_many_paths_are_asked_for(path, route):
    assert route_of(path) == route


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_traces_are_off_unless_the_environment_asks_for_them(environment, wanted):
    assert is_wanted(environment) is wanted


def test_an_exporter_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UsageError, match="otlp_proto_http"):
        is_wanted({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_without_the_package_the_way_out_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match=r"steelyard\[otel\]"):
        is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    assert not is_wanted({})


def test_nothing_of_it_is_loaded_by_a_server_that_does_not_trace():
    code = (
        "import sys, steelyard.serve.server, steelyard.flow.serving; "
        "print([m for m in ('opentelemetry', 'prometheus_client', 'requests') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
