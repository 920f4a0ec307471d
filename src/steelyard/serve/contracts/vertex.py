"""Vertex AI's container contract: routes by environment variables, bodies as in KServe v1.

`AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE` name the paths; without them they are those that Vertex
gives to a container that chose none. A prediction is the whole object of the native route: Vertex
hands predictions on as they are and drops whatever else a response holds.

Vertex passes at most 1.5 MB each way. A larger request is 413, and so is one whose answers would be
larger, before anything is predicted.

Source: the requirements of custom containers for prediction.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from steelyard.core.json_text import check_row_count
from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.documents import prediction_document
from steelyard.serve.contracts.exchange import Ready, json_response, refusal, route, terms_of
from steelyard.serve.contracts.kserve_v1 import (
    instances_body,
    instances_of,
    predictions,
)
from steelyard.serve.http.asgi import BodyTooLargeError, Front

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["VERTEX_BYTES", "vertex_paths", "vertex_routes"]

VERTEX_BYTES: Final = 1_500_000
"""The most that Vertex passes, each way."""
# Digits, or the health route would take the path of the other for another model's name.
_DEPLOYED: Final = "/v1/endpoints/{endpoint}/deployedModels/{deployed:int}"
_LONGEST_NUMBER: Final = -2.2250738585072014e-308
_LONGEST_ID: Final = "0" * 36


def vertex_paths(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the paths of health and prediction. Raises UsageError where they cannot be served.

    >>> vertex_paths({"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predictions"})
    ('/health', '/predictions')
    """
    health = environment.get("AIP_HEALTH_ROUTE") or _DEPLOYED
    predict = environment.get("AIP_PREDICT_ROUTE") or f"{_DEPLOYED}:predict"
    for name, path in (("AIP_HEALTH_ROUTE", health), ("AIP_PREDICT_ROUTE", predict)):
        if name in environment and (not path.startswith("/") or "{" in path):
            raise UsageError(f"{name} must be a path like /predictions; got {path[:100]!r}.")
        if path.startswith("/predict/"):
            raise UsageError(
                f"{name}={path[:100]} is a path of the native contract.",
                fix="Choose another path when the model is uploaded to Vertex AI.",
            )
    return health, predict


def vertex_routes(front: Front, ready: Ready, paths: tuple[str, str]) -> list["Route"]:
    """Return the contract's routes; `ready` returns why the server is not ready, or nothing."""

    async def health(request: "Request") -> "Response":
        why_not = ready()
        return json_response({"ready": not why_not}, 503 if why_not else 200)

    async def predict(request: "Request") -> "Response":
        body = await instances_body(front, request)
        if len(body) > VERTEX_BYTES:
            raise BodyTooLargeError(f"at most {VERTEX_BYTES} bytes are taken at once")
        loaded = front.endpoint.loaded
        rows = instances_of(loaded, body, front.limits.rows)
        # Their answers go back by the same way; what it refuses there would be lost.
        check_row_count(len(rows), VERTEX_BYTES // _longest_answer(loaded))
        return await predictions(front, loaded, rows, terms_of(request))

    front.names |= {paths[0]: "/health", paths[1]: "/vertex"}
    return [route(paths[0], health, refusal, "GET"), route(paths[1], predict, refusal)]


def _longest_answer(loaded: LoadedVersion) -> int:
    classes = loaded.predictor.classes
    answered = Answered(
        max(classes, key=lambda label: len(str(label))) if classes else _LONGEST_NUMBER,
        [_LONGEST_NUMBER] * len(classes) if classes else None,
        _LONGEST_ID,
        "fallback",
    )
    return len(msgspec.json.encode(prediction_document(loaded, answered))) + 1
