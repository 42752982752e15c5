"""What the pages are drawn with: templates, style, script, symbols; and their headers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import aiohttp_jinja2
import jinja2
from aiohttp import web

from clarion.domain.instant import rfc3339
from clarion.http.dashboard import view

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:;"
    " script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": under that a browser calls the origin of our own forms "null".
    "Referrer-Policy": "same-origin",
    # What it shows is of the moment, and not for the cache of a shared machine.
    "Cache-Control": "no-store",
}
"""Only our own style, script and addresses; nobody may frame a page with buttons on it."""

_HERE = Path(__file__).parent.parent
_STATIC_TYPES: Final = {
    ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml",
}  # fmt: skip


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "json_text": _json_text,
    "moment": view.moment,
    "number": view.number,
    "rfc3339": rfc3339,
    "span": view.span,
}


def add_drawing(app: web.Application) -> None:
    """Set up the templates and the route of what a page loads."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=_FILTERS,
    )
    environment.globals["static"] = _static_url
    app.router.add_get("/static/{name}", _static)


def draw(request: web.Request, template: str, context: Mapping[str, Any]) -> str:
    """Return a template as HTML."""
    return aiohttp_jinja2.render_string(template, request, context)


@cache
def _drawing(name: str) -> tuple[bytes, str] | None:
    # Only what lies in the directory has a name here, so no path can lead out of it.
    known = {path.name: path for path in (_HERE / "static").iterdir()}
    path = known.get(name)
    if path is None or path.suffix not in _STATIC_TYPES:
        return None
    return path.read_bytes(), _STATIC_TYPES[path.suffix]


def _static_url(name: str) -> str:
    found = _drawing(name)
    assert found is not None, name
    return f"/static/{name}?v={hashlib.sha256(found[0]).hexdigest()[:12]}"


async def _static(request: web.Request) -> web.Response:
    found = _drawing(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    body, content_type = found
    # Its address changes with its content.
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(
        body=body, content_type=content_type, headers={**HEADERS, **headers}, charset="utf-8"
    )
