"""Errors as RFC 9457 problems: every `ClarionError` and every refusal of HTTP's own has one.

A problem speaks to whoever wrote the request: what is wrong, which, and what to do. Our own bugs
are told apart from it: they are logged with their traceback and answered without their insides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from aiohttp import web

from clarion import errors
from clarion.errors import ClarionError, Fault, InvalidNotification
from clarion.http.answer import dump

log = structlog.get_logger(__name__)

PROBLEM_TYPE = "application/problem+json"
URN = "urn:clarion:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one kind share: its short name, status and title."""

    name: str
    status: int
    title: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, ready to be answered."""

    kind: Kind
    detail: str
    faults: tuple[Fault, ...] = ()
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of it."""
        shown: dict[str, Any] = {
            "type": URN + self.kind.name,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        }
        if self.faults:
            shown["errors"] = [
                {"detail": fault.detail, "pointer": fault.pointer} for fault in self.faults
            ]
        return shown

    def response(self) -> web.Response:
        """Return the answer."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return web.Response(
            status=self.kind.status,
            body=dump(self.document),
            content_type=PROBLEM_TYPE,
            headers=headers,
        )


class HttpRefusal(ClarionError):
    """A request that HTTP itself refuses, before the service sees it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *faults: Fault,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail, faults, headers=headers or {})


# --- HTTP's own ------------------------------------------------------------------------------

MALFORMED = Kind("malformed", 400, "The request cannot be read")
UNAUTHORIZED = Kind("unauthorized", 401, "A key is needed")
FORBIDDEN = Kind("forbidden", 403, "The request comes from a place that may not ask")
NO_SUCH_PATH = Kind("no-such-path", 404, "There is nothing at this address")
NO_SUCH_METHOD = Kind("no-such-method", 405, "This cannot be done here")
TOO_SLOW = Kind("too-slow", 408, "The body did not arrive in time")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
UNSUPPORTED_TYPE = Kind("unsupported-type", 415, "The body has the wrong content type")
EXPECTATION = Kind("expectation-failed", 417, "The Expect header asks for what is not done here")
BUG = Kind("internal", 500, "Something went wrong on our side")
TOO_MANY_CONNECTIONS = Kind("too-many-connections", 503, "Too many connections")

# --- of single addresses ---------------------------------------------------------------------

NO_SUCH_HOOK = Kind("no-such-hook", 403, "The hook is not there, or what was shown is wrong")
CALLBACK_REFUSED = Kind("callback-refused", 403, "No provider of ours is known to say this")
LANE_FULL = Kind("lane-full", 429, "The queue of this channel is full")
LANE_FULL_TO_HOOK = replace(LANE_FULL, status=503)
"""Senders of hooks repeat after a 503, and give up after a 429."""

_BY_STATUS = {
    kind.status: kind
    for kind in (
        MALFORMED, UNAUTHORIZED, FORBIDDEN, NO_SUCH_PATH, NO_SUCH_METHOD, TOO_SLOW, TOO_LARGE,
        UNSUPPORTED_TYPE, EXPECTATION,
    )
}  # fmt: skip

# --- the tree of errors ----------------------------------------------------------------------

_INVALID = Kind("invalid", 422, "The request cannot be carried out as it stands")

