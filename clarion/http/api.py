"""`/v1/notifications`: send one or many, look at them, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from clarion.domain.notification import Notification
from clarion.errors import ClarionError, NotFound
from clarion.http.answer import answer
from clarion.http.body import read_items, read_object
from clarion.http.correlation import correlation_id
from clarion.http.front import FRONT
from clarion.http.problem import MALFORMED, HttpRefusal, problem_of
from clarion.http.query import DEAD_LETTERS, DEFAULT_LIMIT, NOTIFICATIONS, read_query
from clarion.intake import Submission
from clarion.service import Filter, Page, Service

PATH = "/v1/notifications"
KEY_HEADER = "Idempotency-Key"


# --- sending ---------------------------------------------------------------------------------


async def send(request: web.Request) -> web.Response:
    """Make one notification durable, then answer 202."""
    front = request.app[FRONT]
    key = _idempotency_key(request)
    fields = await read_object(request)
    found = await front.service.submit(fields, idempotency_key=key, correlation_id=correlation_id())
    headers = {"Location": f"{PATH}/{found.id}"}
    if found.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return answer(found.answer, 202, headers)


def _idempotency_key(request: web.Request) -> str | None:
    keys = request.headers.getall(KEY_HEADER, ())
    if len(keys) > 1:
        raise HttpRefusal(MALFORMED, f"{KEY_HEADER} is given {len(keys)} times; give it once")
    return keys[0] if keys else None


async def send_batch(request: web.Request) -> web.Response:
    """Make many durable; each item is answered for itself."""
    front = request.app[FRONT]
    if KEY_HEADER in request.headers:
        raise HttpRefusal(
            MALFORMED, f"{KEY_HEADER} belongs to one notification: give items an idempotency_key"
        )
    items = await read_items(request)
    found = await front.service.submit_many(items, correlation_id=correlation_id())
    accepted = sum(isinstance(each, Submission) for each in found)
    results = [_result(index, each) for index, each in enumerate(found)]
    return answer(
        {"accepted": accepted, "rejected": len(found) - accepted, "results": results}, 202
    )


def _result(index: int, found: Submission | ClarionError) -> dict[str, Any]:
    if isinstance(found, Submission):
        result = {"index": index, "id": found.id, "status": found.status}
        return {**result, "replayed": True} if found.is_replay else result
    return {"index": index, "problem": problem_of(found).document}


# --- reading ---------------------------------------------------------------------------------


async def get(request: web.Request) -> web.Response:
    """Show a notification with its timeline."""
    read_query(request, {})
    service = request.app[FRONT].service
    found = await service.get(_id(request))
    return answer(await service.represent(found, with_timeline=True))


def _id(request: web.Request) -> str:
    id = request.match_info["id"]
    # Ours have 26 characters; what is longer than any need not be looked up.
    if len(id) > 64:
        raise NotFound("notification", id[:61] + "...")
    return id


async def find(request: web.Request) -> web.Response:
    """Show a page of notifications, the newest first."""
    service = request.app[FRONT].service
    filter, cursor, limit = _page_asked(read_query(request, NOTIFICATIONS))
    return await _page(service, await service.find(filter, cursor, limit))


async def dead_letters(request: web.Request) -> web.Response:
    """Show a page of dead letters, the latest death first."""
    service = request.app[FRONT].service
    filter, cursor, limit = _page_asked(read_query(request, DEAD_LETTERS))
    return await _page(service, await service.dead_letters(filter, cursor, limit))


def _page_asked(query: Mapping[str, Any]) -> tuple[Filter, str | None, int]:
    wanted = {name: value for name, value in query.items() if name not in ("limit", "cursor")}
    return Filter(**wanted), query.get("cursor"), query.get("limit", DEFAULT_LIMIT)


async def _page(service: Service, page: Page) -> web.Response:
    found, next_cursor = page
    return answer({"items": await _represent(service, found), "next": next_cursor})


async def _represent(service: Service, found: Sequence[Notification]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(service.represent(each) for each in found)))


async def cancel(request: web.Request) -> web.Response:
    """Cancel a notification, or ask that the call that is out be its last."""
    service = request.app[FRONT].service
    return answer(await service.represent(await service.cancel(_id(request))))


async def stats(request: web.Request) -> web.Response:
    """Show how many were accepted and how they stand, of one instant."""
    read_query(request, {})
    return answer(await request.app[FRONT].service.stats())
