"""Amazon SageMaker's container contract: `/ping`, `/invocations`, `/execution-parameters`.

A request is `application/json` (one row, a list of rows, or `{"instances": [...]}`),
`application/jsonlines` (a row a line) or `text/csv` without a header. A row is an object of fields or
a list of values in the order of the fields, also as `{"features": [...]}`; a CSV line has the fields
in their order, its empty cells are null.

The response has the type that `Accept` names, else that of the request. JSON is
`{"predictions": [...]}` and JSON lines have a line a row, each prediction being the whole object of
the native route. A CSV line is the prediction and, for classes, the probability of each, sorted by
label but for the positive one, which is last: SageMaker's own tools find them by their places. As a
CSV line has no room for a mark, the response's `X-Amzn-SageMaker-Custom-Attributes` counts the rows
that the fallback answered and those that are odd (`fallback=1; flagged=2`).

Source: custom inference code with hosting services and with batch transform; common data formats
for inference. Statuses: 400 input, 406 and 415 another type; errors are `{"error"}`, with every bad
field in `errors`.
"""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from steelyard.core.fields import FieldSpec
from steelyard.core.json_text import check_row_count
from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.bodies import (
    media_type,
    members,
    read_csv,
    read_json,
    rows_of_values,
)
from steelyard.serve.contracts.documents import prediction_document
from steelyard.serve.contracts.exchange import (
    NotAcceptableError,
    Ready,
    json_response,
    refusal,
    route,
    terms_of,
)
from steelyard.serve.http.asgi import Front, MediaTypeError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["sagemaker_routes"]

_JSON: Final = "application/json"
_LINES: Final = "application/jsonlines"
_CSV: Final = "text/csv"
_OTHER_NAMES: Final = {"application/x-jsonlines": _LINES, "application/csv": _CSV}
_TYPES: Final = (_JSON, _LINES, _CSV)
_ATTRIBUTES: Final = "x-amzn-sagemaker-custom-attributes"
_PAYLOAD_MB: Final = 1
"""The least that batch transform packs: more would bring more rows than are taken at once."""


def sagemaker_routes(front: Front, ready: Ready) -> list["Route"]:
    """Return the contract's routes; `ready` returns why the server is not ready, or nothing."""
    from starlette.responses import Response

    async def ping(request: "Request") -> "Response":
        return Response(status_code=503 if ready() else 200)

    async def parameters(request: "Request") -> "Response":
        return json_response(
            {
                "MaxConcurrentTransforms": front.limits.row_requests,
                "BatchStrategy": "MultiRecord",
                "MaxPayloadInMB": _PAYLOAD_MB,
            }
        )

    async def invocations(request: "Request") -> "Response":
        kind = media_type(request.headers, _JSON)
        kind = _OTHER_NAMES.get(kind, kind)
        if kind not in _TYPES:
            raise MediaTypeError(f"send {', '.join(_TYPES)}")
        wanted = _wanted(request.headers.get("accept", "*/*"), kind)
        body = await front.body(request.scope, request.receive)
        loaded = front.endpoint.loaded
        rows = _rows(loaded.predictor.fields, body, kind, front.limits.rows)
        return _response(loaded, await front.answer(loaded, rows, terms_of(request)), wanted)

    return [
        route("/ping", ping, refusal, "GET"),
        route("/execution-parameters", parameters, refusal, "GET"),
        route("/invocations", invocations, refusal),
    ]


def _wanted(accept: str, kind: str) -> str:
    """Return the first type of an Accept header that there is; `kind` where any will do."""
    for part in accept.lower().split(","):
        named = part.partition(";")[0].strip()
        named = _OTHER_NAMES.get(named, named)
        if named in _TYPES:
            return named
        if named in ("", "*/*"):
            return kind
    raise NotAcceptableError(f"accept one of {', '.join(_TYPES)}.")


def _rows(
    fields: Sequence[FieldSpec], body: bytes, kind: str, max_rows: int
) -> list[dict[str, Any]]:
    if kind == _CSV:
        return read_csv(body, fields, max_rows, header=False)
    names = [field.name for field in fields]
    found = _lines(body, max_rows) if kind == _LINES else read_json(body)
    if isinstance(found, dict):
        if "instances" in found and "instances" not in names:
            found = members(found, ["instances"])["instances"]
        else:
            found = [found]
    if isinstance(found, list):
        found = [_unwrapped(row, names) for row in found]
    return rows_of_values(names, found, max_rows, "instances")


def _lines(body: bytes, max_rows: int) -> list[Any]:
    rows: list[Any] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            check_row_count(len(rows) + 1, max_rows)
            try:
                rows.append(read_json(line))
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from None
    return rows


def _unwrapped(row: Any, names: Sequence[str]) -> Any:
    """Return the list in SageMaker's own ways to write one, or the row as it is."""
    for path in (("features",), ("data", "features", "values")):
        found = row
        for name in path:
            alone = isinstance(found, dict) and list(found) == [name] and name not in names
            found = found[name] if alone else None
        if isinstance(found, list):
            return found
    return row


def _response(loaded: LoadedVersion, answers: Sequence[Answered], kind: str) -> "Response":
    from starlette.responses import Response

    if kind == _CSV:
        return Response(_csv(answers), headers=_marks(answers), media_type=_CSV)
    documents = [prediction_document(loaded, answered) for answered in answers]
    if kind == _LINES:
        lines = msgspec.json.Encoder().encode_lines(documents)
        return Response(lines, media_type=_LINES)
    return json_response({"predictions": documents})


def _csv(answers: Sequence[Answered]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for answered in answers:
        prediction = answered.prediction
        if isinstance(prediction, bool):
            prediction = str(prediction).lower()
        writer.writerow([prediction, *(answered.probabilities or ())])
    return text.getvalue().encode()


def _marks(answers: Sequence[Answered]) -> dict[str, str]:
    counts = {
        "fallback": sum(answered.source != "model" for answered in answers),
        "flagged": sum(bool(answered.flags) for answered in answers),
    }
    marks = "; ".join(f"{name}={count}" for name, count in counts.items() if count)
    return {_ATTRIBUTES: marks} if marks else {}
