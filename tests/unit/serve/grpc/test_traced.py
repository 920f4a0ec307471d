"""Calls by gRPC as spans."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from steelyard.serve.grpc.messages import message
from steelyard.serve.observe.tracing import Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1"))


@pytest.fixture
def traced(stand):
    made = stand("price")
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made.front.tracing = Tracing(provider, "price")

    def spans():
        return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]

    return made, spans


def test_a_call_continues_the_trace_of_its_sender(traced, calling, request_of, house):
    made, spans = traced
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        await caller.call("ModelInfer", request_of(fields, [house]), metadata=SENT)
        await caller.call("ModelInfer", request_of(fields, [house, house]), metadata=SENT)

    calling(made, work)
    one, several = spans()
    assert one.name == "inference.GRPCInferenceService/ModelInfer"
    assert f"{one.context.trace_id:032x}" == TRACE
    assert f"{one.parent.span_id:016x}" == PARENT
    assert one.context.trace_state.to_header() == "a=1"
    assert one.attributes["rpc.system.name"] == "grpc"
    assert one.attributes["rpc.response.status_code"] == "OK"
    assert one.attributes["steelyard.prediction_id"] == made.log.records[0]["prediction_id"]
    assert several.attributes["steelyard.rows"] == 2
    assert [record["trace_id"] for record in made.log.records] == [TRACE] * 3


def test_a_refusal_is_the_clients_and_a_failure_the_servers(traced, calling, request_of, house):
    made, spans = traced
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        await caller.refused(request_of(fields, [{**house, "rooms": -1}]))
        made.log.full = True
        await caller.refused(request_of(fields, [house]))

    calling(made, work)
    refused, failed = spans()
    assert refused.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert refused.status.status_code is StatusCode.UNSET
    assert failed.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert failed.status.status_code is StatusCode.ERROR
    assert not failed.events


def test_health_is_not_traced(traced, calling):
    made, spans = traced

    async def work(caller):
        await caller.call("ServerLive", message("ServerLiveRequest")())
        await caller.call("ModelReady", message("ModelReadyRequest")(name="price"))

    calling(made, work)
    assert spans() == []