KINDS: dict[type[ClarionError], Kind] = {
    errors.ClarionError: BUG,
    errors.SettingsError: BUG,
    errors.InvalidNotification: _INVALID,
    errors.Refused: Kind("refused", 503, "Not accepted now"),
    errors.MailboxFull: Kind("busy", 503, "More arrives than can be written down"),
    errors.LaneFull: LANE_FULL,
    errors.LaneClosed: Kind("lane-closed", 503, "This channel does not accept now"),
    errors.StorageUnavailable: Kind("storage-unavailable", 503, "The store cannot be used now"),
    errors.Unanswered: Kind("unanswered", 503, "No answer came in time"),
    errors.IdempotencyConflict: Kind(
        "idempotency-conflict", 422, "The idempotency key was used with another body"
    ),
    errors.NotFound: Kind("not-found", 404, "There is no such thing"),
    errors.Conflict: Kind("conflict", 409, "Its present state does not allow this"),
    errors.CircuitOpen: Kind("circuit-open", 503, "The circuit is open"),
    errors.RedisAway: Kind("redis-away", 503, "Redis cannot be used now"),
    errors.ActorError: Kind("actor-unavailable", 503, "A part of the server does not answer"),
    errors.ActorDead: Kind("actor-unavailable", 503, "A part of the server does not answer"),
    errors.AskTimeout: Kind("actor-unavailable", 503, "A part of the server does not answer"),
    errors.WouldDeadlock: BUG,
    errors.StoreLocked: Kind("store-locked", 503, "Another process has the database"),
    errors.StoreTaken: Kind("store-locked", 503, "Another process has the database"),
}
"""Every class of `clarion.errors`; a class that is not named here is what its base is."""

ALL_KINDS = frozenset(
    {*_BY_STATUS.values(), *KINDS.values(), TOO_MANY_CONNECTIONS, NO_SUCH_HOOK, CALLBACK_REFUSED,
     LANE_FULL_TO_HOOK}
)  # fmt: skip
"""Whatever a problem can be; the reference lists them by their status."""


def problem_of(error: ClarionError) -> Problem:
    """Return the problem of an expected error."""
    if isinstance(error, HttpRefusal):
        return error.problem
    kind = _kind_of(type(error))
    if kind is BUG:
        return _bug(error)
    return Problem(kind, _detail(error), _faults(error), retry_after_s=_retry_after_s(error))


def _kind_of(cls: type[ClarionError]) -> Kind:
    return next(KINDS[each] for each in cls.__mro__ if each in KINDS)


def _detail(error: ClarionError) -> str:
    if isinstance(error, InvalidNotification):
        faults = error.faults
        return f"{_sentence(faults[0].detail)}{_and_more(len(faults) - 1)}" if faults else ""
    return _sentence(str(error)) or "no more is known"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _and_more(n: int) -> str:
    return "" if n < 1 else f" (and {n} more {'fault' if n == 1 else 'faults'}, see errors)"


def _faults(error: ClarionError) -> tuple[Fault, ...]:
    return tuple(error.faults) if isinstance(error, InvalidNotification) else ()


def _retry_after_s(error: ClarionError) -> float | None:
    match error:
        case errors.Refused():
            return error.retry_after_s
        case errors.CircuitOpen():
            return error.retry_after
        case _:
            return 1.0 if _kind_of(type(error)).status == 503 else None


def problem_of_http(error: web.HTTPException, request: web.BaseRequest) -> Problem:
    """Return the problem of what aiohttp refuses by itself: unknown paths, methods, sizes."""
    match error:
        case web.HTTPNotFound():
            return Problem(NO_SUCH_PATH, f"There is no {_shown(request.path)}; see /docs")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{_shown(request.path)} takes {allowed}, not {_shown(request.method)}"
            return Problem(NO_SUCH_METHOD, detail, headers={"Allow": allowed})
        case _:
            kind = _BY_STATUS.get(error.status) or Kind("refused", error.status, error.reason)
            return Problem(kind, error.text or error.reason)


def _shown(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def problem_of_bug(error: BaseException) -> Problem:
    """Log what no one expected, and return a problem that tells nothing of it."""
    return _bug(error)


def _bug(error: BaseException) -> Problem:
    log.error("request_failed", error=repr(error), exc_info=error)
    return Problem(
        BUG,
        "This is a fault of the server, not of the request; it was logged under the id in the"
        " X-Request-ID header. Whether the request took effect is not known.",
    )


__all__ = ["KINDS", "HttpRefusal", "Kind", "Problem", "problem_of", "problem_of_bug",
           "problem_of_http"]  # fmt: skip
