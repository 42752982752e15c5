"""`/v1/dead-letters/…` and `resolve`: what people do about notifications that have ended."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from clarion.domain.instant import rfc3339
from clarion.domain.redrive import MAX_ID, Redrive, RedrivePart, RedriveRequest, redrive_request
from clarion.domain.text import pointer_to, shown
from clarion.errors import Fault, InvalidNotification, NotFound
from clarion.http.answer import answer
from clarion.http.body import read_object
from clarion.http.front import FRONT
from clarion.http.query import read_query

PATH = "/v1/dead-letters/redrives"


# --- redrives --------------------------------------------------------------------------------


async def redrive(request: web.Request) -> web.Response:
    """Begin to move dead letters back into their lanes, or say how many there are."""
    service = request.app[FRONT].service
    wanted = await _read(request, takes_rate=True)
    if wanted.is_dry_run:
        return answer({"matched": await service.aftermath.count(wanted.filter)})
    found = await service.aftermath.redrive(wanted)
    return answer(represent_redrive(found), 202, {"Location": f"{PATH}/{found.id}"})


async def _read(request: web.Request, *, takes_rate: bool) -> RedriveRequest:
    channels = request.app[FRONT].service.channels
    return redrive_request(await read_object(request), channels, takes_rate=takes_rate)


async def redrives(request: web.Request) -> web.Response:
    """Show the latest redrives with their progress."""
    read_query(request, {})
    found = await request.app[FRONT].service.aftermath.redrives()
    return answer({"items": [represent_redrive(each) for each in found]})


async def get_redrive(request: web.Request) -> web.Response:
    """Show how far a redrive got."""
    read_query(request, {})
    found = await request.app[FRONT].service.aftermath.get(_id(request, "redrive"))
    return answer(represent_redrive(found))


async def cancel_redrive(request: web.Request) -> web.Response:
    """Let a redrive move no more; what it moved goes on."""
    found = await request.app[FRONT].service.aftermath.cancel(_id(request, "redrive"))
    return answer(represent_redrive(found))


def _id(request: web.Request, kind: str) -> str:
    id = request.match_info["id"]
    if len(id) > MAX_ID:
        raise NotFound(kind, id[: MAX_ID - 3] + "...")
    return id


# --- discard and resolve ---------------------------------------------------------------------


async def discard(request: web.Request) -> web.Response:
    """Put dead letters aside, or say how many there are."""
    service = request.app[FRONT].service
    wanted = await _read(request, takes_rate=False)
    if wanted.is_dry_run:
        return answer({"matched": await service.aftermath.count_for_discard(wanted.filter)})
    return answer({"discarded": await service.aftermath.discard(wanted.filter)})


async def resolve(request: web.Request) -> web.Response:
    """Decide about an `unknown` one: it was sent, or it is to be sent."""
    service = request.app[FRONT].service
    is_sent = _is_sent(await read_object(request))
    found = await service.resolve(_id(request, "notification"), is_sent)
    return answer(await service.represent(found))


def _is_sent(fields: dict[str, Any]) -> bool:
    faults = [
        Fault(f"there is no field {shown(name)}; there is as", pointer_to("", name))
        for name in fields
        if name != "as"
    ]
    if fields.get("as") not in ("sent", "retry"):
        faults.append(Fault('as must be "sent" or "retry"', "/as"))
    if faults:
        raise InvalidNotification(faults)
    return bool(fields["as"] == "sent")


# --- as JSON ---------------------------------------------------------------------------------


def represent_redrive(found: Redrive) -> dict[str, Any]:
    """Return the JSON object of a redrive."""
    first, wanted = found.parts[0], found.parts[0].wanted
    ended = [part.ended_at for part in found.parts if part.ended_at is not None]
    is_over = len(ended) == len(found.parts)
    return {
        "id": found.id,
        "state": str(found.state),
        "filter": {
            "reason": wanted.reason,
            "provider": wanted.provider,
            "channel": wanted.channel,
            "since": _or_none(wanted.since),
            "until": _or_none(wanted.until),
            "ids": wanted.ids,
        },
        "rate": first.rate,
        **_progress(*found.parts),
        "who": first.who,
        "created_at": rfc3339(first.created_at),
        "updated_at": rfc3339(max(part.updated_at for part in found.parts)),
        "ended_at": rfc3339(max(ended)) if is_over else None,
        "lanes": [
            {"channel": part.channel, "state": str(part.state), **_progress(part)}
            for part in found.parts
        ],
    }


def _progress(*parts: RedrivePart) -> dict[str, int]:
    return {
        "matched": sum(part.matched for part in parts),
        "moved": sum(part.moved for part in parts),
        "skipped": sum(part.skipped for part in parts),
    }


def _or_none(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
