"""Every address of the API, once: its handler, and what the reference says of it.

The app takes its routes from here and `openapi` its document, so neither can know one more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from clarion.http import api, callback, dead_letter, health, hook, reference, scrape, steering
from clarion.http.auth import OPEN, OWN_CREDENTIALS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method at one path."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: str = ""
    """The schema of the answer, by its name in `schema`; "" for one without a body."""
    status: int = 200
    content_types: tuple[str, ...] = ("application/json",)
    body: str = ""
    """The schema of the body; "" where there is none."""
    parameters: tuple[str, ...] = ()
    """Names of query parameters and headers, as `parameter` describes them."""
    headers: tuple[str, ...] = ()
    """Names of headers of the answer, beyond those that every answer has."""
    problems: tuple[int, ...] = ()
    """Statuses of problems beyond those that every address may answer."""
    links: tuple[str, ...] = ()
    """Names of the operations that take the id which the answer gives."""
    status_when_down: int = 0
    """The status of the same answer when the news is bad; 0 where there is none such."""
    status_when_dry: int = 0
    """The status of a dry run, whose answer is a `Matched`; 0 where there is none such."""
    status_when_nothing: int = 0
    """The status where there was nothing to do, without a body; 0 where there is none such."""

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.handler.__name__

    @property
    def is_open(self) -> bool:
        """Whether it needs no key."""
        return self.path in OPEN

    @property
    def has_own_credentials(self) -> bool:
        """Whether it asks for credentials of its own instead of the key."""
        return self.path in OWN_CREDENTIALS


_PAGE = ("limit", "cursor")

ENDPOINTS = (
    Endpoint(
        "POST", "/v1/notifications", api.send, "Send one notification", "Notification", 202,
        body="Request", parameters=("Idempotency-Key", "X-Request-ID"),
        headers=("Location", "Idempotent-Replayed"), links=("get", "cancel", "resolve"),
        problems=(408, 413, 415, 422, 429),
    ),
    Endpoint(
        "POST", "/v1/notifications/batch", api.send_batch,
        "Send many at once; each is answered for itself", "BatchAnswer", 202,
        body="Batch", parameters=("X-Request-ID",), problems=(408, 413, 415, 422),
    ),
    Endpoint(
        "GET", "/v1/notifications", api.find, "Search, the newest first", "Page",
        parameters=("status", "channel", "to", "reference", *_PAGE), problems=(422,),
    ),
    Endpoint(
        "GET", "/v1/notifications/{id}", api.get, "Show one, with its timeline",
        "NotificationWithTimeline", problems=(422,),
    ),
    Endpoint(
        "POST", "/v1/notifications/{id}/cancel", api.cancel,
        "Cancel; while a call is out, let it be the last", "Notification", problems=(409,),
    ),
    Endpoint(
        "POST", "/v1/notifications/{id}/resolve", dead_letter.resolve,
        "Decide about an unknown one: it was sent, or is to be sent again", "Notification",
        body="Resolution", problems=(408, 409, 413, 415, 422, 429),
    ),
    Endpoint(
        "POST", "/hooks/{name}", hook.receive_hook,
        "Take the webhook of another system; 204 where it asks for nothing", "BatchAnswer", 202,
        body="Payload", parameters=("X-Request-ID",), problems=(403, 408, 413, 415, 422),
        status_when_nothing=204,
    ),
    Endpoint(
        "POST", "/callbacks/{provider}", callback.receive_receipts,
        "Take the receipts of a provider, which its signature shows to be genuine",
        problems=(403,),
    ),
    Endpoint("GET", "/v1/stats", api.stats, "Counts of one instant", "Stats", problems=(422,)),
    Endpoint(
        "GET", "/v1/dead-letters", api.dead_letters, "What failed for good, the latest first",
        "Page", parameters=("reason", "provider", "channel", "since", "until", *_PAGE),
        problems=(422,),
    ),
    Endpoint(
        "POST", "/v1/dead-letters/redrive", dead_letter.redrive,
        "Move dead letters back into their lanes; with dry_run, only count them", "Redrive", 202,
        body="RedriveRequest", headers=("Location",), links=("get_redrive", "cancel_redrive"),
        problems=(408, 413, 415, 422), status_when_dry=200,
    ),
    Endpoint(
        "GET", "/v1/dead-letters/redrives", dead_letter.redrives, "The latest redrives",
        "Redrives", problems=(422,),
    ),
    Endpoint(
        "GET", "/v1/dead-letters/redrives/{id}", dead_letter.get_redrive, "How far a redrive got",
        "Redrive", problems=(422,),
    ),
    Endpoint(
        "POST", "/v1/dead-letters/redrives/{id}/cancel", dead_letter.cancel_redrive,
        "Let a redrive move no more; what it moved goes on", "Redrive", problems=(409,),
    ),
    Endpoint(
        "POST", "/v1/dead-letters/discard", dead_letter.discard,
        "Put dead letters aside; they stay failed", "Discarded",
        body="DiscardRequest", problems=(408, 413, 415, 422),
    ),
    Endpoint(
        "GET", "/v1/queues", steering.queues, "How every lane stands", "Lanes", problems=(422,)
    ),
    Endpoint(
        "POST", "/v1/queues/{channel}/pause", steering.pause,
        "Send nothing from a lane; it goes on accepting", status=204,
    ),
    Endpoint(
        "POST", "/v1/queues/{channel}/resume", steering.resume, "Send from a lane again",
        status=204,
    ),
    Endpoint(
        "GET", "/v1/providers", steering.providers, "How every provider stands", "Providers",
        problems=(422,),
    ),
    Endpoint(
        "POST", "/v1/providers/{name}/enable", steering.enable, "Use a provider again",
        status=204,
    ),
    Endpoint(
        "POST", "/v1/providers/{name}/disable", steering.disable,
        "Make no new calls to a provider", status=204,
    ),
    Endpoint(
        "POST", "/v1/breakers/{name}/open", steering.open_circuit,
        "Force a circuit open, until it is reset", status=204,
    ),
    Endpoint(
        "POST", "/v1/breakers/{name}/close", steering.close_circuit,
        "Hold a circuit closed, until it is reset", status=204,
    ),
    Endpoint(
        "POST", "/v1/breakers/{name}/reset", steering.reset_circuit,
        "Let a circuit work by its own rules again", status=204,
    ),
    Endpoint(
        "GET", "/livez", health.livez, "200 while the process lives", "Health",
        content_types=(health.HEALTH_TYPE,),
    ),
    Endpoint(
        "GET", "/readyz", health.readyz, "200 while it can accept, else 503", "Health",
        content_types=(health.HEALTH_TYPE,), status_when_down=503,
    ),
    Endpoint(
        "GET", "/health", health.health, "Every part, and what works; 503 where the whole fails",
        "Health", content_types=(health.HEALTH_TYPE,), status_when_down=503,
    ),
    Endpoint(
        "GET", "/metrics", scrape.metrics, "Metrics for Prometheus", "Text",
        content_types=("text/plain", "application/openmetrics-text"),
    ),
    Endpoint(
        "GET", "/openapi.json", reference.show_document, "This document", "Document"
    ),
    Endpoint(
        "GET", "/docs", reference.show_page, "This document for people", "Text",
        content_types=("text/html",), headers=("Content-Security-Policy",),
    ),
)  # fmt: skip
