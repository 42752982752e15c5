"""The page at `/`: how all stands, and the latest notifications.

It asks everybody at once and shows what it got: a silent actor or a store that cannot be read costs
its own part of the page and a line that says so. What the answers mean is judged in `outlook`, how
they look is in `view` and the templates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from clarion.domain.notification import Status
from clarion.errors import ClarionError, InvalidNotification
from clarion.http.dashboard import page, row, view
from clarion.http.dashboard.outlook import Seen, outlook
from clarion.http.front import FRONT, Front
from clarion.service import Service
from clarion.storage.reader import Page as Found
from clarion.storage.search import Filter

T = TypeVar("T")

ROWS: Final = 25
"""Notifications on one page: about two screens of a telephone's swipes."""
MIN_RELOAD_S, MAX_RELOAD_S = 2, 3600
"""Bounds of `?refresh=`, in seconds."""
PARTS: Final = ("outlook", "counts", "lanes", "providers", "nodes", "latest")

_FIRST_ADDRESS: Final = {"email": "you@example.com", "sms": "+15005550006"}
_ANY_ADDRESS: Final = "https://example.com/hook"


@dataclass(frozen=True, slots=True)
class Reload:
    """How a browser without scripts follows the page: the addresses that start and stop it."""

    period_s: int | None
    start: str
    stop: str


def add(app: web.Application) -> None:
    """Add the page."""
    app.router.add_get("/", page.Page(_look).answer)


async def _look(request: web.Request) -> page.Look:
    front, now = request.app[FRONT], request.app[FRONT].clock.now()
    filter, fault = _filter(request.query)
    cursor = request.query.get("cursor")
    seen = await _ask_all(front, filter, cursor)
    judged = outlook(seen)
    controls = seen.controls or {}
    context = {
        "now": now,
        "outlook": judged,
        "seen": seen,
        "lanes": [row.lane_row(lane, controls) for lane in seen.lanes or ()],
        "providers": [row.provider_row(each, controls) for each in seen.engine.providers]
        if seen.engine is not None
        else [],
        "nodes": row.node_rows(seen.nodes.nodes, seen.nodes.node.id, now)
        if seen.nodes is not None
        else [],
        "tiles": view.tiles(seen.stats["by_status"]) if seen.stats is not None else [],
        "cards": await _cards(front.service, seen.latest, now),
        "filter": filter,
        "fault": fault or seen.missing.get("question", ""),
        "is_first_page": cursor is None,
        "older": None if seen.latest is None else _older(request.query, seen.latest[1]),
        "reload": _reload(request.query),
        "example": _example(front.service.channels),
    }
    return page.Look(judged.headline, PARTS, context)


async def _ask_all(front: Front, filter: Filter, cursor: str | None) -> Seen:
    missing: dict[str, str] = {}
    service = front.service

    async def ask(part: str, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(page.ANSWER_S):
                return await question
        except TimeoutError:
            missing[part] = f"no answer within {page.ANSWER_S:g} s"
        except InvalidNotification as error:
            # The reader's fault, not the store's.
            missing["question"] = "; ".join(fault.detail for fault in error.faults)
        except ClarionError as error:
            missing[part] = str(error)
        return None

    (lanes, engine, journal, commons, nodes), (stats, controls, latest) = await asyncio.gather(
        asyncio.gather(
            ask("lanes", service.queues()),
            ask("engine", service.providers()),
            ask("journal", service.journal_snapshot()),
            ask("commons", service.commons()),
            ask("nodes", service.nodes()),
        ),
        asyncio.gather(
            ask("stats", service.stats()),
            ask("controls", service.controls()),
            ask("latest", service.find(filter, cursor, ROWS)),
        ),
    )
    return Seen(
        lanes, engine, journal, stats, controls, latest, missing,
        front.is_started(), front.is_draining(), commons, nodes,
    )  # fmt: skip


async def _cards(service: Service, found: Found | None, now: float) -> list[view.Card]:
    items = found[0] if found is not None else []
    shown = await asyncio.gather(*(service.represent(each) for each in items))
    return [view.card(each, card, now) for each, card in zip(items, shown, strict=True)]


def _filter(query: Mapping[str, str]) -> tuple[Filter, str]:
    """Return what `?status=` and `?channel=` ask for, and what is wrong with it."""
    channel = query.get("channel") or None
    word = query.get("status") or None
    if word is not None and word not in set(Status):
        return Filter(channel=channel), f"There is no status “{word}”: all are shown."
    return Filter(status=None if word is None else Status(word), channel=channel), ""


def _reload(query: Mapping[str, str]) -> Reload:
    """Return how often a browser without scripts loads the page anew: never, unless asked to."""
    wanted, period_s = query.get("refresh", ""), None
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= len(str(MAX_RELOAD_S)):
        period_s = min(MAX_RELOAD_S, max(MIN_RELOAD_S, int(wanted)))
    return Reload(period_s, start=_url(query, refresh="5"), stop=_url(query, refresh=None))


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
