"""Query parameters and headers of the API, as the reference shows them.

What is read of a query is decided in `query`. An empty parameter counts as left out there, so each
of them allows it here.
"""

from __future__ import annotations

from typing import Any

from clarion.domain.notification import Reason, Status
from clarion.domain.submission import MAX_KEY
from clarion.http.query import DEFAULT_LIMIT, MAX_VALUE
from clarion.http.schema import Schema, line
from clarion.service import MAX_PAGE

_LINE = line(MAX_VALUE)
_INSTANT: Schema = {"type": "string", "format": "date-time"}


def _query(name: str, schema: Schema, description: str = "") -> Schema:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema,
        "allowEmptyValue": True,
    }


def _choice(choices: type[Status | Reason]) -> Schema:
    return {"type": "string", "enum": list(choices)}


PARAMETERS: dict[str, Schema] = {
    str(each["name"]): each
    for each in (
        _query("status", _choice(Status)),
        _query("channel", _LINE),
        _query("to", _LINE, "The address; write a plus as %2B."),
        _query("reference", _LINE),
        _query("reason", _choice(Reason)),
        _query("provider", _LINE),
        _query("since", _INSTANT, "Ended at this time or later."),
        _query("until", _INSTANT, "Ended before this time."),
        _query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_LIMIT},
        ),
        _query("cursor", _LINE, "The `next` of the page before."),
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": line(MAX_KEY),
            "description": "Repeat it with the same body to get the same answer, for 24 hours.",
        },
        {
            "name": "X-Request-ID",
            "in": "header",
            "schema": {"type": "string"},
            "description": "Joins log lines; where it is missing or not of 1 to 128 visible ASCII"
            " characters, one is made up.",
        },
    )
}
"""Every query parameter and header of a request by its name."""


def _header(description: str, *, required: bool = True, **schema: Any) -> Schema:
    return {
        "description": description,
        "required": required,
        "schema": {"type": "string", **schema},
    }


HEADERS: dict[str, Schema] = {
    "X-Request-ID": _header(
        "The id of the request in the log; not there where none could be read.",
        required=False,
        pattern="^[\\x21-\\x7e]{1,128}$",
    ),
    "Cache-Control": _header("Nothing here is to be kept.", required=False, const="no-store"),
    "X-Content-Type-Options": _header("The Content-Type holds.", required=False, const="nosniff"),
    "Cross-Origin-Resource-Policy": _header(
        "No page of another origin embeds it.", required=False, const="same-origin"
    ),
    "Location": _header("Where the new thing is.", format="uri-reference"),
    "Idempotent-Replayed": _header(
        "There where the key was known and nothing new was accepted.",
        required=False,
        const="true",
    ),
    "Retry-After": _header("Seconds after which to try again.", pattern="^[1-9][0-9]*$"),
    "Allow": _header("The methods that this address takes."),
    "WWW-Authenticate": _header("What credentials are asked for."),
    "Content-Security-Policy": _header("The page loads nothing."),
}
"""Every header of an answer by its name, beside those of the transport."""

ALWAYS = ("X-Request-ID", "Cache-Control", "X-Content-Type-Options", "Cross-Origin-Resource-Policy")
"""Headers of every answer that the app gives."""
OF_STATUS = {401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",),
             503: ("Retry-After",)}  # fmt: skip
"""Headers that belong to a problem of a status."""
