"""A request and its response in any contract: errors become statuses in one place."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from steelyard.core.validation import RowLimitError
from steelyard.errors import UsageError, nearest
from steelyard.serve.answer.terms import Terms
from steelyard.serve.http.asgi import CLIENT_GONE, ClientGoneError, Front, status_of, timeout_of
from steelyard.serve.observe.tracing import following
from steelyard.serve.tables.forms import NotAcceptableError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = [
    "Handler",
    "NotAcceptableError",
    "Ready",
    "Refusal",
    "UnknownModelError",
    "check_model",
    "errors_member",
    "json_response",
    "refusal",
    "route",
    "status_in_words",
    "terms_of",
]

Ready = Callable[[], str]
"""Returns why the server is not ready, or nothing."""
Handler = Callable[["Request"], Awaitable["Response"]]
Refusal = Callable[[Exception, int, str], Mapping[str, Any]]
"""Makes the document of a refusal from the error, the status and the message."""


class UnknownModelError(UsageError):
    """A path names another model than the one that is served."""


_STATUSES: Final[dict[type[Exception], int]] = {UnknownModelError: 404, NotAcceptableError: 406}


def route(path: str, handler: Handler, refusal: Refusal, method: str = "POST") -> "Route":
    """Return a route whose handler may raise what the core raises: it is answered in words.

    Input that does not fit is 400, an unknown model 404; the rest is as in every contract.
    """
    from starlette.responses import Response
    from starlette.routing import Route

    async def endpoint(request: "Request") -> "Response":
        try:
            return await handler(request)
        except ClientGoneError:
            return Response(status_code=CLIENT_GONE)  # for the counters; nobody reads it
        except Exception as error:  # noqa: BLE001  # goes to the client, like any answer
            status, message, headers = status_in_words(error)
            return json_response(refusal(error, status, message), status, headers)

    return Route(path, endpoint, methods=[method])


def status_in_words(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return the status, message and headers of an error in every contract but the native one."""
    if isinstance(error, UsageError) and not isinstance(error, RowLimitError):
        return _STATUSES.get(type(error), 400), str(error), {}
    status, message, headers = status_of(error)
    return status, message, {name.decode(): value.decode() for name, value in headers}


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> "Response":
    """Return a response whose numbers are written in their shortest exact form."""
    from starlette.responses import Response

    body = msgspec.json.encode(document)
    return Response(body, status, dict(headers or {}), media_type="application/json")


def terms_of(request: "Request") -> Terms:
    """Return the time that a request gives its answer by its header. Raises InputError."""
    return Terms(timeout_of(request.headers.raw), trace=following())


def check_model(front: Front, name: str, version: str = "") -> None:
    """Raise UnknownModelError unless `name` is the model, and `version` the one, that is served."""
    model = front.endpoint.model
    if name != model:
        raise UnknownModelError(f"no model {name[:100]!r} here. {nearest(name[:100], [model])}")
    served = front.endpoint.loaded.served.version
    if version and version != str(served):
        raise UnknownModelError(f"version {version[:20]} of {name} is not served; {served} is.")


def errors_member(error: Exception) -> dict[str, Any]:
    """Return `{"errors": [{field, message, got}]}` of an error that names fields, else nothing."""
    found = getattr(error, "errors", None)
    return {"errors": found} if found else {}


def refusal(error: Exception, status: int, message: str) -> Mapping[str, Any]:
    """Return the document of a refusal in most contracts: `{"error"}`, and every bad field."""
    return {"error": message, **errors_member(error)}
