"""A draft becomes a job: its id, its place in the lane, its expiry."""

from __future__ import annotations

from collections.abc import Callable

from clarion.domain.address import recipient_host
from clarion.domain.notification import Channel, Delivery, Draft, Job, JobState, Priority

Stamp = Callable[[Priority, str], float]
"""(priority, flow) -> the fair stamp of the flow's next job."""


def admit(
    draft: Draft,
    *,
    id: str,  # the domain's word
    now: float,
    stamp: Stamp,
    delivery: Delivery,
    expires_after_s: float,
) -> Job:
    """Return the job of a draft; `delivery` and `expires_after_s` are the defaults.

    A scheduled one gets its fair stamp when its time comes, so that it does not queue up early.
    """
    due_at = draft.send_at if draft.send_at is not None and draft.send_at > now else None
    flow = flow_of(draft.channel, draft.content.to, draft.tenant)
    return Job(
        id=id,
        channel=draft.channel,
        content=draft.content,
        priority=draft.priority,
        flow=flow,
        vt=stamp(draft.priority, flow) if due_at is None else 0.0,
        state=JobState.READY if due_at is None else JobState.SCHEDULED,
        created_at=now,
        expires_at=draft.expires_at or (due_at or now) + expires_after_s,
        # Default expiries are found by the id's time, which a later start belies.
        is_expiry_explicit=draft.expires_at is not None or due_at is not None,
        delivery=draft.delivery or delivery,
        due_at=due_at,
        waiting=None if due_at is None else "schedule",
        tenant=draft.tenant,
        reference=draft.reference,
        metadata=draft.metadata,
        correlation_id=draft.correlation_id,
    )


def flow_of(channel: str, to: str, tenant: str | None) -> str:
    """Return whose traffic it is: the tenant's, and of webhooks also the host's."""
    # Many messages to one slow host must not stand before those of the same tenant to others.
    if channel == Channel.WEBHOOK:
        return f"{recipient_host(to)} {tenant or ''}"
    return tenant or ""


def redrive_flow(redrive_id: str) -> str:
    """Return the flow of all that a redrive brings back: its turns are its own, however many."""
    return f"redrive:{redrive_id}"
