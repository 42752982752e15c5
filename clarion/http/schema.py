"""The JSON schemas of the API, as the reference shows them.

They describe; what checks a request is `domain.submission`. Tests send what they allow and forbid,
so that the two cannot part.
"""

from __future__ import annotations

from typing import Any

from clarion.domain import header
from clarion.domain.notification import Channel, Delivery, Priority, Status
from clarion.domain.redrive import (
    DEAD_REASONS,
    MAX_ID,
    MAX_IDS,
    MAX_RATE,
    MAX_TEXT,
    MIN_RATE,
    RedriveState,
)
from clarion.domain.submission import MAX_KEY, MAX_NAME, MAX_SUBJECT
from clarion.http.body import MAX_ITEMS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "string", "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"}
"""Of many lines: no control characters but tabs and line breaks."""
_BOOLEAN: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_ANY_OBJECT: Schema = {"type": "object"}
_CHANNEL: Schema = {"type": "string", "enum": list(Channel)}
_PRIORITY: Schema = {"type": "string", "enum": [each.label for each in Priority]}
_STATUS: Schema = {"type": "string", "enum": list(Status)}
_HEALTH: Schema = {"type": "string", "enum": ["pass", "warn", "fail"]}


def _told(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _or_null(schema: Schema) -> Schema:
    found = {**schema, "type": [schema["type"], "null"]}
    return {**found, "enum": [*schema["enum"], None]} if "enum" in schema else found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    """Return an object whose properties are all required, or those of `required`."""
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": names}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def line(length: int) -> Schema:
    """Return the schema of a text of one line: no control characters at all."""
    pattern = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
    return {"type": "string", "maxLength": length, "pattern": pattern}


# --- requests --------------------------------------------------------------------------------

_HEADERS: Schema = {
    "type": "object",
    "maxProperties": header.MAX_HEADERS,
    "propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "maxLength": header.MAX_NAME},
    "additionalProperties": line(header.MAX_VALUE),
}
_FIELDS: Schema = {
    "channel": _told(_CHANNEL, "One that is configured."),
    "to": _told(_TEXT, "One address of the channel: addr-spec, E.164 number, http(s) URL."),
    "subject": _told(_or_null(line(MAX_SUBJECT)), "One line."),
    "text": _or_null(_TEXTS),
    "html": _or_null(_TEXTS),
    "data": _told(_or_null(_ANY_OBJECT), "What a webhook carries besides."),
    "priority": _or_null(_PRIORITY),
    "send_at": _told(_or_null(_INSTANT), "Not before this time."),
    "expires_at": _told(_or_null(_INSTANT), "Not after this time."),
    "delivery": _told(
        _or_null({"type": "string", "enum": list(Delivery)}),
        "What may happen after an unknown outcome: a second try that is marked, or none.",
    ),
    "tenant": _told(_or_null(line(MAX_NAME)), "Whose it is: the unit of fairness."),
    "reference": _told(_or_null(line(MAX_NAME)), "Your own id, to search by."),
    "metadata": _or_null(_ANY_OBJECT),
    "headers": _told(_or_null(_HEADERS), "Extra headers; none that names an address."),
}
_KEY: Schema = _told(
    _or_null(line(MAX_KEY)), "Repeat it to get the same answer instead of a second notification."
)

# --- answers ---------------------------------------------------------------------------------

_NOTIFICATION: Schema = {
    "id": _TEXT,
    "channel": _TEXT,
    "to": _TEXT,
    "status": _STATUS,
    "held": _told(_BOOLEAN, "No provider of the route has a closed circuit."),
    "held_reason": _or_null(_TEXT),
    "waiting": _told(_or_null(_TEXT), "What it waits for: retry, receipt, schedule."),
    "next_attempt_at": _or_null(_INSTANT),
    "attempts": _COUNT,
    "provider": _or_null(_TEXT),
    "possibly_duplicated": _BOOLEAN,
    "cancel_requested": _BOOLEAN,
    "reason": _or_null(_TEXT),
    "explanation": _told(_TEXT, "What happened and what comes next, in a sentence."),
    "priority": _PRIORITY,
    "tenant": _or_null(_TEXT),
    "reference": _or_null(_TEXT),
    "metadata": _ANY_OBJECT,
    "created_at": _INSTANT,
    "updated_at": _INSTANT,
}
_EVENT = _object(
    {
        "at": _INSTANT,
        "event": _TEXT,
        "provider": _or_null(_TEXT),
        "outcome": _or_null(_TEXT),
        "reason": _or_null(_TEXT),
        "detail": _or_null(_TEXT),
        "considered": _told({}, "The providers that were passed over, and why."),
    }
)
_PLACE = _object(
    {
        "provider": _TEXT,
        "circuit": _TEXT,
        "takes_work": _BOOLEAN,
        "reason": _TEXT,
        "retry_at": _or_null(_INSTANT),
    }
)
_LANE = _object(
    {
        "channel": _TEXT,
        "paused": _BOOLEAN,
        "held": _BOOLEAN,
        "held_reason": _or_null(_TEXT),
        "accepting": _BOOLEAN,
        "ready": _COUNT,
        "scheduled": _COUNT,
        "waiting": _told(_COUNT, "For a retry or a receipt."),
        "in_flight": _COUNT,
        "in_memory": _COUNT,
        "oldest_at": _or_null(_INSTANT),
        "problem": _told(_or_null(_TEXT), "Why the lane does not answer; null when it does."),
        "route": _array(_PLACE),
    }
)
_PROBE = _object(
    {
        "healthy": _BOOLEAN,
        "misconfigured": _BOOLEAN,
        "detail": _TEXT,
        "checked_at": _INSTANT,
    }
)
_PROVIDER = _object(
    {
        "name": _TEXT,
        "kind": _TEXT,
        "channels": _array(_TEXT),
        "state": _TEXT,
        "circuit": _TEXT,
        "failures": _COUNT,
        "enabled": _BOOLEAN,
        "in_flight": _COUNT,
        "slots": _told(_COUNT, "What it may use now; fewer than max_concurrent while it ramps."),
        "max_concurrent": _COUNT,
        "reason": _told(_TEXT, 'Why it takes nothing now; "" when it does.'),
        "retry_after_s": _or_null({"type": "number"}),
        "health": {"oneOf": [_PROBE, {"type": "null"}]},
    }
)
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}
_RESULT = {
    "oneOf": [
        _object(
            {
                "index": _COUNT,
                "id": _TEXT,
                "status": _STATUS,
                "replayed": _told(_BOOLEAN, "Its idempotency key was known: nothing new."),
            },
            ("index", "id", "status"),
        ),
        _object({"index": _COUNT, "problem": _ref("Problem")}),
    ]
}

