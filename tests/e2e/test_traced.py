"""A served model that traces, and a collector of our own that reads what it is sent."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger
from steelyard.predictions import read

ROW = {"rooms": 4, "area": 81.5}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"}


class House(sy.Row):
    rooms: int
    area: float


def houses() -> pl.DataFrame:
    draw = np.random.default_rng(1)
    rooms, area = draw.integers(1, 8, 300), draw.uniform(20, 200, 300)
    return pl.DataFrame({"rooms": rooms, "area": area, "price": rooms * 10 + area})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    config = Config(folder / "state")
    made = sy.Model(
        name="price", row=House, data=sy.Python(houses), label="price", estimator=Ridge()
    )
    built = build(made, read_table(made, config), folder / "candidates")
    ledger = open_ledger(config)
    ledger.register(
        "price",
        bundle=built.folder,
        bundle_hash=built.bundle,
        provenance={},
        verdict=Verdict(built.bundle, hash_json({}), (Check("schema", "rows", True),)),
        documents={},
        by="test",
    )
    version = Reference("price", version=1)
    ledger.promote(version, alias="champion", reason="", by="test")
    return folder / "state"


@dataclass
class Collector:
    url: str
    received: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, wanted: Callable[[Span], bool]) -> Span:
        late = time.monotonic() + 20
        while time.monotonic() < late:
            for span in self.spans():
                if wanted(span):
                    return span
            time.sleep(0.05)
        raise AssertionError([span.name for span in self.spans()])


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.headers.append(dict(self.headers))
            found.received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
        found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    said: Path

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | headers
        try:
            request = urllib.request.Request(self.url + path, data, given)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def end(self) -> float:
        """End the server; return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        return time.monotonic() - began


@pytest.fixture
def start(state: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, **environment: str) -> Server:
        said = tmp_path / "said.txt"
        with said.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0", *words],
                env={
                    **os.environ,
                    "STEELYARD_STATE": str(state),
                    "OTEL_BSP_SCHEDULE_DELAY": "100",
                    **environment,
                },
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        running.append(process)
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, said.read_text()
        return Server(process, found[0], said)

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def is_server(span: Span) -> bool:
    return span.kind == Span.SPAN_KIND_SERVER


def attributes(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found.attributes}


def test_a_collector_receives_the_request_below_its_sender_with_its_stages(start, collector, state):
    server = start(
        "--access-log",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=ours",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    )
    status, answer = server.ask("/predict/price", ROW, **SENT)
    assert status == 200
    span = collector.wait_for(is_server)
    assert (span.name, span.trace_id.hex()) == ("POST /predict/{model}", TRACE)
    assert (span.parent_span_id.hex(), span.trace_state) == (PARENT, "vendor=opaque")
    told = attributes(span)
    assert told["steelyard.prediction_id"] == answer["prediction_id"]
    assert told["http.response.status_code"] == 200
    assert told["server.port"] == int(server.url.rpartition(":")[2])
    assert told["client.address"] == "127.0.0.1"
    collector.wait_for(lambda found: found.name == "log")
    below = [s.name for s in collector.spans() if s.parent_span_id == span.span_id]
    assert below == ["wait", "predict", "log"]
    resource = attributes(collector.received[0].resource_spans[0].resource)
    assert resource["service.name"] == "steelyard"
    assert resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["x-tenant"] == "ours"
    server.end()
    record = next(read(Config(state).predictions / "price", prediction_id=answer["prediction_id"]))
    assert record.trace_id == TRACE
    lines = [json.loads(line) for line in server.said.read_text().splitlines()]
    (told_request,) = [line for line in lines if line["event"] == "request"]
    assert told_request["trace_id"] == TRACE
    assert all("trace_id" not in line for line in lines if line["event"] != "request")


def test_the_service_has_the_name_that_it_is_given_and_each_worker_its_own_spans(start, collector):
    server = start(
        "--workers",
        "2",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
        OTEL_SERVICE_NAME="house-prices",
    )
    for _ in range(20):
        assert server.ask("/v1/models/price:predict", {"instances": [ROW]})[0] == 200
    server.end()
    spans = [span for span in collector.spans() if is_server(span)]
    assert len(spans) == len({span.trace_id for span in spans}) == 20
    assert {span.name for span in spans} == {"POST /v1/models/{model}:predict"}
    assert all(attributes(span)["steelyard.source"] == "model" for span in spans)
    names = {
        attributes(found.resource_spans[0].resource)["service.name"] for found in collector.received
    }
    assert names == {"house-prices"}


def test_a_trace_that_its_sender_does_not_sample_is_not_sent(start, collector):
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert server.ask("/predict/price", ROW, **unsampled)[0] == 200
    assert server.ask("/health/ready")[0] == 200
    server.end()
    assert collector.spans() == []


def test_spans_of_the_last_moment_are_sent_before_the_end(start, collector):
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert server.ask("/predict/price", {"rows": [ROW, ROW]})[0] == 200
    assert collector.spans() == []
    server.end()
    (span,) = collector.spans()
    assert attributes(span)["steelyard.rows"] == 2


def test_a_collector_that_is_away_costs_no_answer_and_delays_no_end_for_long(start):
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    for _ in range(50):
        assert server.ask("/predict/price", ROW)[0] == 200
    assert server.end() < 15
    lines = [json.loads(line) for line in server.said.read_text().splitlines()]
    assert lines[-1]["event"] == "stop"


def test_a_wrong_exporter_is_told_at_the_start(state):
    run = subprocess.run(
        [sys.executable, "-m", "steelyard", "serve", "price", "--port", "0"],
        env={**os.environ, "STEELYARD_STATE": str(state), "OTEL_TRACES_EXPORTER": "jaeger"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "no exporter of traces 'jaeger' here" in run.stderr
    assert "Traceback" not in run.stderr
