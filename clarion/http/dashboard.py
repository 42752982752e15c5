"""The page at `/` and the one of each notification: what an operator looks at.

It asks everybody at once, each for `ANSWER_S` at most, and shows what it got: a silent actor or a
store that cannot be read costs its own part of the page and a line that says so. What the answers
mean is judged in `outlook`, how they look is in `dashboard_view` and `templates/`. The pages carry
no script and allow none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import aiohttp_jinja2
import jinja2
from aiohttp import web

from clarion.domain.instant import rfc3339
from clarion.domain.notification import Notification, Status
from clarion.errors import ClarionError, InvalidNotification, NotFound
from clarion.http import dashboard_view as view
from clarion.http.front import FRONT, Front
from clarion.http.outlook import Seen, outlook
from clarion.service import Service
from clarion.storage.reader import Page
from clarion.storage.search import Filter

T = TypeVar("T")

ANSWER_S: Final = 2.0
"""How long the page waits for each part: longer, and people reload it."""
ROWS: Final = 25
"""Notifications on one page: about two screens of a telephone's swipes."""
MIN_REFRESH_S, MAX_REFRESH_S = 2, 3600
"""Bounds of `?refresh=`, in seconds."""

_HERE = Path(__file__).parent
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # What it shows is of the moment, and not for the cache of a shared machine.
    "Cache-Control": "no-store",
}
_STATIC_TYPES: Final = {".css": "text/css", ".svg": "image/svg+xml"}
_FIRST_ADDRESS: Final = {"email": "you@example.com", "sms": "+15005550006"}
_ANY_ADDRESS: Final = "https://example.com/hook"


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "json_text": _json_text,
    "moment": view.moment,
    "number": view.number,
    "rfc3339": rfc3339,
    "span": view.span,
}


def add_dashboard(app: web.Application) -> None:
    """Add the pages and what they are drawn with; the app has its `Front` under `FRONT`."""
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
    app.router.add_get("/", _overview, name="dashboard")
    app.router.add_get("/notifications/{id}", _story, name="story")
    app.router.add_get("/static/{name}", _static, name="static")


# --- what the pages are drawn with -----------------------------------------------------------


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
        body=body, content_type=content_type, headers={**_HEADERS, **headers}, charset="utf-8"
    )


def _page(
    request: web.Request, template: str, context: Mapping[str, Any], status: int = 200
) -> web.Response:
    page = aiohttp_jinja2.render_template(template, request, context, status=status)
    page.headers.update(_HEADERS)
    return page


# --- the overview ----------------------------------------------------------------------------


async def _overview(request: web.Request) -> web.Response:
    front, now = request.app[FRONT], request.app[FRONT].clock.now()
    filter, fault = _filter(request.query)
    cursor = request.query.get("cursor")
    seen = await _look(front, filter, cursor)
    context = {
        "version": front.version,
        "now": now,
        "outlook": outlook(seen),
        "seen": seen,
        "lanes": [view.lane_row(lane) for lane in seen.lanes or ()],
        "providers": [view.provider_row(each) for each in seen.engine.providers]
        if seen.engine is not None
        else [],
        "tiles": view.tiles(seen.stats["by_status"]) if seen.stats is not None else [],
        "cards": await _cards(front.service, seen.latest, now),
        "filter": filter,
        "fault": fault or seen.missing.get("question", ""),
        "is_first_page": cursor is None,
        "older": None if seen.latest is None else _older(request.query, seen.latest[1]),
        "refresh_s": _refresh_s(request.query),
        "refresh_url": _url(request.query, refresh="5"),
        "stay_url": _url(request.query, refresh=None),
        "example": _example(front.service.channels),
    }
    return _page(request, "dashboard.html.jinja", context)


