"""The web application: its routes, and the one middleware that all of them share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from clarion.errors import ClarionError
from clarion.http import correlation
from clarion.http.answer import dump
from clarion.http.auth import authorize
from clarion.http.dashboard import add_dashboard
from clarion.http.endpoint import ENDPOINTS, Endpoint
from clarion.http.front import FRONT, MAX_BATCH_BYTES, Front
from clarion.http.openapi import document, page
from clarion.http.problem import (
    EXPECTATION,
    Problem,
    problem_of,
    problem_of_bug,
    problem_of_http,
)
from clarion.http.reference import DOCUMENT, PAGE

_SAFETY = {
    # No browser guesses a type, embeds an answer elsewhere or keeps what may name a recipient.
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(front: Front) -> web.Application:
    """Return the application before one engine."""
    app = web.Application(middlewares=[_enter], client_max_size=MAX_BATCH_BYTES)
    app[FRONT] = front
    described = document(ENDPOINTS, front.version, has_key=bool(front.api_key))
    app[DOCUMENT], app[PAGE] = dump(described), page(described)
    for each in ENDPOINTS:
        _add(app, each)
    add_dashboard(app)
    return app


def _add(app: web.Application, endpoint: Endpoint) -> None:
    methods = ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,)
    path = _apart(endpoint.path)
    for method in methods:
        app.router.add_route(method, path, endpoint.handler, expect_handler=_await_the_body)


def _apart(path: str) -> str:
    """Keep a last placeholder from standing for a word that has an address of its own.

    Else `GET /v1/notifications/batch` would look for a notification of that id, and `Allow` would
    promise what cannot be.
    """
    start, _, last = path.rpartition("/")
    if not last.startswith("{"):
        return path
    words = [
        re.escape(word)
        for beginning, _, word in (each.path.rpartition("/") for each in ENDPOINTS)
        if beginning == start and word != last
    ]
    return f"{start}/{{{last[1:-1]}:(?!(?:{'|'.join(words)})$)[^{{}}/]+}}" if words else path


async def _await_the_body(request: web.Request) -> web.Response | None:
    """Leave `100 Continue` to who reads the body, so that a refusal comes before it."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        return None
    return Problem(EXPECTATION, "The only expectation that is met is 100-continue").response()


@web.middleware
async def _enter(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, ask whether it may enter, and make a problem of what goes wrong."""
    front = request.app[FRONT]
    correlation_id = correlation.begin(request, front.new_id)
    try:
        authorize(request, front)
        response = await handler(request)
    except ClarionError as error:
        response = problem_of(error).response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = problem_of_http(error, request).response()
    except Exception as error:
        # The boundary of a request: its bug must cost this answer only.
        response = problem_of_bug(error).response()
    _stamp(response, correlation_id)
    return response


def _stamp(response: web.StreamResponse, correlation_id: str) -> None:
    headers = response.headers
    headers[correlation.HEADER] = correlation_id
    for name, value in _SAFETY.items():
        headers.setdefault(name, value)


__all__ = ["FRONT", "make_app"]
