"""The one id that follows a request into the log, the notification and its calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar

from aiohttp import web

from clarion.telemetry.log import bind_correlation

HEADER = "X-Request-ID"

_ID = re.compile(r"[\x21-\x7e]{1,128}")
# Each request runs in a task of its own, and so in a context of its own.
_current: ContextVar[str] = ContextVar("correlation_id", default="")


def begin(request: web.BaseRequest, new_id: Callable[[], str]) -> str:
    """Take over the id that a request brings, or make one, and put it into the log's lines."""
    given = request.headers.get(HEADER)
    # One that is none is replaced: what is there for tracing must not fail a request.
    found = given if given and _ID.fullmatch(given) else new_id()
    _current.set(found)
    bind_correlation(found)
    return found


def correlation_id() -> str:
    """Return the id of the request that is handled now."""
    return _current.get()
