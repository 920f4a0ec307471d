"""The KServe v1 protocol: `{"instances": [...]}` in, `{"predictions": [...]}` out.

An instance is an object of fields, or a list of values in the order of the fields; `inputs` is
another name of `instances`. A prediction is the whole object of the native route, so that its mark
(`source`, `flags`), its id and its probabilities come with it.

Source: the data plane (V1) of KServe. Statuses: 400 input, 404 another model, 503 not ready;
errors are `{"error"}`, with every bad field in `errors`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from steelyard.errors import UsageError
from steelyard.serve.answer.terms import Terms
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.bodies import media_type, members, read_json, rows_of_values
from steelyard.serve.contracts.documents import prediction_document
from steelyard.serve.contracts.exchange import (
    Ready,
    check_model,
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

__all__ = ["instances_body", "instances_of", "kserve_v1_routes", "predictions"]

_PREDICT: Final = ":predict"


def kserve_v1_routes(front: Front, ready: Ready) -> list["Route"]:
    """Return the protocol's routes; `ready` returns why the server is not ready, or nothing."""

    async def models(request: "Request") -> "Response":
        return json_response({"models": [front.endpoint.model]})

    async def model(request: "Request") -> "Response":
        name = request.path_params["model"]
        if name.endswith(_PREDICT):
            return json_response({"error": "use POST"}, 405, {"allow": "POST"})
        check_model(front, name)
        why_not = ready()
        document = {"name": front.endpoint.model, "ready": not why_not}
        return json_response(document, 503 if why_not else 200)

    async def predict(request: "Request") -> "Response":
        check_model(front, request.path_params["model"])
        body = await instances_body(front, request)
        loaded = front.endpoint.loaded
        rows = instances_of(loaded, body, front.limits.rows)
        return await predictions(front, loaded, rows, terms_of(request))

    return [
        route("/v1/models", models, refusal, "GET"),
        route("/v1/models/{model}:predict", predict, refusal),
        route("/v1/models/{model}", model, refusal, "GET"),
    ]


async def instances_body(front: Front, request: "Request") -> bytes:
    """Return the body of a request for predictions. Raises MediaTypeError where it is no JSON."""
    if media_type(request.headers, "application/json") != "application/json":
        raise MediaTypeError("send JSON, with Content-Type: application/json")
    return await front.body(request.scope, request.receive)


def instances_of(loaded: LoadedVersion, body: bytes, max_rows: int) -> list[dict[str, Any]]:
    """Return the rows of `{"instances": [...]}`. Raises UsageError, RowLimitError."""
    document = members(read_json(body), ("instances", "inputs", "parameters"))
    if document.pop("parameters", None) not in (None, {}):
        raise UsageError("there are no parameters; leave them out.")
    if len(document) != 1:
        raise UsageError("expected instances, a list of rows.")
    ((name, given),) = document.items()
    names = [field.name for field in loaded.predictor.fields]
    return rows_of_values(names, given, max_rows, name)


async def predictions(
    front: Front, loaded: LoadedVersion, rows: Sequence[Mapping[str, Any]], terms: Terms
) -> "Response":
    """Answer rows by `{"predictions": [...]}`. Raises what the core raises."""
    answers = await front.answer(loaded, rows, terms)
    return json_response({"predictions": [prediction_document(loaded, a) for a in answers]})
