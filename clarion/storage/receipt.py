"""Receiving what providers tell later: each event once, and the move that follows from it.

A job that a receipt ends is deleted whatever its state, even while a call of it is out, so that
neither a timer nor a fallback can send it again; the end of that call is then only noted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update

from clarion.domain.notification import JobState, Status
from clarion.domain.receipt import CallPlace, Receipt
from clarion.policies.receipt import call_of, is_latest, moved
from clarion.storage.command import Receive, Received
from clarion.storage.database import Row
from clarion.storage.ending import END_JOB, End, close
from clarion.storage.row import counted_as, state_of
from clarion.storage.schema import jobs, notifications, provider_calls, receipts
from clarion.storage.statement import insert_row, prepare
from clarion.storage.transaction import Transaction

MAX_OF_EVENT = 100
"""Kept of each kind of event of one notification: some mail scanners open a message without end,
and the complaint that comes after is to be kept all the same."""
MAX_KEPT = 1000
"""Kept of one notification in all."""

_job, _record, _call, _receipt = jobs.c, notifications.c, provider_calls.c, receipts.c

FIND_JOB = prepare(
    select(
        _record.channel, _record.status, _record.provider, _record.created_at,
        _job.state, _job.call, _job.sending, _job.attempt, _job.is_walk_unknown,
    )
    .select_from(notifications.join(jobs, _job.id == _record.id))
    .where(_record.id == bindparam("id"))
    .with_for_update(of=jobs),
    "id",
)  # fmt: skip
"""id -> how one stands that is live; its job stays as it is until the commit."""

FIND_RECORD = prepare(
    select(_record.channel, _record.status, _record.provider, _record.created_at)
    .where(_record.id == bindparam("id"))
    .with_for_update(),
    "id",
)
"""id -> how one stands that has ended; it stays so until the commit."""

FIND_CALLS = prepare(
    select(_call.number, _call.provider, _call.provider_message_id)
    .where(_call.notification_id == bindparam("id"))
    .order_by(_call.number),
    "id",
)
"""id -> number, provider, provider_message_id."""

COUNT_KEPT = prepare(
    select(func.count(), func.count().filter(_receipt.event == bindparam("event")))
    .select_from(receipts)
    .where(_receipt.notification_id == bindparam("id")),
    "id",
    "event",
)
"""id, event -> how many receipts are kept, and how many of this event."""

FIND_KEPT = prepare(
    select(_receipt.event).where(
        _receipt.notification_id == bindparam("id"),
        _receipt.provider == bindparam("provider"),
        _receipt.key == bindparam("key"),
    ),
    "id",
    "provider",
    "key",
)
"""id, provider, key -> the event, if it is known."""

KEEP = insert_row(receipts)
"""In the order of the table's columns."""

MOVE = prepare(
    update(notifications)
    .where(_record.id == bindparam("record_id"))
    .values(
        status=bindparam("new"),
        reason=bindparam("why"),
        detail=bindparam("words"),
        provider=bindparam("teller"),
        updated_at=bindparam("now"),
    ),
    "record_id",
    "new",
    "why",
    "words",
    "teller",
    "now",
)
"""id, status, reason, detail, provider, now."""


_ENDED = frozenset(status for status in Status if not status.is_live)


@dataclass(frozen=True, slots=True)
class _Standing:
    """How a notification stands when a receipt comes."""

    channel: str
    status: Status
    provider: str | None
    created_at: float
    former: JobState | None
    is_live: bool
    attempts: int
    calls: tuple[CallPlace, ...]

    def has_met(self, provider: str) -> bool:
        """Whether some call went to this provider."""
        return provider == self.provider or any(call.provider == provider for call in self.calls)


def receive(tx: Transaction, command: Receive) -> list[Received]:
    """Keep receipts and make their moves; see `Receive`."""
    return [_receive(tx, receipt, command.now) for receipt in command.receipts]


def _receive(tx: Transaction, receipt: Receipt, now: float) -> Received:
    # An end by an earlier receipt of the same command has to be there to be read.
    tx.write_rows()
    id = receipt.notification_id
    standing = _standing(tx, id)
    if standing is None or not standing.has_met(receipt.provider):
        return Received("unknown", id)
    if tx.execute(FIND_KEPT, (id, receipt.provider, receipt.key)).fetchone() is not None:
        return Received("repeated", id, standing.status)
    is_of_latest = is_latest(
        receipt, standing.calls, is_live=standing.is_live, provider=standing.provider
    )
    new = moved(standing.status, receipt, is_latest_call=is_of_latest)
    if new is not None:
        _move(tx, receipt, standing, new, now)
    _keep(tx, receipt, standing, new, now)
    if new is None:
        return Received("kept", id, standing.status)
    waited_s = max(0.0, now - standing.created_at)
    return Received("moved", id, standing.status, new, waited_s, standing.former)


def _standing(tx: Transaction, id: str) -> _Standing | None:
    """Return how it stands; None where there is none, or its row cannot be read."""
    row = _find(tx, id)
    calls = [CallPlace(*each) for each in tx.fetch(FIND_CALLS, (id,))]
    try:
        return None if row is None else _read_standing(row, calls)
    except ValueError:
        # A status that there is not. The other receipts of the commit are to be kept.
        return None


def _find(tx: Transaction, id: str) -> Row | None:
    """Return the row of how it stands, which no other node changes before the commit.

    The job before the record, as a settlement takes them: whoever takes them the other way round
    waits for one that waits for him.
    """
    for _ in range(2):
        live = tx.fetch(FIND_JOB, (id,))
        if live:
            return live[0]
        ended = tx.fetch(FIND_RECORD, (id,))
        if not ended or ended[0][1] in _ENDED:
            break
        # It came back to life between the two looks.
    return (*ended[0], *[None] * 5) if ended else None


def _read_standing(row: Row, calls: list[CallPlace]) -> _Standing:
    channel, status, provider, created_at, state, number, sending, attempt, is_unknown = row
    is_live = state is not None
    if sending is not None:
        calls.append(CallPlace(number, sending))
    # The walk that the receipt ends is not among the attempts yet, unless it was over.
    attempts = max(1, attempt + bool(sending is not None or is_unknown)) if is_live else 0
    return _Standing(
        channel=channel,
        status=counted_as(state) if is_live else Status(status),
        provider=provider,
        created_at=created_at,
        former=state_of(state) if is_live else None,
        is_live=is_live,
        attempts=attempts,
        calls=tuple(calls),
    )


def _move(tx: Transaction, receipt: Receipt, standing: _Standing, new: Status, now: float) -> None:
    id, detail = receipt.notification_id, receipt.detail or None
    reason = receipt.reason if new is Status.UNDELIVERED else None
    if standing.is_live:
        end = End(new, reason, now, detail, receipt.provider, standing.attempts)
        close(tx, id, tx.execute(END_JOB, (id,)).fetchone(), end)
        return
    tx.execute(MOVE, (id, new, reason, detail, receipt.provider, now))
    tx.move(standing.channel, standing.status, new)


def _keep(
    tx: Transaction, receipt: Receipt, standing: _Standing, new: Status | None, now: float
) -> None:
    id = receipt.notification_id
    n, n_of_event = tx.execute(COUNT_KEPT, (id, receipt.event)).fetchone()
    if new is None and (n >= MAX_KEPT or n_of_event >= MAX_OF_EVENT):
        return
    call = call_of(receipt, standing.calls) or None
    values = (
        id, receipt.provider, receipt.key, receipt.event, call, receipt.code, receipt.detail, new,
        receipt.at, now,
    )  # fmt: skip
    tx.execute(KEEP, values)