# --- dead letters ----------------------------------------------------------------------------

_DEAD_FILTER: Schema = {
    "reason": _or_null({"type": "string", "enum": list(DEAD_REASONS)}),
    "provider": _told(_or_null(line(MAX_TEXT)), "The last one that was tried."),
    "channel": _told(_or_null(_CHANNEL), "One that is configured."),
    "since": _told(_or_null(_INSTANT), "Died at this time or later."),
    "until": _told(_or_null(_INSTANT), "Died before this time."),
    "ids": _told(
        _or_null({**_array(line(MAX_ID)), "minItems": 1, "maxItems": MAX_IDS}),
        "These and no others; goes without the other fields of the filter.",
    ),
}
_DRY_RUN: Schema = {"dry_run": _told(_or_null(_BOOLEAN), "Only count them.")}
_RATE: Schema = {"type": "number", "minimum": MIN_RATE, "maximum": MAX_RATE}
_REDRIVE_STATE: Schema = {"type": "string", "enum": list(RedriveState)}
_PROGRESS: Schema = {
    "matched": _told(_COUNT, "How many there were when it began."),
    "moved": _told(_COUNT, "How many are back in their lane, or were and have ended again."),
    "skipped": _told(_COUNT, "Gone or unreadable when it was their turn."),
}
_REDRIVE = _object(
    {
        "id": _TEXT,
        "state": _REDRIVE_STATE,
        "filter": _object(_DEAD_FILTER),
        "rate": _told(_RATE, "Notifications a second at most."),
        **_PROGRESS,
        "who": _TEXT,
        "created_at": _INSTANT,
        "updated_at": _INSTANT,
        "ended_at": _or_null(_INSTANT),
        "lanes": _array(_object({"channel": _TEXT, "state": _REDRIVE_STATE, **_PROGRESS})),
    }
)

