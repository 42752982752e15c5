"""The controls of a look-alike over HTTP, for tests and demonstrations in other processes.

::

    POST /_control           {"fault": "throttled", "with": {"retry_after": 5}, "times": 3}
                             {"recover": true} {"latency_s": 0.2} {"fail_ratio": 0.1}
                             {"clear": true}
    POST /_control/report    {"id": ID, "event": "delivered"}: send a signed receipt
                             (SendGrid: {"url": WEBHOOK} says where to, once)
    GET  /_control/public_key   what SendGrid's events are verified by
    GET  /_control/requests  the counts of the ledger
    GET  /_control/delivered?id=ID   {"id": …, "delivered": n}

No fault ever concerns these paths.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from aiohttp import web

from clarion.testing.fault import fault_named
from clarion.testing.steerable import Steerable

PREFIX = "/_control"
_KEYS = {"fault", "with", "times", "recover", "latency_s", "fail_ratio", "clear"}


async def handle(lookalike: Steerable, request: web.BaseRequest) -> web.Response:
    """Serve one control request."""
    match request.method, request.path:
        case "POST", "/_control":
            return await _steer(lookalike, request)
        case "POST", "/_control/report":
            return await _report(lookalike, request)
        case "GET", "/_control/public_key":
            key = getattr(lookalike, "event_public_key", "")
            return web.json_response({"event_public_key": key})
        case "GET", "/_control/requests":
            return web.json_response(lookalike.ledger.summary())
        case "GET", "/_control/delivered":
            id_ = request.query.get("id", "")
            return web.json_response({"id": id_, "delivered": lookalike.delivered(id_)})
        case _:
            return web.json_response({"error": "no such control"}, status=404)


async def _steer(lookalike: Steerable, request: web.BaseRequest) -> web.Response:
    try:
        obey(lookalike, json.loads(await request.read() or b"{}"))
    except (ValueError, TypeError) as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response(lookalike.ledger.summary())


async def _report(lookalike: Steerable, request: web.BaseRequest) -> web.Response:
    try:
        order = json.loads(await request.read() or b"{}")
        if "url" in order:
            lookalike.event_webhook_url = order.pop("url")
        answered = await lookalike.report(**order) if order else None
    except (ValueError, TypeError, KeyError, aiohttp.ClientError) as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response({"answered": answered})


def obey(lookalike: Steerable, order: dict[str, Any]) -> None:
    """Carry out one order; ValueError says what is wrong with it, and then nothing was done."""
    unknown = set(order) - _KEYS
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    fault = fault_named(order["fault"], order.get("with")) if "fault" in order else None
    if order.get("recover"):
        lookalike.recover()
    if order.get("clear"):
        lookalike.ledger.clear()
    lookalike.latency_s = float(order.get("latency_s", lookalike.latency_s))
    lookalike.fail_ratio = float(order.get("fail_ratio", lookalike.fail_ratio))
    if fault is not None:
        lookalike.behave(fault, times=order.get("times"))
