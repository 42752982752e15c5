"""Accepting: records, jobs and idempotency keys become durable together (Tx1)."""

from __future__ import annotations

import json

from sqlalchemy import bindparam, delete, select, tuple_

from clarion.domain.notification import Draft, Job
from clarion.storage.command import Accept, AcceptedRow, ConflictRow, ReplayedRow
from clarion.storage.row import write_json
from clarion.storage.schema import idempotency
from clarion.storage.statement import literal, prepare, take_row
from clarion.storage.transaction import Transaction

KEY_LIFE_S = 24 * 3600.0
"""How long an idempotency key is remembered (the contract's 24 hours)."""

PURGED_AT_ONCE = 500
"""Expired keys deleted by one commit at most, so that no commit becomes long."""

_key = idempotency.c

TAKE_KEY = take_row(
    idempotency, lambda old, new: old.expires_at <= new.expires_at - literal(str(KEY_LIFE_S))
)
"""In the order of the table's columns; a key whose time is over is taken anew."""

FIND_KEY = prepare(
    select(_key.fingerprint, _key.notification_id, _key.answer).where(
        _key.tenant == bindparam("tenant"), _key.key == bindparam("key")
    ),
    "tenant",
    "key",
)
"""tenant, key -> fingerprint, notification id, answer."""

_expired = (
    select(_key.tenant, _key.key)
    .where(_key.expires_at <= bindparam("now"))
    .order_by(_key.expires_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
PURGE_KEYS = prepare(
    delete(idempotency).where(tuple_(_key.tenant, _key.key).in_(_expired)), "now", "limit"
)
"""now, limit."""


def accept(tx: Transaction, command: Accept) -> list[AcceptedRow | ReplayedRow | ConflictRow]:
    """Insert what is new, and say per draft what became of it; see `Accept`."""
    answers = command.answers or [None] * len(command.drafts)
    results: list[AcceptedRow | ReplayedRow | ConflictRow] = []
    for draft, job, answer in zip(command.drafts, command.jobs, answers, strict=True):
        seen = _seen_before(tx, draft, job, answer)
        if seen is None:
            tx.accept(job)
        results.append(seen or AcceptedRow(job))
    return results


def _seen_before(
    tx: Transaction, draft: Draft, job: Job, answer: dict[str, object] | None
) -> ReplayedRow | ConflictRow | None:
    key = draft.idempotency_key
    # Who takes it has it: another node that comes with the same key waits until this is durable.
    if key is None or _take_key(tx, draft, job, answer):
        return None
    found = tx.execute(FIND_KEY, (draft.tenant or "", key)).fetchone()
    fingerprint, notification_id, first_answer = found
    if fingerprint != draft.fingerprint:
        return ConflictRow(key)
    # This very draft may come twice (its command was redelivered): it is no replay of itself.
    return None if notification_id == job.id else ReplayedRow(json.loads(first_answer))


def _take_key(tx: Transaction, draft: Draft, job: Job, answer: dict[str, object] | None) -> bool:
    text = write_json(answer or {"id": job.id, "channel": job.channel, "status": job.status})
    values = (
        draft.tenant or "", draft.idempotency_key, draft.fingerprint, job.id, text,
        job.created_at + KEY_LIFE_S,
    )  # fmt: skip
    is_taken = tx.execute(TAKE_KEY, values).rowcount > 0
    if is_taken:
        tx.keys_expired_by = job.created_at
    return is_taken


def purge_keys(tx: Transaction) -> None:
    """Delete some expired keys where keys were added: the table shrinks as fast as it grows."""
    if tx.keys_expired_by is not None:
        tx.execute(PURGE_KEYS, (tx.keys_expired_by, PURGED_AT_ONCE))
        tx.keys_expired_by = None
