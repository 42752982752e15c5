"""What a host's HTTP status means for a webhook, as data.

The status alone decides: the body is not read, since it is the host's to choose and nobody's to
see. There is no account that could be wrong, so a refusal is the recipient's affair (RECIPIENT:
this URL takes nothing from us) or the message's (PERMANENT). A 5xx of the host's own is TRANSIENT;
one that a proxy before it writes is UNKNOWN, since the host may have the message.
"""

from __future__ import annotations

from http import HTTPStatus

from clarion.domain.outcome import HOST_THROTTLED, Outcome
from clarion.providers.http_status import Ruling

_RECIPIENT, _TRANSIENT, _UNKNOWN = Outcome.RECIPIENT, Outcome.TRANSIENT, Outcome.UNKNOWN

OF_STATUS: dict[int, tuple[Outcome, str]] = {
    401: (_RECIPIENT, "the host does not accept our signature or credentials"),
    403: (_RECIPIENT, "the host forbids us this URL"),
    404: (_RECIPIENT, "there is nothing at this URL"),
    405: (_RECIPIENT, "the URL takes no POST"),
    407: (_RECIPIENT, "the host wants a proxy's credentials"),
    408: (_TRANSIENT, "the host did not get the whole request in time"),
    410: (_RECIPIENT, "the endpoint is gone, for good"),
    413: (Outcome.PERMANENT, "the message is too large for the host"),
    415: (Outcome.PERMANENT, "the host reads no JSON"),
    421: (_TRANSIENT, "the request reached the wrong server of the host"),
    423: (_TRANSIENT, "the endpoint is locked at the moment"),
    425: (_TRANSIENT, "the host wants the request again, later"),
    429: (Outcome.THROTTLED, "the host wants us to slow down"),
    451: (_RECIPIENT, "the host may not take this, for legal reasons"),
    500: (_TRANSIENT, "the host failed"),
    501: (_TRANSIENT, "the host does not know how to take it"),
    502: (_UNKNOWN, "something before the host answered"),
    503: (_TRANSIENT, "the host is unavailable"),
    504: (_UNKNOWN, "something before the host got no answer from it in time"),
    505: (_TRANSIENT, "the host does not speak this version of HTTP"),
    507: (_TRANSIENT, "the host has no room"),
    508: (_TRANSIENT, "the host runs in a circle"),
    511: (_TRANSIENT, "a network before the host wants a login"),
    521: (_TRANSIENT, "the host refuses its own proxy's connections"),
    523: (_TRANSIENT, "the host's own proxy cannot reach it"),
    525: (_TRANSIENT, "the host and its own proxy have no secure connection"),
    526: (_TRANSIENT, "the host's own proxy does not trust its certificate"),
}
"""521 to 526 are Cloudflare's. Every other 2xx is ACCEPTED, 3xx and 4xx PERMANENT, 5xx UNKNOWN."""

SUPPRESSES = frozenset({410})
"""Standard Webhooks: a receiver that answers so wants nothing more."""

_MAY_HAVE_TAKEN = frozenset({500, 501, 505, 507, 508})
"""TRANSIENT all the same, but not sure enough for `at_most_once`."""


def ruling_of(status: int) -> Ruling:
    """Say what a status means."""
    if status not in OF_STATUS:
        return _by_class(status)
    outcome, words = OF_STATUS[status]
    return Ruling(
        outcome,
        HOST_THROTTLED if outcome is Outcome.THROTTLED else f"http_{status}",
        f"{words} ({status})",
        surely_not_accepted=outcome is not _UNKNOWN and status not in _MAY_HAVE_TAKEN,
        suppress=status in SUPPRESSES,
    )


def _by_class(status: int) -> Ruling:
    reason, name = f"http_{status}", _name(status)
    match status // 100:
        case 2:
            words = f"the recipient's host took it ({status})"
            return Ruling(Outcome.ACCEPTED, reason, words, surely_not_accepted=False)
        case 3:
            words = f"the URL leads on to another one ({name}), which is not followed; correct it"
            return Ruling(Outcome.PERMANENT, reason, words)
        case 4:
            return Ruling(Outcome.PERMANENT, reason, f"the host refuses the message ({name})")
        case _:
            words = f"an answer that says nothing certain ({name})"
            return Ruling(_UNKNOWN, reason, words, surely_not_accepted=False)


def _name(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
