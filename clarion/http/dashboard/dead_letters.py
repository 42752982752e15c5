"""The page of dead letters: what failed for good, to be sent again or put aside; and the redrives.

Nothing is moved by one press: the page behind "Redrive" and "Discard" says first how many are meant
(the dry run), and names the instant up to which, so that what is done is what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from clarion.domain.instant import rfc3339
from clarion.domain.redrive import (
    DEAD_REASONS,
    DEFAULT_RATE,
    MAX_RATE,
    DeadFilter,
    RedriveRequest,
    redrive_request,
)
from clarion.errors import ClarionError, Fault, InvalidNotification
from clarion.http.dashboard import page, row, view
from clarion.http.dashboard.form import Fields, carry_out, who
from clarion.http.front import FRONT, Front
from clarion.storage.reader import Page as Found
from clarion.storage.search import Filter

HERE: Final = "/dead-letters"
ROWS: Final = 25
PARTS: Final = ("dead", "redrives")
FIELDS: Final = ("reason", "provider", "channel", "since", "until")

_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?P<seconds>:\d\d)?")


def add(app: web.Application) -> None:
    """Add the page, its questions and its deeds."""
    app.router.add_get(HERE, page.Page(_look).answer)
    app.router.add_get(f"{HERE}/{{deed:redrive|discard}}", _ask)
    app.router.add_post(f"{HERE}/{{deed:redrive|discard}}", _do)
    app.router.add_post(f"{HERE}/{{id}}/{{deed:redrive|discard}}", _do_one)
    app.router.add_post("/redrives/{id}/cancel", _cancel)


async def _look(request: web.Request) -> page.Look:
    front, query = request.app[FRONT], request.query
    fields = _fields(query)
    context: dict[str, Any] = {
        "fields": fields,
        "reasons": DEAD_REASONS,
        "channels": front.service.channels,
        "cards": [],
        "older": None,
        "redrives": [],
        "fault": "",
        "missing": "",
        "discarded": _count(query.get("discarded", "")),
        "is_first_page": "cursor" not in query,
        "query": urlencode(fields),
    }
    try:
        wanted = _wanted(fields, front)
        found = await page.read(_find(front, wanted, query.get("cursor")))
        redrives = await page.read(front.service.aftermath.redrives())
    except InvalidNotification as error:
        context["fault"] = "; ".join(fault.detail for fault in error.faults)
    except (ClarionError, TimeoutError) as error:
        context["missing"] = str(error) or f"no answer came within {page.ANSWER_S:g} s"
    else:
        now = front.clock.now()
        items, cursor = found
        shown = [await front.service.represent(each) for each in items]
        context["cards"] = [
            view.card(each, card, now) for each, card in zip(items, shown, strict=True)
        ]
        context["older"] = None if cursor is None else urlencode({**fields, "cursor": cursor})
        context["redrives"] = [row.redrive_row(each, now) for each in redrives]
    return page.Look("Dead letters", PARTS, context, still=("dead_filter",))


async def _find(front: Front, wanted: DeadFilter, cursor: str | None) -> Found:
    filter = Filter(
        reason=wanted.reason, provider=wanted.provider, channel=wanted.channel,
        since=wanted.since, until=wanted.until,
    )  # fmt: skip
    return await front.service.dead_letters(filter, cursor, ROWS)


def _count(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= 9
    return int(text) if is_number else None


# --- what is meant ---------------------------------------------------------------------------


def _fields(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}


def _wanted(fields: Mapping[str, str], front: Front) -> DeadFilter:
    """Return the filter that the fields of a form say. Raises InvalidNotification."""
    return _request(fields, front).filter


def _request(fields: Mapping[str, str], front: Front, rate: float | None = None) -> RedriveRequest:
    read: dict[str, Any] = {
        name: _with_zone(value) if name in ("since", "until") else value
        for name, value in fields.items()
    }
    if rate is not None:
        read["rate"] = rate
    return redrive_request(read, front.service.channels)


def _with_zone(text: str) -> str:
    """Take what a browser's field gives, which has no zone, as UTC: so the field is labelled."""
    match = _WITHOUT_ZONE.fullmatch(text)
    if match is None:
        return text
    return text + ("Z" if match["seconds"] else ":00Z")


def _rate(text: str) -> float:
    try:
        return float(text or DEFAULT_RATE)
    except ValueError:
        raise InvalidNotification([Fault(f"{text[:40]!r} is no number", "rate")]) from None


# --- the questions ---------------------------------------------------------------------------


async def _ask(request: web.Request) -> web.Response:
    """Say how many are meant, and ask whether to go on."""
    front, deed = request.app[FRONT], request.match_info["deed"]
    fields = _fields(request.query)
    try:
        fields.setdefault("until", rfc3339(front.clock.now()))
        n = await page.read(_count_of(front, deed, _wanted(fields, front)))
    except (ClarionError, TimeoutError) as error:
        return page.show_error(request, error, HERE)
    context = {
        "deed": deed,
        "n": n,
        "fields": fields,
        "back": f"{HERE}?{urlencode(_fields(request.query))}",
        "rate": DEFAULT_RATE,
        "max_rate": MAX_RATE,
        "duration": view.span(max(1, n / DEFAULT_RATE)),
    }
    title = "Redrive" if deed == "redrive" else "Discard"
    return page.show(request, page.Look(f"{title} dead letters", ("dead_question",), context))


def _count_of(front: Front, deed: str, wanted: DeadFilter) -> Awaitable[int]:
    aftermath = front.service.aftermath
    # What has no lane any more cannot be moved, but put aside.
    return aftermath.count(wanted) if deed == "redrive" else aftermath.count_for_discard(wanted)


# --- the deeds -------------------------------------------------------------------------------


async def _do(request: web.Request) -> web.Response:
    front = request.app[FRONT]

    async def do(form: Fields) -> str:
        wanted = _request(_fields(form), front, _rate(form.get("rate", "")))
        return await _move(request, wanted)

    return await carry_out(request, HERE, do)


async def _do_one(request: web.Request) -> web.Response:
    front, id = request.app[FRONT], request.match_info["id"]

    async def do(_form: Fields) -> None:
        await _move(request, redrive_request({"ids": [id]}, front.service.channels))

    return await carry_out(request, f"/notifications/{quote(id, safe='')}", do)


async def _move(request: web.Request, wanted: RedriveRequest) -> str:
    """Redrive or discard, and return where to look at it."""
    aftermath = request.app[FRONT].service.aftermath
    if request.match_info["deed"] == "redrive":
        await aftermath.redrive(wanted, who(request))
        return f"{HERE}#redrives"
    return f"{HERE}?discarded={await aftermath.discard(wanted.filter, who(request))}"


async def _cancel(request: web.Request) -> web.Response:
    async def do(_form: Fields) -> None:
        await request.app[FRONT].service.aftermath.cancel(request.match_info["id"])

    return await carry_out(request, f"{HERE}#redrives", do)
