"""What is known of a model behind the Open Inference Protocol over gRPC, and how it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from steelyard.errors import UsageError
from steelyard.testing.conformance.grpc_messages import (
    SERVICE,
    channel,
    contents_field,
    grpc_module,
    message,
)
from steelyard.testing.conformance.suite import NotApplicable, Row, Subject
from steelyard.testing.conformance.talk import Talk, Violation, expect, shown
from steelyard.testing.conformance.tensors import (
    Input,
    checked_output,
    from_binary,
    inputs_of,
    metadata_problem,
    row_values,
    sample_rows,
    tensor,
    to_binary,
)

__all__ = [
    "CallError",
    "V2Grpc",
    "call",
    "infer",
    "learn",
    "metadata_of",
    "ok",
    "predict",
    "refused",
]

_SERVERS: Final = frozenset(
    ["INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "CANCELLED"]
)


class CallError(Exception):
    """A call ended with another status than OK."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code} {details}")
        self.code = code


@dataclass(slots=True)
class V2Grpc(Subject):
    """A model that infers: its inputs, its metadata, the channel to its server."""

    channel: Any = None
    inputs: tuple[Input, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def batched(self) -> bool:
        """Whether several rows may be sent at once."""
        return all(given.batched for given in self.inputs)

    def several(self) -> Sequence[Row]:
        """Return rows to be sent at once. Raises NotApplicable where the model takes one only."""
        if not self.batched:
            raise NotApplicable("the model's inputs have no free first size: it takes one row")
        return self.rows

    def request(self, rows: Sequence[Row] | None = None, *, raw: bool = False, **more: Any) -> Any:
        """Return an inference request for rows, the first known one where none are given."""
        chosen = self.rows[:1] if rows is None else rows
        tensors = [tensor(given, chosen) for given in self.inputs]
        raw = raw or any(contents_field(t["datatype"]) is None for t in tensors)
        found = message("ModelInferRequest")(model_name=self.model, **more)
        for made in tensors:
            entry = found.inputs.add(
                name=made["name"], datatype=made["datatype"], shape=made["shape"]
            )
            if raw:
                found.raw_input_contents.append(to_binary(made["datatype"], made["data"]))
            else:
                _fill(entry.contents, made["datatype"], made["data"])
        return found


def _fill(contents: Any, datatype: str, values: Sequence[Any]) -> None:
    name = contents_field(datatype)
    data = [value.encode() for value in values] if datatype == "BYTES" else values
    getattr(contents, str(name)).extend(data)


def call(subject: V2Grpc, method: str, request: Any, reply: str | None = None) -> Any:
    """Return the response to a call. Raises CallError where its status is another than OK.

    `request` is a message, or bytes as they are; `reply` names the response's message where it is not
    the method's own.
    """
    return _call(subject.talk, subject.channel, method, request, reply)


def _call(talk: Talk, opened: Any, method: str, request: Any, reply: str | None = None) -> Any:
    """Return the response to a call. Raises CallError, or Violation where nothing comes."""
    grpc = grpc_module()
    data = request if isinstance(request, bytes) else request.SerializeToString()
    text = shown(request if isinstance(request, bytes) else " ".join(str(request)[:1000].split()))
    talk.sent, talk.came = f"{method} {text}".strip(), ""
    answered = message(reply or f"{method}Response")
    ask = opened.unary_unary(f"/{SERVICE}/{method}", None, answered.FromString)
    try:
        found = ask(
            data, timeout=talk.seconds, metadata=[(k.lower(), v) for k, v in talk.headers.items()]
        )
    except grpc.RpcError as error:
        code, details = error.code().name, shown(error.details() or "")
        talk.came = f"{code} {details}"
        raise CallError(code, details) from None
    talk.came = shown(" ".join(str(found)[:1000].split()))
    return found


def ok(subject: V2Grpc, method: str, request: Any) -> Any:
    """Return the response to a call that has to succeed. Raises Violation."""
    return _ok_over(subject.talk, subject.channel, method, request)


def _ok_over(talk: Talk, opened: Any, method: str, request: Any) -> Any:
    try:
        return _call(talk, opened, method, request)
    except CallError as error:
        raise Violation(str(error)) from None


def refused(subject: V2Grpc, request: Any, method: str = "ModelInfer") -> None:
    """Check that a call fails by the client's own mistake. Raises Violation."""
    try:
        call(subject, method, request)
    except CallError as error:
        expect(error.code not in _SERVERS, str(error))
    else:
        raise Violation(f"OK {subject.talk.came}")


def learn(talk: Talk, model: str | None, rows: list[Row] | None) -> V2Grpc:
    """Find out what a server serves. Raises UsageError where a model or a row has to be named."""
    parts = urlsplit(talk.url)
    secure = parts.scheme in ("https", "grpcs")
    opened = channel(f"{parts.hostname}:{parts.port or (443 if secure else 80)}", secure=secure)
    try:
        _call(talk, opened, "ServerLive", message("ServerLiveRequest")())
    except CallError as error:
        if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            raise UsageError(
                f"no server answers gRPC at {talk.url}: {error}.",
                fix="Start it, or name another URL; the port is another than that of HTTP.",
            ) from None
    if model is None:
        raise UsageError("which model?", fix="Name it by --model: the protocol lists none.")
    try:
        found = _call(talk, opened, "ModelMetadata", message("ModelMetadataRequest")(name=model))
        metadata = metadata_of(found)
    except CallError:
        metadata = {}
    well_formed = not any(map(metadata_problem, metadata.get("inputs") or ()))
    inputs = inputs_of(metadata if well_formed else {}, rows)
    if not inputs:
        raise UsageError(
            f"the metadata of {model} tells no inputs.", fix="Give rows that it takes by --rows."
        )
    subject = V2Grpc(talk, model, rows or sample_rows(inputs), opened, inputs, metadata)
    if rows is None:
        _try(subject)
    return subject


def _try(subject: V2Grpc) -> None:
    """Raise UsageError where a model takes no row that only its datatypes allow."""
    try:
        call(subject, "ModelInfer", subject.request())
    except CallError as error:
        if error.code not in _SERVERS:
            raise UsageError(
                f"{subject.model} refuses rows made from its metadata: {error}.",
                fix="Give rows that it takes by --rows.",
            ) from None


def metadata_of(found: Any) -> dict[str, Any]:
    """Return model metadata as REST has them."""

    def tensors(entries: Any) -> list[dict[str, Any]]:
        return [{"name": e.name, "datatype": e.datatype, "shape": list(e.shape)} for e in entries]

    return {
        "name": found.name,
        "versions": list(found.versions),
        "platform": found.platform,
        "inputs": tensors(found.inputs),
        "outputs": tensors(found.outputs),
    }


def outputs_of(subject: V2Grpc, found: Any, rows: int) -> dict[str, list[Any]]:
    """Return the values of each output of an answer. Raises Violation where it is malformed."""
    expect(found.model_name == subject.model, f"model_name {found.model_name!r}")
    expect(len(found.outputs) > 0, "no outputs")
    raw = list(found.raw_output_contents)
    expect(len(raw) in (0, len(found.outputs)), f"{len(raw)} raw contents")
    values = {}
    for i, output in enumerate(found.outputs):
        if raw:
            data = from_binary(output.datatype, raw[i])
        else:
            name = contents_field(output.datatype)
            expect(name is not None, f"{output.name}: contents of {output.datatype}")
            data = list(getattr(output.contents, str(name)))
            data = [one.decode() for one in data] if output.datatype == "BYTES" else data
        told = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        values[output.name] = checked_output(
            {**told, "data": data}, rows if subject.batched else None
        )
    return values


def infer(subject: V2Grpc, request: Any, rows: int = 1) -> dict[str, list[Any]]:
    """Return the values of each output of a good answer. Raises Violation."""
    return outputs_of(subject, ok(subject, "ModelInfer", request), rows)


def predict(subject: V2Grpc, talk: Talk, rows: Sequence[Row]) -> list[Any]:
    """Return each row's values of every output. Raises Violation, NotApplicable."""
    if len(rows) > 1:
        subject.several()
    found = _ok_over(talk, subject.channel, "ModelInfer", subject.request(rows))
    values = outputs_of(subject, found, len(rows))
    parted = {name: row_values(data, len(rows)) for name, data in values.items()}
    return [{name: data[i] for name, data in parted.items()} for i in range(len(rows))]
