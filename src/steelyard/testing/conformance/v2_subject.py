"""What is known of a model behind the Open Inference Protocol, and how it is asked over REST."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steelyard.errors import UsageError
from steelyard.testing.conformance.samples import (
    made_rows,
    openapi,
    reached,
    schema_at,
    served_model,
)
from steelyard.testing.conformance.suite import NotApplicable, Row, Subject
from steelyard.testing.conformance.talk import Reply, Talk, Violation, expect
from steelyard.testing.conformance.tensors import (
    Input,
    checked_output,
    inputs_of,
    metadata_problem,
    row_values,
    sample_rows,
    tensor,
)

__all__ = ["V2", "learn", "outputs_of", "predict"]


@dataclass(slots=True)
class V2(Subject):
    """A model that infers: its inputs, its metadata, the extensions of its server."""

    inputs: tuple[Input, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """Where the model's metadata are."""
        return f"/v2/models/{self.model}"

    @property
    def route(self) -> str:
        """Where it infers."""
        return f"{self.base}/infer"

    @property
    def batched(self) -> bool:
        """Whether several rows may be sent at once."""
        return all(given.batched for given in self.inputs)

    def request(self, rows: Sequence[Row] | None = None, **more: Any) -> dict[str, Any]:
        """Return an inference request for rows, the first known one where none are given."""
        chosen = self.rows[:1] if rows is None else rows
        return {"inputs": [tensor(given, chosen) for given in self.inputs], **more}

    def several(self) -> Sequence[Row]:
        """Return rows to be sent at once. Raises NotApplicable where the model takes one only."""
        if not self.batched:
            raise NotApplicable("the model's inputs have no free first size: it takes one row")
        return self.rows


def learn(talk: Talk, model: str | None, rows: list[Row] | None) -> V2:
    """Find out what a server serves. Raises UsageError where a model or a row has to be named."""
    reached(talk, "/v2/health/live")
    document = openapi(talk)
    model = model or _indexed(talk) or served_model(document)
    if model is None:
        raise UsageError("which model?", fix="Name it by --model: the protocol lists none.")
    metadata = _object(talk, f"/v2/models/{model}")
    well_formed = not any(map(metadata_problem, metadata.get("inputs") or ()))
    inputs = inputs_of(metadata if well_formed else {}, rows)
    if not inputs:
        raise UsageError(
            f"the metadata of {model} tells no inputs.", fix="Give rows that it takes by --rows."
        )
    extensions = _object(talk, "/v2").get("extensions") or ()
    row = schema_at(document, f"/predict/{model}")
    found = rows or (made_rows(row) if row else sample_rows(inputs))
    subject = V2(talk, model, found, inputs, metadata, tuple(extensions))
    if rows is None and not row:
        _try(subject)
    return subject


def _indexed(talk: Talk) -> str | None:
    """Return the model of a server that has one, by the model repository extension."""
    try:
        found = talk.post("/v2/repository/index", {}).must(200).document
        names = {entry["name"] for entry in found}
    except (Violation, TypeError, KeyError):
        return None
    return names.pop() if len(names) == 1 else None


def _object(talk: Talk, route: str) -> dict[str, Any]:
    try:
        return talk.get(route).must(200).object()
    except Violation:
        return {}


def _try(subject: V2) -> None:
    """Raise UsageError where a model takes no row that only its datatypes allow."""
    try:
        reply = subject.talk.post(subject.route, subject.request())
    except Violation:
        return
    if 400 <= reply.status < 500:
        raise UsageError(
            f"{subject.model} refuses rows made from its metadata: {reply}.",
            fix="Give rows that it takes by --rows.",
        )


def outputs_of(subject: V2, reply: Reply, rows: int) -> dict[str, list[Any]]:
    """Return the values of each output of an answer. Raises Violation where it is malformed."""
    found = reply.must(200).object("model_name", "outputs")
    expect(found["model_name"] == subject.model, f"{reply}: another model")
    expect(isinstance(found["outputs"], list) and bool(found["outputs"]), f"{reply}: no outputs")
    first = rows if subject.batched else None
    return {output["name"]: checked_output(output, first) for output in found["outputs"]}


def predict(subject: V2, talk: Talk, rows: Sequence[Row]) -> list[Any]:
    """Return each row's values of every output. Raises Violation, NotApplicable."""
    if len(rows) > 1:
        subject.several()
    values = outputs_of(subject, talk.post(subject.route, subject.request(rows)), len(rows))
    parted = {name: row_values(found, len(rows)) for name, found in values.items()}
    return [{name: found[i] for name, found in parted.items()} for i in range(len(rows))]
