"""A notification as JSON: the one shape that HTTP, the CLI and replays show."""

from __future__ import annotations

from typing import Any

from clarion.domain.explanation import WAITS_ITS_TURN, explain_schedule, timeline
from clarion.domain.instant import rfc3339
from clarion.domain.notification import Job, JobState, Notification


def represent(
    notification: Notification,
    *,
    is_held: bool = False,
    held_reason: str | None = None,
    explanation: str = "",
    with_timeline: bool = False,
) -> dict[str, Any]:
    """Return the JSON object of a notification; `timeline` is among its keys only if wanted."""
    shown = {
        "id": notification.id,
        "channel": notification.channel,
        "to": notification.content.to,
        "status": str(notification.status),
        "held": is_held,
        "held_reason": held_reason,
        "waiting": notification.waiting,
        "next_attempt_at": _or_none(notification.next_attempt_at),
        "attempts": notification.attempts,
        "provider": notification.provider,
        "possibly_duplicated": notification.possibly_duplicated,
        "cancel_requested": notification.cancel_requested,
        "reason": notification.reason,
        "explanation": explanation,
        "priority": notification.priority.label,
        "tenant": notification.tenant,
        "reference": notification.reference,
        "metadata": notification.metadata,
        "created_at": rfc3339(notification.created_at),
        "updated_at": rfc3339(notification.updated_at),
    }
    if with_timeline:
        shown["timeline"] = timeline(notification)
    return shown


def represent_accepted(job: Job) -> dict[str, Any]:
    """Return the answer to a request that was accepted; stored, so that a replay is the same.

    It speaks of the moment of acceptance, even where the job has gone on since: `held` is what a
    later read tells.
    """
    is_scheduled = job.state is JobState.SCHEDULED
    created_at = rfc3339(job.created_at)
    return {
        "id": job.id,
        "channel": job.channel,
        "to": job.content.to,
        "status": "scheduled" if is_scheduled else "queued",
        "held": False,
        "held_reason": None,
        "waiting": "schedule" if is_scheduled else None,
        "next_attempt_at": _or_none(job.due_at) if is_scheduled else None,
        "attempts": 0,
        "provider": None,
        "possibly_duplicated": False,
        "cancel_requested": False,
        "reason": None,
        "explanation": explain_schedule(job.due_at) if is_scheduled else WAITS_ITS_TURN,
        "priority": job.priority.label,
        "tenant": job.tenant,
        "reference": job.reference,
        "metadata": job.metadata,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _or_none(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


__all__ = ["represent", "represent_accepted", "rfc3339"]