async def _look(front: Front, filter: Filter, cursor: str | None) -> Seen:
    missing: dict[str, str] = {}
    service = front.service

    async def ask(part: str, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question
        except TimeoutError:
            missing[part] = f"no answer within {ANSWER_S:g} s"
        except InvalidNotification as error:
            # The reader's fault, not the store's.
            missing["question"] = "; ".join(fault.detail for fault in error.faults)
        except ClarionError as error:
            missing[part] = str(error)
        return None

    lanes, engine, journal, stats, latest = await asyncio.gather(
        ask("lanes", service.queues()),
        ask("engine", service.providers()),
        ask("journal", service.journal_snapshot()),
        ask("stats", service.stats()),
        ask("latest", service.find(filter, cursor, ROWS)),
    )
    return Seen(
        lanes, engine, journal, stats, latest, missing, front.is_started(), front.is_draining()
    )


async def _cards(service: Service, page: Page | None, now: float) -> list[view.Card]:
    found = page[0] if page is not None else []
    shown = await asyncio.gather(*(service.represent(each) for each in found))
    return [view.card(each, card, now) for each, card in zip(found, shown, strict=True)]


def _filter(query: Mapping[str, str]) -> tuple[Filter, str]:
    """Return what `?status=` and `?channel=` ask for, and what is wrong with it."""
    channel = query.get("channel") or None
    word = query.get("status") or None
    if word is not None and word not in set(Status):
        return Filter(channel=channel), f"There is no status “{word}”: all are shown."
    return Filter(status=None if word is None else Status(word), channel=channel), ""


def _refresh_s(query: Mapping[str, str]) -> int | None:
    """Return how often a reader wants the page anew; None is never, unless asked for."""
    wanted = query.get("refresh", "")
    if not (wanted.isascii() and wanted.isdigit()) or len(wanted) > len(str(MAX_REFRESH_S)):
        return None
    return min(MAX_REFRESH_S, max(MIN_REFRESH_S, int(wanted)))


def _older(query: Mapping[str, str], cursor: str | None) -> str | None:
    return None if cursor is None else _url(query, cursor=cursor, refresh=None)


def _url(query: Mapping[str, str], **changes: str | None) -> str:
    wanted = {name: query.get(name) for name in ("status", "channel", "cursor")} | changes
    kept = {name: value for name, value in wanted.items() if value}
    return f"/?{urlencode(kept, errors='replace')}" if kept else "/"


def _example(channels: tuple[str, ...]) -> str:
    channel = channels[0] if channels else "email"
    to = _FIRST_ADDRESS.get(channel, _ANY_ADDRESS)
    subject = ' --subject "Hello"' if channel == "email" else ""
    return f'clarion send --channel {channel} --to {to}{subject} --text "It works."'


# --- one notification ------------------------------------------------------------------------


async def _story(request: web.Request) -> web.Response:
    front, id = request.app[FRONT], request.match_info["id"]
    now = front.clock.now()
    context: dict[str, Any] = {"version": front.version, "now": now, "id": id}
    try:
        async with asyncio.timeout(ANSWER_S):
            notification = await front.service.get(id)
    except NotFound:
        return _page(request, "missing.html.jinja", context | {"why": ""}, 404)
    except (ClarionError, TimeoutError) as error:
        why = str(error) or f"the store gave no answer within {ANSWER_S:g} s"
        return _page(request, "missing.html.jinja", context | {"why": why}, 503)
    shown = await front.service.represent(notification, with_timeline=True)
    context |= {
        "card": view.card(notification, shown, now),
        "notification": notification,
        "content": _content(notification),
        "steps": view.steps(shown["timeline"]),
    }
    return _page(request, "notification.html.jinja", context)


def _content(notification: Notification) -> list[tuple[str, str]]:
    """Return the head of a message, never its body: a name and a value for each line."""
    content = notification.content
    lines = [("Subject", content.subject)] if content.subject is not None else []
    lines += sorted((content.headers or {}).items())
    sizes = {"text": content.text, "HTML": content.html}
    lines += [
        (f"Size of the {name}", f"{len(body.encode()):,} bytes")
        for name, body in sizes.items()
        if body is not None
    ]
    if content.data is not None:
        lines.append(("Data", f"an object of {len(content.data)} fields"))
    return lines
