"""Rows to objects and back: the one place that knows the order of the columns.

A row that cannot be read raises `Undecodable` with its id; whoever reads decides what that means.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, TypeVar

from clarion.domain.notification import (
    Content,
    Delivery,
    Intervention,
    Job,
    JobState,
    KeptReceipt,
    Notification,
    Priority,
    ProviderCall,
    Reason,
    Status,
)
from clarion.storage.database import Row

K = TypeVar("K", bound=Enum)

_FAULTS = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

_MAX_COUNT = 2**31 - 1
_STATUSES = frozenset(each.value for each in Status)


def state_of(state: int) -> JobState | None:
    """Return where a job stands; None where its row says what there is not."""
    try:
        return JobState(state)
    except ValueError:
        return None


def counted_as(state: int) -> Status:
    """Return the status that a job of this state is counted in.

    One that is spoilt has to be counted, too: most likely it waited.
    """
    known = state_of(state)
    return Status.QUEUED if known is None else known.status


class Undecodable(Exception):
    """A stored row cannot be read; `id` names its notification."""

    def __init__(self, id: str) -> None:
        super().__init__(f"the stored row of {id} cannot be read")
        self.id = id


# --- to rows ---------------------------------------------------------------------------------

# One encoder for all: `json.dumps` makes a new one for each text that is not all defaults.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def write_json(value: object) -> str:
    """Write compact JSON; raises ValueError for what JSON has no word for (NaN)."""
    return _encode(value)


def notification_row(job: Job) -> Row:
    """Return the values of a new record, in the order of `schema.notifications`."""
    return (
        job.id, job.channel, job.content.to, _content_text(job.content), job.priority,
        job.delivery, job.tenant, job.reference,
        write_json(job.metadata) if job.metadata else None, job.correlation_id, job.status,
        None, None, None, 0, 0, job.created_at, job.created_at, job.expires_at, None,
    )  # fmt: skip


def _content_text(content: Content) -> str:
    fields = {
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "data": content.data,
        "headers": content.headers,
    }
    return write_json({name: value for name, value in fields.items() if value is not None})


def job_row(job: Job, node: str) -> Row:
    """Return the values of a job that `node` has, in the order of `schema.jobs`."""
    return (
        job.id, job.channel, job.priority, job.flow, job.vt, job.state, job.due_at, job.call,
        job.attempt, tried_text(job.tried), job.sending, job.sending_since, job.is_doubtful,
        job.is_walk_unknown, job.is_walk_burning, job.possibly_duplicated, job.cancel_requested,
        job.expires_at, job.is_expiry_explicit, job.delivery, job.probes, job.bugs, job.restarts,
        job.waiting, node,
    )  # fmt: skip


def tried_text(tried: tuple[str, ...]) -> str | None:
    """Write the names of the tried providers; None for none."""
    return write_json(tried) if tried else None


def call_row(call: ProviderCall) -> Row:
    """Return the values of a call that ended, in the order of `schema.provider_calls`."""
    return (
        call.notification_id, call.number, call.provider, call.outcome, call.reason, call.detail,
        call.started_at, call.ended_at, call.why,
        write_json(call.considered) if call.considered else None, call.provider_message_id,
        call.is_probe,
    )  # fmt: skip


# --- from rows -------------------------------------------------------------------------------


def read_job(row: Row) -> Job:
    """Return the job of a row of `lane.LOADED`, or raise `Undecodable`."""
    (
        id, channel, to, content, priority, flow, vt, state, created_at, expires_at, delivery,
        due_at, call, attempt, tried, sending, sending_since, is_doubtful, is_walk_unknown,
        is_walk_burning, is_expiry_explicit, possibly_duplicated, cancel_requested, probes, bugs,
        restarts, waiting, tenant, reference, metadata, correlation_id,
    ) = row  # fmt: skip
    try:
        _require_text(flow, tenant, reference, sending, waiting, correlation_id)
        _require_counts(call, attempt, probes, bugs, restarts)
        return Job(
            id=id,
            channel=channel,
            content=_read_content(to, content),
            priority=Priority(priority),
            flow=flow,
            vt=vt,
            state=JobState(state),
            created_at=float(created_at),
            expires_at=expires_at,
            delivery=Delivery(delivery),
            due_at=due_at,
            call=call,
            attempt=attempt,
            tried=_read_tried(tried),
            sending=sending,
            sending_since=sending_since,
            is_doubtful=bool(is_doubtful),
            is_walk_unknown=bool(is_walk_unknown),
            is_walk_burning=bool(is_walk_burning),
            is_expiry_explicit=bool(is_expiry_explicit),
            possibly_duplicated=bool(possibly_duplicated),
            cancel_requested=bool(cancel_requested),
            probes=probes,
            bugs=bugs,
            restarts=restarts,
            waiting=waiting,
            tenant=tenant,
            reference=reference,
            metadata=_read_object(metadata),
            correlation_id=correlation_id,
        )
    except _FAULTS as error:
        raise Undecodable(id) from error


def _require_text(*texts: str | None) -> None:
    for text in texts:
        if text is not None:
            # Fails for the surrogates that stand for bytes that are no UTF-8.
            text.encode()


def _require_counts(*numbers: int) -> None:
    # The next call is one more: where that is no 32 bits, no call of the lane could be intended.
    if not all(0 <= number < _MAX_COUNT for number in numbers):
        raise ValueError("a count was expected")


def _read_content(to: str, text: str) -> Content:
    _require_text(to, text)
    fields = json.loads(text)
    subject, body, html = (_text_or_none(fields.get(name)) for name in ("subject", "text", "html"))
    return Content(
        to=to,
        subject=subject,
        text=body,
        html=html,
        data=_object_or_none(fields.get("data")),
        headers=_object_or_none(fields.get("headers")),
    )


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"a text was expected, not {type(value).__name__}")


def _object_or_none(value: object) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    raise ValueError(f"an object was expected, not {type(value).__name__}")


def _read_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    _require_text(text)
    return _object_or_none(json.loads(text)) or {}


def _read_tried(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    _require_text(text)
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of names was expected")
    return tuple(names)


def read_call(row: Row) -> ProviderCall:
    """Return the call of a row of `schema.provider_calls`, or raise `Undecodable`."""
    (
        notification_id, number, provider, outcome, reason, detail, started_at, ended_at, why,
        considered, provider_message_id, is_probe,
    ) = row  # fmt: skip
    try:
        return ProviderCall(
            notification_id, number, provider, outcome, reason, detail, started_at, ended_at,
            why, _read_considered(considered), provider_message_id, bool(is_probe),
        )  # fmt: skip
    except _FAULTS as error:
        raise Undecodable(notification_id) from error


def _read_considered(text: str | None) -> tuple[tuple[str, str], ...]:
    pairs = () if text is None else json.loads(text)
    return tuple((str(provider), str(why)) for provider, why in pairs)


def read_receipt(id: str, row: Row) -> KeptReceipt:
    """Return the receipt of a row of `search.GET_RECEIPTS`, or raise `Undecodable`."""
    provider, event, code, detail, at, received_at, call, moved_to = row
    try:
        return KeptReceipt(
            provider, event, code, detail, at, received_at, call,
            None if moved_to is None else Status(moved_to),
        )  # fmt: skip
    except _FAULTS as error:
        raise Undecodable(id) from error


def read_notification(
    row: Row,
    calls: tuple[ProviderCall, ...] = (),
    receipts: tuple[KeptReceipt, ...] = (),
    interventions: tuple[Intervention, ...] = (),
) -> Notification:
    """Return the notification of a row of `search.SHOWN`, or raise `Undecodable`.

    While a job exists (its state is not None), its columns say how the notification stands. What
    is poison has to be shown, so whatever of it cannot be read is left out, or shown as what most
    are; one that stands nowhere is poison that nobody has met yet, and says so.
    """
    (
        id, channel, to, content, status, priority, delivery, created_at, updated_at, expires_at,
        attempts, provider, possibly_duplicated, reason, detail, tenant, reference, metadata,
        discarded_at, state, due_at, attempt, sending, sending_since, may_be_double,
        cancel_requested, waiting, last_provider, last_ended_at,
    ) = row  # fmt: skip
    is_live = state is not None
    fault = _fault(status, state)
    if fault is not None and reason is None:
        reason, detail = Reason.POISON, f"the stored row cannot be worked on: {fault}"
    try:
        return Notification(
            id=id,
            channel=channel,
            content=_shown_content(to, content),
            status=counted_as(state) if is_live else _known(Status, status, Status.FAILED),
            priority=_known(Priority, priority, Priority.NORMAL),
            delivery=_known(Delivery, delivery, Delivery.AT_LEAST_ONCE),
            created_at=created_at,
            updated_at=max(updated_at, sending_since or 0.0, last_ended_at or 0.0),
            expires_at=expires_at,
            waiting=waiting,
            next_attempt_at=due_at,
            attempts=attempt if is_live else attempts,
            provider=(sending or last_provider) if is_live else provider,
            possibly_duplicated=bool(may_be_double if is_live else possibly_duplicated),
            cancel_requested=bool(cancel_requested),
            reason=reason,
            detail=detail,
            tenant=tenant,
            reference=reference,
            metadata=_shown_object(metadata),
            calls=calls,
            receipts=receipts,
            interventions=interventions,
            discarded_at=discarded_at,
        )
    except _FAULTS as error:
        raise Undecodable(id) from error


def _known(kind: type[K], value: object, otherwise: K) -> K:
    try:
        return kind(value)
    except ValueError:
        return otherwise


def _fault(status: str, state: int | None) -> str | None:
    """Say what is wrong with where it stands, if it stands nowhere."""
    if state is not None:
        return None if state_of(state) is not None else f"there is no state {state}"
    return None if status in _STATUSES else f"there is no status {status!r}"


def _shown_content(to: str, text: str) -> Content:
    try:
        return _read_content(to, text)
    except _FAULTS:
        return Content(to=to.encode("utf-8", "replace").decode())


def _shown_object(text: str | None) -> dict[str, Any]:
    try:
        return _read_object(text)
    except _FAULTS:
        return {}
