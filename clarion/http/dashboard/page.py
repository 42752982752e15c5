"""A page: what it looks at, and the parts that show it, as a document or a stream of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import web

from clarion.errors import ClarionError
from clarion.http.dashboard.drawing import HEADERS, draw
from clarion.http.dashboard.live import stream, wants_stream
from clarion.http.front import FRONT
from clarion.http.problem import problem_of

T = TypeVar("T")

ANSWER_S: Final = 2.0
"""How long a page waits for each thing that it asks: longer, and people reload it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a page has to show at one moment."""

    title: str
    parts: tuple[str, ...]
    """Names of templates under `part/`, from top to bottom."""
    context: Mapping[str, Any]
    status: int = 200
    still: tuple[str, ...] = ()
    """Parts above these that are drawn once: where a person fills something in."""


@dataclass(frozen=True, slots=True)
class Page:
    """Answers the requests for one page; `look` is asked anew for every document and change."""

    look: Callable[[web.Request], Awaitable[Look]]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer with the whole document, or, where that is asked for, with its changes."""
        if wants_stream(request):
            return await stream(request, self._parts)
        look = await self.look(request)
        return show(request, look, is_live=look.status == 200)

    async def _parts(self, request: web.Request) -> dict[str, str] | None:
        look = await self.look(request)
        if look.status != 200:
            return None
        context = _context(request, look)
        names = ("title", *look.parts, "now")
        return {name: draw(request, f"part/{name}.html.jinja", context) for name in names}


def show(request: web.Request, look: Look, *, is_live: bool = False) -> web.Response:
    """Return a look as a whole document; a live one follows what it shows."""
    context = {**_context(request, look), "is_live": is_live}
    text = draw(request, "page.html.jinja", context)
    return web.Response(text=text, status=look.status, content_type="text/html", headers=HEADERS)


def _context(request: web.Request, look: Look) -> dict[str, Any]:
    front = request.app[FRONT]
    given = {"version": front.version, "now": front.clock.now(), "reload": None}
    return {**given, **look.context, "title": look.title, "parts": (*look.still, *look.parts)}


def show_error(request: web.Request, error: ClarionError | TimeoutError, back: str) -> web.Response:
    """Return the page that says why something was not done, with a way `back`."""
    if isinstance(error, TimeoutError):
        status, why = 503, f"no answer came within {ANSWER_S:g} s"
    else:
        problem = problem_of(error)
        status, why = problem.kind.status, problem.detail
    context = {"why": why, "back": back, "faults": getattr(error, "faults", ())}
    return show(request, Look("Not done", ("problem",), context, status))


async def read(question: Awaitable[T]) -> T:
    """Wait for an answer, as long as a reader would. Raises ClarionError, TimeoutError."""
    async with asyncio.timeout(ANSWER_S):
        return await question
