"""Pages that follow the engine: the parts that changed, as server-sent events.

A stream looks at most once in `PERIOD_S` and sends what is not as it was. There is a bound to the
streams, to the time a reader may take for what was sent, and to the life of each (browsers come
again by themselves). Source: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from aiohttp import web

from clarion.errors import LaneClosed
from clarion.http.dashboard.drawing import HEADERS

log = structlog.get_logger(__name__)

PERIOD_S = 1.0
MAX_STREAMS = 32
"""A look costs some milliseconds of the loop; more readers load the page anew."""
READ_S = 15.0
"""How long a reader may take for one event."""
LIFE_S = 3600.0
RETRY_MS = 2000

Parts = Callable[[web.Request], Awaitable[dict[str, str] | None]]
"""Draws the parts of a page by name; None where there is nothing to follow."""


class Live:
    """The streams of one app."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._n = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a stream. Raises LaneClosed where there are too many."""
        if self._n >= MAX_STREAMS:
            raise LaneClosed(f"{MAX_STREAMS} pages are followed already", retry_after_s=10.0)
        self._n += 1
        try:
            yield
        finally:
            self._n -= 1

    async def end(self, _app: web.Application) -> None:
        """Let all streams end: the server stops."""
        self._over.set()

    async def pause(self) -> bool:
        """Wait until it is time to look again; return False once the server stops."""
        try:
            await asyncio.wait_for(self._over.wait(), PERIOD_S)
        except TimeoutError:
            return True
        return False


LIVE: Final = web.AppKey("live", Live)


def add_live(app: web.Application) -> None:
    """Let the app's pages be followed."""
    app[LIVE] = live = Live()
    app.on_shutdown.append(live.end)


def wants_stream(request: web.Request) -> bool:
    """Whether the changes of a page are asked for, not the page."""
    return request.headers.get("Accept", "") == "text/event-stream"


async def stream(request: web.Request, parts: Parts) -> web.StreamResponse:
    """Send the parts of a page, then each that changes, until either side has enough."""
    live = request.app[LIVE]
    with live.place():
        found = await parts(request)
        if found is None:
            # To a browser this says: do not come again.
            return web.Response(status=204, headers=HEADERS)
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "text/event-stream"
        # Proxies that gather an answer before they pass it on would hold events back.
        response.headers["X-Accel-Buffering"] = "no"
        await response.prepare(request)
        try:
            await _follow(request, response, parts, found)
        except (ConnectionError, TimeoutError):
            # It went away, or reads no more: `force_close` keeps the rest from being waited for.
            response.force_close()
        except Exception:
            # The answer has begun, so no problem can be sent any more.
            log.exception("page_stream_failed", path=request.path)
            response.force_close()
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, parts: Parts, found: dict[str, str] | None
) -> None:
    live, loop = request.app[LIVE], asyncio.get_running_loop()
    end = loop.time() + LIFE_S
    shown: dict[str, str] = {}
    await _send(response, f"retry: {RETRY_MS}\n\n")
    while found is not None and loop.time() < end:
        changed = {name: html for name, html in found.items() if shown.get(name) != html}
        await _send(response, "".join(_event(name, html) for name, html in changed.items()))
        shown = found
        if not await live.pause():
            return
        found = await parts(request)


def _event(name: str, html: str) -> str:
    # JSON has no line break, which would end the event.
    return f"event: part\ndata: {json.dumps({'name': name, 'html': html})}\n\n"


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(READ_S):
        # An empty comment finds out about readers that have gone.
        await response.write((text or ":\n\n").encode())
