"""What is not hot: health, metrics, OpenAPI, docs and the Open Inference Protocol, by Starlette."""

import json
from collections.abc import Callable
from html import escape
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from steelyard.errors import nearest
from steelyard.serve.asgi import Front
from steelyard.serve.openapi import openapi_document
from steelyard.serve.v2 import v2_routes

__all__ = ["make_pages"]

_PAGES = ("/docs", "/openapi.json", "/health/live", "/health/ready", "/metrics", "/v2")


def make_pages(front: Front, ready: Callable[[], str]) -> Starlette:
    """Return the application; `ready` returns why the server is not ready, or nothing."""

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def readiness(request: Request) -> Response:
        problem = ready()
        served = front.endpoint.loaded.served
        document = {
            "ready": not problem,
            "model": front.endpoint.model,
            "version": served.version,
            "bundle": served.bundle,
        }
        # A newer version that could not be taken is told here, while the older one answers.
        for name, text in (("problem", problem), ("behind", front.endpoint.problem)):
            if text:
                document[name] = text
        headers = {"retry-after": "1"} if problem else {}
        return JSONResponse(document, 503 if problem else 200, headers)

    async def metrics(request: Request) -> Response:
        text = front.metrics.exposition()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(request: Request) -> Response:
        loaded = front.endpoint.loaded
        return JSONResponse(openapi_document(loaded.predictor, loaded.served.version))

    async def docs(request: Request) -> Response:
        loaded = front.endpoint.loaded
        document = openapi_document(loaded.predictor, loaded.served.version)
        page = (files("steelyard.serve") / "docs.html").read_text(encoding="utf-8")
        # "</" may not stand inside a script element.
        data = json.dumps(document).replace("</", "<\\/")
        page = page.replace("{{title}}", escape(front.endpoint.model)).replace("{{openapi}}", data)
        return HTMLResponse(page)

    async def index(request: Request) -> Response:
        return JSONResponse(
            {"model": front.endpoint.model, "docs": "/docs", "ready": "/health/ready"}
        )

    routes = [
        Route("/", index),
        Route("/health/live", live),
        Route("/health/ready", readiness),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
        *v2_routes(front.endpoint, ready),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return PlainTextResponse("error", 500)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"no page {request.url.path[:100]!r}. {nearest(request.url.path[:100], _PAGES)}"
    return JSONResponse({"error": message}, error.status_code, error.headers)
