"""Traces by OpenTelemetry, where its environment variables ask for them; nothing of it otherwise.

A request's span continues the trace of its `traceparent` header and is sampled as its parent is.
Traced requests go the long way: a server that traces answers fewer of them a second.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from itertools import pairwise
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final, Self

from steelyard.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

    from steelyard.serve.answer.answered import Mark
    from steelyard.serve.answer.version import Served

__all__ = [
    "METHODS",
    "RequestTrace",
    "Tracing",
    "following",
    "is_wanted",
    "note_error",
    "note_status",
    "route_of",
    "trace_id",
]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_GROUP: Final = "opentelemetry_traces_exporter"
_FLUSH_SECONDS: Final = 5.0
"""Less than the ten seconds that some platforms give a server to end."""
_STAGES: Final = ("decode", "wait", "predict", "encode", "log")
_TOLD: Final = frozenset(["wait", "predict", "log"])
"""Those that can take long; a span costs more than it takes to decode and to encode."""
METHODS: Final = frozenset(
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]
)
_ROUTES: Final = (
    (re.compile(r"/predict/[^/]+"), "/predict/{model}"),
    (re.compile(r"/v1/models/[^/]+:predict"), "/v1/models/{model}:predict"),
    (re.compile(r"/v[12]/models/[^/:]+"), None),
    (re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?(?:/(?:infer|ready))?"), None),
)
_SERVER_ERRORS: Final = frozenset(
    ["DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"]
)
_PLAIN: Final = frozenset(["/", "/docs", "/execution-parameters", "/invocations", "/openapi.json"])

Headers = Sequence[tuple[bytes, bytes]]


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Say whether traces are asked for; raise UsageError where they are and cannot be made.

    >>> is_wanted({}), is_wanted({"OTEL_TRACES_EXPORTER": "none"})
    (False, False)
    """
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    named = environment.get(_EXPORTERS, "").strip()
    if off or named == "none" or not (named or any(environment.get(e) for e in _ENDPOINTS)):
        return False
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise UsageError(
            "traces are asked for by OTEL_ variables, and OpenTelemetry is not installed.",
            fix='Install it with: pip install "steelyard[otel]". Or set OTEL_SDK_DISABLED=true.',
        )
    for name in _exporter_names(environment):
        _entry_point(name)
    return True


def trace_id() -> str:
    """Return the id of the trace that is going on, in hexadecimal, or nothing."""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


