"""Inbound hooks: webhooks of other systems, which become notifications.

A sender reads little more than the status, so the status says what it should do: with 202 and 204
it is done, with 503 it should repeat, and everything else means that the settings of one side have
to change. Who is not let in does not learn whether there is such a hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from aiohttp import web

from clarion.errors import ClarionError, Fault, InvalidNotification
from clarion.hook.hook import Hook, visible_headers
from clarion.http.answer import answer
from clarion.http.body import JSON_TYPES, not_json, parse, read_body, require_type
from clarion.http.correlation import correlation_id
from clarion.http.front import FRONT, Front
from clarion.http.problem import (
    LANE_FULL,
    LANE_FULL_TO_HOOK,
    NO_SUCH_HOOK,
    HttpRefusal,
    Problem,
    problem_of,
)
from clarion.intake import Submission

log = structlog.get_logger(__name__)

MAPPED_AT_ONCE = 20
"""Items of a payload that are mapped before other tasks get a turn."""
MAX_FAULTS = 100


async def receive_hook(request: web.Request) -> web.Response:
    """Make the notifications durable that a payload asks for, then answer 202."""
    front = request.app[FRONT]
    body = await read_body(request, front.max_body_bytes, front.body_s)
    hook = _admitted(request, body, front)
    require_type(request, JSON_TYPES)
    try:
        payload = parse(body)
    except ValueError as error:
        raise not_json(error) from error
    try:
        items = await _mapped(hook, payload, request)
        if not items:
            return web.Response(status=204)
        found = await front.service.submit_many(items, correlation_id=correlation_id())
        return _answer(hook.name, found)
    except InvalidNotification as error:
        # Its sender will hardly read the answer: whoever runs Clarion has to learn of it.
        log.warning("hook_payload_refused", hook=hook.name, why=str(error)[:500])
        raise


def _admitted(request: web.Request, body: bytes, front: Front) -> Hook:
    """Return the hook that is called. Raises HttpRefusal, the same for every reason."""
    hook = front.hooks.get(request.match_info["name"])
    if hook is not None:
        why = hook.credential.refusal(request.headers, body, front.clock.now())
        if why is None:
            return hook
        log.info("hook_call_refused", hook=hook.name, why=why)
    raise HttpRefusal(
        NO_SUCH_HOOK,
        "There is no such hook, or its token or signature is not the one of the settings;"
        " the log says which",
    )


async def _mapped(
    hook: Hook, payload: Any, request: web.Request
) -> list[dict[str, Any] | ClarionError]:
    items: list[dict[str, Any] | ClarionError] = []
    for item in hook.mapping.apply(payload, visible_headers(request.headers)):
        items.append(item)
        if len(items) % MAPPED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return items


def _answer(name: str, found: Sequence[Submission | ClarionError]) -> web.Response:
    refused = {index: each for index, each in enumerate(found) if isinstance(each, ClarionError)}
    problems = {index: problem_of(each) for index, each in refused.items()}
    for problem in problems.values():
        if problem.kind.status >= 500 or problem.kind.status == 429:
            return _repeat(problem)
    if len(refused) == len(found):
        raise _joined(list(refused.values()))
    if refused:
        whys = [str(each)[:200] for each in list(refused.values())[:5]]
        log.warning("hook_items_refused", hook=name, refused=len(refused), whys=whys)
    results = [
        {"index": index, "id": each.id, "status": each.status}
        if isinstance(each, Submission)
        else {"index": index, "problem": problems[index].document}
        for index, each in enumerate(found)
    ]
    accepted = len(found) - len(refused)
    return answer({"accepted": accepted, "rejected": len(refused), "results": results}, 202)


def _repeat(problem: Problem) -> web.Response:
    """Ask the sender to repeat: 503, which all of them take so, where a 429 would be given up."""
    if problem.kind is LANE_FULL:
        problem = replace(problem, kind=LANE_FULL_TO_HOOK)
    return problem.response()


def _joined(refused: Sequence[ClarionError]) -> ClarionError:
    """Return one error for all that is wrong, where nothing was accepted."""
    if len(refused) == 1:
        return refused[0]
    faults = [
        Fault(fault.detail, f"/{index}{fault.pointer}")
        for index, error in enumerate(refused)
        for fault in _faults(error)
    ]
    return InvalidNotification(faults[:MAX_FAULTS])


def _faults(error: ClarionError) -> Sequence[Fault]:
    if isinstance(error, InvalidNotification):
        return error.faults
    return [Fault(str(error), "/idempotency_key")]
