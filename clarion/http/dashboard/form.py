"""Forms: what a browser sends when a button is pressed, believed only from our own pages.

A browser adds the credentials it knows to requests of any page, so the API asks for a body that
foreign pages may not send unasked (see `auth`). A form has none such; it is believed only where the
browser itself says that a page of this origin sent it. Programs use the API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from clarion.errors import ClarionError
from clarion.http.auth import is_own_page, user_of
from clarion.http.body import read_body, require_type
from clarion.http.dashboard.page import show_error
from clarion.http.front import FRONT
from clarion.http.problem import FORBIDDEN, MALFORMED, HttpRefusal

FORM_TYPES = frozenset({"application/x-www-form-urlencoded"})
MAX_FORM_BYTES = 16_000
MAX_FIELDS = 20

Fields = Mapping[str, str]


async def carry_out(
    request: web.Request, back: str, deed: Callable[[Fields], Awaitable[str | None]]
) -> web.Response:
    """Do what a form says, and lead to the page that shows what came of it: `back`, or another.

    What could not be done is told on a page of its own.
    """
    try:
        there = await deed(await _read(request))
    except (ClarionError, TimeoutError) as error:
        return show_error(request, error, back)
    # 303: the browser asks for the page by GET, and loading that anew repeats nothing.
    raise web.HTTPSeeOther(there or back)


def who(request: web.Request) -> str:
    """Return what the records say of who pressed a button: the name of a Basic login, if any."""
    name = user_of(request)
    return f"page:{name}" if name else "page"


async def _read(request: web.Request) -> Fields:
    front = request.app[FRONT]
    if not is_own_page(request, front.public_origin):
        detail = "Only a button of Clarion's own pages sends this; programs use the API (/docs)"
        raise HttpRefusal(FORBIDDEN, detail)
    require_type(request, FORM_TYPES)
    body = await read_body(request, MAX_FORM_BYTES, front.body_s)
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise HttpRefusal(MALFORMED, "The form cannot be read") from error
    return {name: value.strip() for name, value in pairs if value.strip()}
