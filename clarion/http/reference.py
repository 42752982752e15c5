"""`/openapi.json` and `/docs`: the reference for programs and for people.

Both are made once, when the app is; no code from elsewhere is loaded to show them.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

DOCUMENT: Final = web.AppKey("document", bytes)
PAGE: Final = web.AppKey("page", str)

_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""The page is one file with its style in it, and nothing else may run or frame it."""


async def show_document(request: web.Request) -> web.Response:
    """Show the OpenAPI document."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


async def show_page(request: web.Request) -> web.Response:
    """Show the same as a page."""
    return web.Response(text=request.app[PAGE], content_type="text/html", headers=_POLICY)