SCHEMAS: dict[str, Schema] = {
    "RedriveRequest": {
        **_object(
            {**_DEAD_FILTER, **_DRY_RUN, "rate": _told(_or_null(_RATE), "Notifications a second.")},
            (),
        ),
        "additionalProperties": False,
    },
    "DiscardRequest": {
        **_object({**_DEAD_FILTER, **_DRY_RUN}, ()),
        "additionalProperties": False,
    },
    "Redrive": _REDRIVE,
    "Redrives": _object({"items": _array(_ref("Redrive"))}),
    "Matched": _object({"matched": _COUNT}),
    "Discarded": _object(
        {"discarded": _COUNT, "matched": _told(_COUNT, "Instead, of a dry run.")}, ()
    ),
    "Resolution": {
        **_object({"as": {"type": "string", "enum": ["sent", "retry"]}}),
        "additionalProperties": False,
    },
    "Request": {**_object(_FIELDS, ("channel", "to")), "additionalProperties": False},
    "Item": {
        **_object({**_FIELDS, "idempotency_key": _KEY}, ("channel", "to")),
        "additionalProperties": False,
    },
    "Batch": {**_array(_ref("Item")), "minItems": 1, "maxItems": MAX_ITEMS},
    "Notification": _object(_NOTIFICATION),
    "NotificationWithTimeline": _object({**_NOTIFICATION, "timeline": _array(_EVENT)}),
    "Page": _object({"items": _array(_ref("Notification")), "next": _or_null(_TEXT)}),
    "BatchAnswer": _object({"accepted": _COUNT, "rejected": _COUNT, "results": _array(_RESULT)}),
    "Stats": _object(
        {
            "accepted": _told(_COUNT, "Equals the sum of by_status, at any moment."),
            "by_status": _COUNTS,
            "by_channel": {
                "type": "object",
                "additionalProperties": _object({"accepted": _COUNT, "by_status": _COUNTS}),
            },
        }
    ),
    "Lanes": _object({"items": _array(_LANE)}),
    "Providers": _object({"items": _array(_PROVIDER)}),
    "Health": _object(
        {
            "status": _HEALTH,
            "output": _told(_TEXT, "Why it is not well."),
            "version": _TEXT,
            "serviceId": _TEXT,
            "description": _TEXT,
            "functions": _object(
                {
                    "accept": _HEALTH,
                    "search": _HEALTH,
                    "receipts": _HEALTH,
                    "deliver": {"type": "object", "additionalProperties": _HEALTH},
                }
            ),
            "checks": {"type": "object", "additionalProperties": _array(_ANY_OBJECT)},
        },
        ("status",),
    ),
    "Problem": _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "errors": _array(_object({"detail": _TEXT, "pointer": _TEXT})),
        },
        ("type", "title", "status", "detail"),
    ),
    "Payload": _told({}, "Any JSON; what becomes of it is said in [hooks.NAME]."),
    "Document": _ANY_OBJECT,
    "Text": _TEXT,
}
"""Every schema by its name."""

GOOD: Schema = {
    "channel": "email",
    "to": "ada@example.com",
    "subject": "Your order is on its way",
    "text": "It will be there tomorrow.",
    "reference": "order-4711",
}
EXAMPLES: Schema = {
    "Request": GOOD,
    "Batch": [GOOD],
    "Resolution": {"as": "sent"},
    "RedriveRequest": {"reason": "exhausted", "rate": 50},
    "DiscardRequest": {"reason": "recipient"},
}
"""A body of each kind that is taken as it stands."""