class RequestTrace:
    """What follows one request through the server, and is told of its rows once they are logged."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self.id = trace_id()
        self._tracer = tracer
        self._span = span
        # Stages are timed by a clock that does not know the date.
        self._offset = time_ns() - perf_counter_ns()

    def named(self, record: bytes) -> bytes:
        """Return a record of the log, a JSON object, that names the trace."""
        return b'%b,"trace_id":"%b"}' % (record[:-1], self.id.encode())

    def row(self, served: "Served", prediction_id: str, mark: "Mark") -> None:
        """Note the row of a request for one."""
        found = {"steelyard.prediction_id": prediction_id, "steelyard.source": mark.source}
        if mark.reason:
            found["steelyard.reason"] = mark.reason
        self._answered(served, 1, [mark])
        self._span.set_attributes(found)

    def rows(self, served: "Served", count: int, marks: "Sequence[Mark]") -> None:
        """Note the rows of a request for several; `marks` are there where one is not plain."""
        self._answered(served, count, marks)
        fallbacks = sum(mark.source != "model" for mark in marks)
        self._span.set_attribute("steelyard.fallbacks", fallbacks)

    def stages(self, times: Sequence[int], together: int) -> None:
        """Note when (ns) each stage of a row ended, from its coming on: spans of their own."""
        if not self._span.is_recording():
            return
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(self._span)
        for stage, (began, ended) in zip(_STAGES, pairwise(times), strict=True):
            if stage not in _TOLD:
                continue
            child = self._tracer.start_span(stage, context, start_time=began + self._offset)
            if stage == "predict":
                child.set_attribute("steelyard.batch_rows", together)
            child.end(ended + self._offset)

    def _answered(self, served: "Served", count: int, marks: "Sequence[Mark]") -> None:
        found: dict[str, Any] = {
            "steelyard.version": served.version,
            "steelyard.bundle": served.bundle,
            "steelyard.rows": count,
        }
        if flagged := sorted({flag.field for mark in marks for flag in mark.flags}):
            found["steelyard.flagged_fields"] = flagged
        self._span.set_attributes(found)


_following: ContextVar[RequestTrace | None] = ContextVar("following", default=None)


def following() -> RequestTrace | None:
    """Return what follows the request that is going on, where it is traced."""
    return _following.get()


class Tracing:
    """The traces of one worker, which has to make this after it was forked."""

    def __init__(self, provider: "TracerProvider", model: str) -> None:
        from importlib.metadata import version  # slow, and of no use to a server without traces

        self._provider = provider
        self._model = model
        self._tracer = provider.get_tracer("steelyard", version("steelyard"))
        self._getter = _getter()

    @classmethod
    def start(cls, environment: Mapping[str, str], model: str) -> Self:
        """Begin to trace, as the environment says."""
        from importlib.metadata import version

        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            own = {"service.name": "steelyard", "service.version": version("steelyard")}
            resource = resource.merge(Resource(own))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in _exporter_names(environment):
            provider.add_span_processor(BatchSpanProcessor(_entry_point(name).load()()))
        return cls(provider, model)

    @contextmanager
    def request(
        self, name: str, headers: Headers, attributes: Mapping[str, Any]
    ) -> Iterator["Span"]:
        """Be in the span of one request, below its sender's; `following` is told of its rows."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, use_span

        span = self._tracer.start_span(
            name,
            extract(headers, getter=self._getter),
            SpanKind.SERVER,
            {**attributes, "steelyard.model": self._model},
        )
        with use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            token = _following.set(RequestTrace(self._tracer, span))
            try:
                yield span
            finally:
                _following.reset(token)

    def end(self) -> None:
        """Send what is left, for a few seconds at most: a collector that is away delays no end."""
        ending = threading.Thread(target=self._provider.shutdown, name="end-traces", daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)


def note_error(span: "Span", kind: str) -> None:
    """Note that the server did not answer a request as it should."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def note_status(span: "Span", status: str) -> None:
    """Note by its name how a call by gRPC ended; some statuses are an error of the server."""
    span.set_attribute("rpc.response.status_code", status)
    if status in _SERVER_ERRORS:
        note_error(span, status)


def route_of(path: str) -> str | None:
    """Return the template of a path, which is one of few; None where nothing is served.

    >>> route_of("/v2/models/churn/versions/3/infer"), route_of("/etc/passwd")
    ('/v2/models/{model}/versions/{version}/infer', None)
    """
    if path in _PLAIN:
        return path
    for pattern, template in _ROUTES:
        if pattern.fullmatch(path):
            parts = path.split("/")
            parts[3:4] = ["{model}"]
            if parts[4:5] == ["versions"]:
                parts[5] = "{version}"
            return template or "/".join(parts)
    return None


def _exporter_names(environment: Mapping[str, str]) -> list[str]:
    """Return the entry points of the exporters, `otlp` by its protocol: HTTP unless it says grpc."""
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "")
    otlp = "otlp_proto_grpc" if protocol.strip() == "grpc" else "otlp_proto_http"
    names = (environment.get(_EXPORTERS) or "otlp").split(",")
    return [otlp if name.strip() == "otlp" else name.strip() for name in names]


def _entry_point(name: str) -> Any:
    from importlib.metadata import entry_points

    found = entry_points(group=_GROUP)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise UsageError(
            f"there is no exporter of traces {name!r} here; there are: {known}.",
            fix=f'Install its package, or set {_EXPORTERS}: otlp comes with "steelyard[otel]".',
        )
    return found[name]


def _getter() -> Any:
    from opentelemetry.propagators.textmap import Getter

    class Read(Getter[Headers]):
        def get(self, carrier: Headers, key: str) -> list[str] | None:
            wanted = key.lower().encode()
            found = [value.decode("latin-1") for name, value in carrier if name == wanted]
            return found or None

        def keys(self, carrier: Headers) -> list[str]:
            return [name.decode("latin-1") for name, _ in carrier]

    return Read()
