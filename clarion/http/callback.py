"""Receipts of providers: genuine ones are kept before they are answered, all others refused.

Who calls here has no key of ours, only the provider's signature. Everything that is not right is
refused with the same 403, an unknown provider or a body without end too, so that nothing of the
settings can be found out from outside; the log says why. A genuine request is answered 200 even
where it means nothing to us, since a repeat would mean no more; and 503 while it cannot be kept,
for it to be repeated.
"""

from __future__ import annotations

import structlog
from aiohttp import web

from clarion.http.body import read_body
from clarion.http.front import FRONT, Front
from clarion.http.problem import CALLBACK_REFUSED, HttpRefusal
from clarion.providers.callback import Callback, CallbackRefused, Reading

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 2_000_000
"""SendGrid's batches are the largest: some hundred kilobytes."""

_REFUSAL = (
    "There is no such provider, its signature is not the one of the settings, or the body is too"
    " large or did not arrive; the log says which"
)


async def receive_receipts(request: web.Request) -> web.Response:
    """Keep what a provider tells of its messages; 200 once that is on disk."""
    front, name = request.app[FRONT], request.match_info["provider"]
    try:
        reading = await _read(request, name, front)
    except (CallbackRefused, HttpRefusal) as error:
        log.warning("callback_refused", provider=name[:100], why=str(error))
        if name in front.receipt_readers:
            front.metrics.receipts(name, "refused").inc()
        raise HttpRefusal(CALLBACK_REFUSED, _REFUSAL) from error
    verdicts = await front.service.receive(reading.receipts)
    verdicts["unread"] += reading.unread
    for verdict, n in verdicts.items():
        front.metrics.receipts(name, verdict).inc(n)
    return web.Response(content_type="text/plain")


async def _read(request: web.Request, name: str, front: Front) -> Reading:
    """Return what a genuine request tells. Raises CallbackRefused, HttpRefusal (of its body)."""
    body = await read_body(request, MAX_BODY_BYTES, front.body_s)
    reader = front.receipt_readers.get(name)
    if reader is None:
        raise CallbackRefused("there is no such provider, or its kind sends no receipts")
    return reader.read(Callback(request.raw_path, request.headers, body, front.clock.now()))
