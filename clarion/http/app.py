"""The web application: its routes, and the one middleware that all of them share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from clarion.errors import ClarionError
from clarion.http.answer import dump
from clarion.http.api import CORRELATION
from clarion.http.auth import authorize
from clarion.http.endpoint import ENDPOINTS
from clarion.http.front import FRONT, MAX_BATCH_BYTES, Front
from clarion.http.openapi import document, page
from clarion.http.problem import problem_of, problem_of_bug, problem_of_http
from clarion.http.reference import DOCUMENT, PAGE
from clarion.telemetry.log import bind_correlation

CORRELATION_HEADER = "X-Request-ID"
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")

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
        app.router.add_route(each.method, each.path, each.handler)
    return app


@web.middleware
async def _enter(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, ask whether it may enter, and make a problem of what goes wrong."""
    front = request.app[FRONT]
    given = request.headers.get(CORRELATION_HEADER, "")
    # An id that is none is replaced: what is there for tracing must not fail a request.
    correlation_id = given if _CORRELATION.fullmatch(given) else front.new_id()
    request[CORRELATION] = correlation_id
    bind_correlation(correlation_id)
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
    headers[CORRELATION_HEADER] = correlation_id
    for name, value in _SAFETY.items():
        headers.setdefault(name, value)


__all__ = ["FRONT", "make_app"]
