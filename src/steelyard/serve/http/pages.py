"""What is not hot: health, metrics, OpenAPI, docs and the Open Inference Protocol, by Starlette."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from steelyard.errors import nearest
from steelyard.serve.contracts.openapi import openapi_document
from steelyard.serve.contracts.openapi_keys import describe_keys
from steelyard.serve.contracts.table import Contract, contracts_of
from steelyard.serve.http.asgi import Application, Front
from steelyard.serve.observe.exposition import exposition

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["make_pages"]

_PAGES = (
    "/docs", "/openapi.json", "/health/live", "/health/ready", "/metrics", "/v2", "/v1/models",
    "/invocations", "/ping",
)  # fmt: skip


def make_pages(
    front: Front, ready: Callable[[], str], contracts: Sequence[Contract] | None = None
) -> Application:
    """Return the application with all pages and the contracts, those by default where none is given.

    `ready` returns why the server is not ready, or nothing.
    """
    # A tenth of a second to import: paid by the first page, not before the first answer.
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    contracts = contracts_of((), {}) if contracts is None else contracts
    answered = [route for contract in contracts for route in contract.routes(front, ready)]
    routes = [*answered, *_health_routes(front, ready), *_document_routes(front, contracts)]
    pages = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    # A redirect would lead to whatever host the request names.
    pages.router.redirect_slashes = False
    return pages


def _health_routes(front: Front, ready: Callable[[], str]) -> list["Route"]:
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def live(request: "Request") -> "Response":
        # A model that hangs for good holds its thread: only a new process gets rid of it.
        stuck = front.endpoint.calls.stuck
        return JSONResponse({"live": not stuck}, 503 if stuck else 200)

    async def readiness(request: "Request") -> "Response":
        why_not = ready()
        document: dict[str, Any] = {"ready": not why_not}
        if front.access.tells(request.headers.raw, front.endpoint.model):
            served = front.endpoint.loaded.served
            document |= {"model": front.endpoint.model}
            document |= {"version": served.version, "bundle": served.bundle}
            # A newer version that could not be taken is told here, while the older one answers; and
            # so is a model that collapsed: no other server of it would answer better.
            told = {"behind": front.endpoint.behind, "collapse": front.endpoint.watch.problem}
            for name, text in {"problem": why_not, **told}.items():
                if text:
                    document[name] = text
        headers = {"retry-after": "1"} if why_not else {}
        return JSONResponse(document, 503 if why_not else 200, headers)

    return [Route("/health/live", live), Route("/health/ready", readiness)]


def _document_routes(front: Front, contracts: Sequence[Contract]) -> list["Route"]:
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    def document() -> dict[str, Any]:
        loaded = front.endpoint.loaded
        found = openapi_document(
            loaded.predictor, loaded.served.version, front.limits.rows, contracts
        )
        if front.access.on:
            describe_keys(found, front.access.is_open)
        return found

    async def metrics(request: "Request") -> "Response":
        text, media_type = exposition(front.metrics, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})

    async def openapi(request: "Request") -> "Response":
        return JSONResponse(document())

    async def docs(request: "Request") -> "Response":
        page = (files("steelyard.serve.http") / "docs.html").read_text(encoding="utf-8")
        # "<" may open no tag, not even a comment, inside a script element.
        data = json.dumps(document()).replace("<", "\\u003c")
        page = page.replace("{{title}}", escape(front.endpoint.model))
        headers = {"content-security-policy": _policy(page)}
        return HTMLResponse(page.replace("{{openapi}}", data), headers=headers)

    async def index(request: "Request") -> "Response":
        model = front.endpoint.model
        return JSONResponse(
            {"model": model, "predict": f"/predict/{model}", "docs": "/docs",
             "ready": "/health/ready"}
        )  # fmt: skip

    return [
        Route("/", index),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]


def _policy(page: str) -> str:
    """Return what a browser may do with the page: run its own script and style, and ask this server.

    Both are named by their hashes, so that nothing that came into the page by its data would run.
    """
    hashes = {}
    for tag, opening in (("style", "<style>"), ("script", "<script>")):
        inside = page.partition(opening)[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        hashes[tag] = f"'sha256-{digest}'"
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


async def _http_error(request: "Request", error: Any) -> "Response":
    from starlette.responses import JSONResponse

    message = str(error.detail)
    if error.status_code == 404:
        path = request.url.path[:100]
        message = f"no page {path!r}. {nearest(path, _PAGES)}"
    return JSONResponse({"error": message}, error.status_code, error.headers)
