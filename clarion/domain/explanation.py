"""What a notification's story is, in words: the explanation and the timeline.

The explanation is for a support person to read to a customer, so it names no code, no address and
no actor: what happened, why, and what comes next and when.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_never

from clarion.domain.instant import rfc3339
from clarion.domain.notification import KeptReceipt, Notification, ProviderCall, Reason, Status
from clarion.domain.outcome import HOST_BUSY, HOST_THROTTLED, Outcome

BROUGHT_BACK = "An operator has put it back into the queue; it waits for its turn."
WAITS_ITS_TURN = "It was accepted and waits in the queue for its turn."
_TWICE = "It may have arrived twice, because an earlier try ended without a clear answer."


def explain(
    notification: Notification,
    now: float,
    *,
    held_reason: str | None = None,
    is_paused: bool = False,
) -> str:
    """Say how a notification stands; `now` is epoch seconds.

    `held_reason` is None unless its lane is held; `is_paused` says whether its lane is paused.
    """
    status = notification.status
    match status:
        case Status.SCHEDULED:
            return explain_schedule(notification.next_attempt_at)
        case Status.QUEUED:
            return _explain_queued(notification, now, held_reason, is_paused=is_paused)
        case Status.SENDING:
            return _explain_sending(notification)
        case Status.SENT | Status.DELIVERED | Status.UNDELIVERED:
            return _explain_taken(notification)
        case Status.FAILED:
            return _explain_failed(notification)
        case Status.UNKNOWN:
            return _explain_unknown(notification)
        case Status.EXPIRED:
            tail = _last_words(notification)
            return f"It was not sent: its time ran out on {_time(notification.expires_at)}{tail}"
        case Status.CANCELLED:
            return "It was cancelled before any provider had it."
        case Status.SUPPRESSED:
            return "It was not sent, because the recipient does not want to be written to."
        case _:
            assert_never(status)


def explain_schedule(send_at: float | None) -> str:
    """Say that it waits for its time, epoch seconds."""
    at = "at its time" if send_at is None else f"on {_time(send_at)}"
    return f"It is scheduled and will be sent {at}."


# --- by status -------------------------------------------------------------------------------


def _explain_queued(
    notification: Notification, now: float, held_reason: str | None, *, is_paused: bool
) -> str:
    if notification.reason == Reason.POISON:
        return "Its stored row is spoilt: it is not sent, and set aside at the next start."
    if is_paused:
        return "It waits, because an operator has paused its channel; it is sent after that."
    if held_reason is not None:
        return f"It waits: {held_reason}. It is sent as soon as that is over."
    match notification.waiting:
        case "receipt":
            return _explain_grace(notification, now)
        case "retry":
            when = _when(notification.next_attempt_at, now)
            return f"{_last_try(notification)}; it is tried again {when}."
    if notification.provider is None:
        return WAITS_ITS_TURN
    if _is_brought_back(notification):
        return BROUGHT_BACK
    return f"{_last_try(notification)}; it goes on to the next provider as soon as one is free."


def _is_brought_back(notification: Notification) -> bool:
    """Whether nothing was tried since a person put it back into the queue."""
    if not notification.interventions:
        return False
    call = _last_call(notification)
    return call is None or call.ended_at <= notification.interventions[-1].at


def _explain_grace(notification: Notification, now: float) -> str:
    when = _when(notification.next_attempt_at, now)
    return (
        f"{_provider(notification)} may have it, but gave no clear answer; unless it tells us so"
        f" before, the message is sent again {when} and may then arrive twice."
    )


def _explain_sending(notification: Notification) -> str:
    text = f"It is being handed to {notification.provider or 'a provider'} right now."
    if notification.cancel_requested:
        text += " Cancelling was asked for: if this try fails, there will be no other."
    return _with_doubt(text, notification)


def _explain_taken(notification: Notification) -> str:
    provider, at = _provider(notification), _time(notification.updated_at)
    match notification.status:
        case Status.DELIVERED:
            text = f"It was delivered: {provider} confirmed it on {at}."
        case Status.UNDELIVERED:
            text = f"{provider} took it but could not deliver it{_last_words(notification)}"
        case _:
            text = f"It was sent: {provider} took it on {at}."
    return _with_doubt(text, notification)


def _explain_failed(notification: Notification) -> str:
    words = _last_words(notification)
    match notification.reason:
        case Reason.EXHAUSTED:
            tries = _tries(notification.attempts)
            text = f"It could not be sent: every provider failed in {tries}{words}"
        case Reason.PERMANENT:
            text = f"It was not sent: {_provider(notification)} refused the message itself{words}"
        case Reason.RECIPIENT:
            text = f"It was not sent: the recipient cannot be reached or opted out{words}"
        case Reason.POISON:
            text = f"It could not be sent because of a fault of our own{words}"
        case _:
            text = f"It could not be sent{words}"
    if notification.receipts:
        told = notification.receipts[-1]
        text += f" But {told.provider} told of it later ({told.event}): it may have arrived."
    if notification.discarded_at is not None:
        text += " An operator has looked at it and put it aside."
    return text


def _explain_unknown(notification: Notification) -> str:
    match notification.reason:
        case Reason.EXHAUSTED:
            why = f"no provider took it in {_tries(notification.attempts)}"
        case Reason.EXPIRED:
            why = "its time ran out"
        case Reason.CANCELLED:
            why = "it was cancelled"
        case Reason.POISON:
            why = "a fault of our own stopped it"
        case _:
            return (
                f"It is not known whether it was sent: {_provider(notification)} gave no clear"
                f" answer, and it must not be sent twice{_last_words(notification)}"
            )
    return (
        f"It is not known whether it was sent: {why} after a try that ended without a clear"
        f" answer{_last_words(notification)}"
    )


# --- parts of sentences ----------------------------------------------------------------------


def _with_doubt(text: str, notification: Notification) -> str:
    return f"{text} {_TWICE}" if notification.possibly_duplicated else text


def _provider(notification: Notification) -> str:
    return notification.provider or "a provider"


def _last_call(notification: Notification) -> ProviderCall | None:
    return notification.calls[-1] if notification.calls else None


def _last_try(notification: Notification) -> str:
    provider, call = _provider(notification), _last_call(notification)
    if call is None:
        return f"{provider} did not take it"
    match call.outcome:
        case Outcome.THROTTLED if call.reason in (HOST_BUSY, HOST_THROTTLED):
            return _clean(call.detail)
        case Outcome.THROTTLED:
            return f"{call.provider} asked us to slow down"
        case Outcome.MISCONFIGURED:
            return f"{call.provider} cannot be used, because our account there is not in order"
        case Outcome.UNKNOWN:
            return f"{call.provider} gave no clear answer"
        case _:
            detail = _clean(call.detail)
            return f"{call.provider} did not take it" + (f" ({detail})" if detail else "")


def _last_words(notification: Notification) -> str:
    """Return what the provider said last, as the end of a sentence."""
    call = _last_call(notification)
    words = _clean(notification.detail or (call.detail if call is not None else ""))
    return f" ({words})." if words else "."


def _clean(words: str) -> str:
    return words.strip().rstrip(".")


def _tries(attempts: int) -> str:
    return "one attempt" if attempts == 1 else f"{attempts} attempts"


def _when(at: float | None, now: float) -> str:
    if at is None or at <= now:
        return "at any moment"
    return f"at {_time(at)[-12:]}" if at - now < 12 * 3600 else f"on {_time(at)}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d at %H:%M:%S} UTC"


# --- timeline --------------------------------------------------------------------------------


def timeline(notification: Notification) -> list[dict[str, Any]]:
    """Return what happened, oldest first.

    `event` is "accepted", "call" or "probe" (a call that ended), "receipt" (what a provider told
    later, its own word as `outcome`), "calling" (a call that is out), "waiting" (for `reason`,
    until `at`), "redriven", "discarded" or "resolved" (by a person), or the final status.
    """
    calls = [(call.ended_at, _call_event(call)) for call in notification.calls]
    told = [(one.received_at, _receipt_event(one)) for one in notification.receipts]
    done = [
        (one.at, _event(one.at, one.event, detail=f"{one.who}: {one.detail}".removesuffix(": ")))
        for one in notification.interventions
    ]
    return [
        _event(notification.created_at, "accepted"),
        *(event for _, event in sorted(calls + told + done, key=lambda pair: pair[0])),
        *_present(notification),
    ]


def _event(
    at: float,
    event: str,
    *,
    provider: str | None = None,
    outcome: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
    considered: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:
    return {
        "at": rfc3339(at),
        "event": event,
        "provider": provider,
        "outcome": outcome,
        "reason": reason,
        "detail": detail,
        "considered": [{"provider": name, "why": why} for name, why in considered],
    }


def _call_event(call: ProviderCall) -> dict[str, Any]:
    event = _event(
        call.ended_at,
        "probe" if call.is_probe else "call",
        provider=call.provider,
        outcome=str(call.outcome),
        reason=call.reason,
        detail=call.detail,
        considered=call.considered,
    )
    return event | {"why": call.why, "started_at": rfc3339(call.started_at)}


def _receipt_event(receipt: KeptReceipt) -> dict[str, Any]:
    event = _event(
        receipt.received_at,
        "receipt",
        provider=receipt.provider,
        outcome=receipt.event,
        reason=receipt.code or None,
        detail=receipt.detail or None,
    )
    return event | {"happened_at": rfc3339(receipt.at)}


def _present(notification: Notification) -> list[dict[str, Any]]:
    """Return the event that says how it stands: the end, a call that is out, or a wait."""
    provider, at = notification.provider, notification.updated_at
    if notification.status is Status.SENDING:
        return [_event(at, "calling", provider=provider)]
    if not notification.status.is_live:
        end = _event(
            at,
            str(notification.status),
            provider=provider,
            reason=notification.reason,
            detail=notification.detail,
        )
        return [end]
    if notification.next_attempt_at is None:
        return []
    return [_event(notification.next_attempt_at, "waiting", reason=notification.waiting)]
