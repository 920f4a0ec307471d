"""Cases of the binary tensor data extension, for servers whose metadata lists it."""

import json
from collections.abc import Sequence
from typing import Any, Final

from steelyard.testing.conformance.answers import same
from steelyard.testing.conformance.hostile import error_text
from steelyard.testing.conformance.suite import NotApplicable, Row, Suite
from steelyard.testing.conformance.talk import Reply, expect
from steelyard.testing.conformance.tensors import checked_output, from_binary, to_binary
from steelyard.testing.conformance.v2_subject import V2, outputs_of

__all__ = ["add_binary_cases"]

_NAMES: Final = frozenset(["binary_tensor_data", "binary_data"])
_LENGTH: Final = "Inference-Header-Content-Length"
_ERROR: Final = 'A mistake of the client: 4xx with {"error": text}.'


def _rows(subject: V2) -> Sequence[Row]:
    if not _NAMES & set(subject.extensions):
        raise NotApplicable("GET /v2 does not list the binary tensor data extension")
    return subject.rows if subject.batched else subject.rows[:1]


def _packed(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return a request without its data, and the data as bytes."""
    blobs = []
    inputs = []
    for entry in request["inputs"]:
        blob = to_binary(entry["datatype"], entry["data"])
        blobs.append(blob)
        rest = {name: value for name, value in entry.items() if name != "data"}
        inputs.append({**rest, "parameters": {"binary_data_size": len(blob)}})
    return {**request, "inputs": inputs}, b"".join(blobs)


def _post(subject: V2, request: dict[str, Any], data: bytes, more: int = 0) -> Reply:
    """Send a JSON part and the bytes behind it; `more` falsifies what its length is said to be."""
    head = json.dumps(request).encode()
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head) + more)}
    return subject.talk.post(subject.route, head + data, headers)


def _unpacked(reply: Reply, rows: int | None) -> dict[str, list[Any]]:
    """Return the values of outputs that all come as bytes. Raises Violation."""
    length = reply.must(200).headers.get(_LENGTH.lower(), "")
    expect(length.isdigit(), f"{reply.status} without {_LENGTH}")
    head, data = reply.body[: int(length)], reply.body[int(length) :]
    outputs = Reply(reply.status, reply.headers, head).object("outputs")["outputs"]
    found = {}
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size")
        expect(type(size) is int and "data" not in output, f"{output}: without binary_data_size")
        expect(size <= len(data), f"{output['name']}: {len(data)} bytes left of {size}")
        values = from_binary(output["datatype"], data[:size])
        found[output["name"]] = checked_output({**output, "data": values}, rows)
        data = data[size:]
    expect(not data, f"{len(data)} bytes behind the outputs")
    return found


def _as_json(subject: V2, rows: Sequence[Row]) -> dict[str, list[Any]]:
    return outputs_of(subject, subject.talk.post(subject.route, subject.request(rows)), len(rows))


def add_binary_cases(suite: Suite[V2]) -> None:
    """Add the extension's cases; a server that does not list it is not asked."""

    @suite.case("binary inputs", "Data behind the JSON part are answered as the same data in JSON.")
    def inputs(subject: V2) -> None:
        rows = _rows(subject)
        wanted = _as_json(subject, rows)
        reply = _post(subject, *_packed(subject.request(rows)))
        found = outputs_of(subject, reply, len(rows))
        expect(same(found, wanted), f"{found}; in JSON {wanted}")

    @suite.case(
        "binary outputs",
        f"binary_data_output asks for outputs as bytes: {_LENGTH} says where the JSON part ends, "
        "binary_data_size how long each output is.",
    )
    def outputs(subject: V2) -> None:
        rows = _rows(subject)
        wanted = _as_json(subject, rows)
        request = subject.request(rows, parameters={"binary_data_output": True})
        found = _unpacked(subject.talk.post(subject.route, request), len(rows))
        expect(same(found, wanted), f"{found}; in JSON {wanted}")

    @suite.case("one binary output", "binary_data of a requested output makes that one bytes.")
    def one(subject: V2) -> None:
        rows = _rows(subject)
        wanted = _as_json(subject, rows)
        first = next(iter(wanted))
        asked = [{"name": first, "parameters": {"binary_data": True}}]
        reply = subject.talk.post(subject.route, subject.request(rows, outputs=asked))
        found = _unpacked(reply, len(rows))
        expect(same(found, {first: wanted[first]}), f"{found}; in JSON {wanted[first]}")

    @suite.case("binary data that end too early", _ERROR)
    def short(subject: V2) -> None:
        request, data = _packed(subject.request(_rows(subject)))
        _refused(_post(subject, request, data[:-1]))

    @suite.case("binary data of another size than their shape", _ERROR)
    def size(subject: V2) -> None:
        request, data = _packed(subject.request(_rows(subject)))
        request["inputs"][-1]["parameters"]["binary_data_size"] += 1
        _refused(_post(subject, request, data + b"\0"))

    @suite.case(f"a false {_LENGTH}", _ERROR)
    def length(subject: V2) -> None:
        request, data = _packed(subject.request(_rows(subject)))
        _refused(_post(subject, request, data, more=len(data) + 1))
        _refused(_post(subject, request, data, more=-1))


def _refused(reply: Reply) -> None:
    error_text("error")(reply.refused())
