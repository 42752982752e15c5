"""The questions that readers ask: one notification, searches by key, dead letters, the counts.

Every search is answered from an index, newest first, page by page behind the last row shown
(keyset), so that a page costs the same however deep it lies. Filters that do not choose the index
are marked with `aside`, which keeps SQLite from choosing another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    func,
    or_,
    select,
    text,
    tuple_,
)

from clarion.domain.notification import JobState, Status
from clarion.errors import Fault
from clarion.storage import schema
from clarion.storage.schema import (
    controls,
    counts,
    interventions,
    jobs,
    notifications,
    provider_calls,
    receipts,
)
from clarion.storage.statement import Statement, aside, literal, prepare, total

_job = jobs.c
_record = notifications.c
_call = provider_calls.c


def _of_last_call(column: ColumnElement[Any]) -> ColumnElement[Any]:
    # Only live rows ask: an ended one has its last provider in the record.
    return (
        select(column)
        .where(_call.notification_id == _job.id)
        .order_by(_call.number.desc())
        .limit(1)
        .correlate(jobs)
        .scalar_subquery()
    )


SHOWN = (
    _record.id, _record.channel, _record.to_address, _record.content, _record.status,
    _record.priority, _record.delivery, _record.created_at, _record.updated_at,
    _record.expires_at, _record.attempts, _record.provider, _record.possibly_duplicated,
    _record.reason, _record.detail, _record.tenant, _record.reference, _record.metadata,
    _record.discarded_at, _job.state, _job.due_at, _job.attempt, _job.sending,
    _job.sending_since, _job.possibly_duplicated, _job.cancel_requested, _job.waiting,
    _of_last_call(_call.provider), _of_last_call(_call.ended_at),
)  # fmt: skip
"""The columns of a notification as `row.read_notification` takes them."""

_records: Select[Any] = select(*SHOWN).select_from(
    notifications.outerjoin(jobs, _job.id == _record.id)
)
_live: Select[Any] = select(*SHOWN).select_from(jobs.join(notifications, _job.id == _record.id))

GET = prepare(_records.where(_record.id == bindparam("id")), "id")
"""id -> `SHOWN`."""

GET_CALLS = prepare(
    select(*_call).where(_call.notification_id == bindparam("id")).order_by(_call.number), "id"
)
"""id -> the columns of `provider_calls`, in the order of the calls."""

_receipt = receipts.c
GET_RECEIPTS = prepare(
    select(
        _receipt.provider, _receipt.event, _receipt.code, _receipt.detail, _receipt.at,
        _receipt.received_at, _receipt.call, _receipt.moved_to,
    ).where(_receipt.notification_id == bindparam("id")),
    "id",
)  # fmt: skip
"""id -> what providers told, as `row.read_receipt` takes it."""

_intervention = interventions.c
GET_INTERVENTIONS = prepare(
    select(_intervention.at, _intervention.event, _intervention.who, _intervention.detail)
    .where(_intervention.notification_id == bindparam("id"))
    .order_by(_intervention.at),
    "id",
)
"""id -> what people did about it, the oldest first."""

FIND_CHANNEL = prepare(select(_record.channel).where(_record.id == bindparam("id")), "id")
"""id -> channel."""

COUNTS = prepare(
    select(counts.c.channel, counts.c.status, total(counts.c.n)).group_by(
        counts.c.channel, counts.c.status
    )
)
"""-> channel, status, n."""

CONTROLS = prepare(
    select(controls.c.kind, controls.c.name, controls.c.value, controls.c.who, controls.c.at)
)
"""-> kind, name, value, who, at."""

_STATES = {
    Status.SCHEDULED: (JobState.SCHEDULED,),
    Status.QUEUED: (JobState.READY, JobState.TIMED),
    Status.SENDING: (JobState.SENDING,),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What is searched for; None means any. `reason`, `since`, `until`: dead letters only."""

    status: Status | None = None
    channel: str | None = None
    to: str | None = None
    reference: str | None = None
    reason: str | None = None
    provider: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def faults(self) -> list[Fault]:
        """What no database can be asked for."""
        texts = ("channel", "to", "reference", "reason", "provider")
        return [
            Fault("the text is not valid Unicode, or holds a NUL", name)
            for name in texts
            if not _is_storable(getattr(self, name) or "")
        ]


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


@dataclass(frozen=True, slots=True)
class Search:
    """A statement and the names of the values that it takes, in order."""

    statement: Statement
    names: tuple[str, ...]


def _is(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    return column == bindparam(name)


@cache
def search(names: frozenset[str], status: Status | None) -> Search:
    """Return the search by the filters `names`, newest first, below the id `before`.

    By an ended status alone the index answers for one channel at a time: `channel` has to be
    among the names.
    """
    if "reference" in names:
        statement = _records.where(_is(_record.reference, "reference"))
        statement = _narrow(statement, names - {"reference"}, status)
    elif "to" in names:
        statement = _records.where(_is(_record.to_address, "to"))
        statement = _narrow(statement, names - {"to"}, status)
    elif status is not None:
        return _by_status(names, status)
    elif "channel" in names:
        statement = _records.where(_is(_record.channel, "channel"))
    else:
        statement = _records
    return _page(statement, _record.id, names - {"status"})


def _by_status(names: frozenset[str], status: Status) -> Search:
    if not status.is_live:
        statement = _records.where(
            _is(_record.status, "status"),
            text(f"notifications.{schema.IS_NOT_PLAIN}"),
            _is(_record.channel, "channel"),
        )
        return _page(statement, _record.id, names)
    statement = _live.where(_stands(status))
    if "channel" in names:
        statement = statement.where(_is(_job.channel, "channel"))
    # Few are out at any moment: they are found by their own index, and sorted.
    key = aside(_job.id) if status is Status.SENDING else _job.id
    return _page(statement, key, names - {"status"})


def _stands(status: Status) -> ColumnElement[bool]:
    return or_(*(_job.state == literal(str(int(state))) for state in _STATES[status]))


def _narrow(statement: Select[Any], names: frozenset[str], status: Status | None) -> Select[Any]:
    columns = {"channel": _record.channel, "to": _record.to_address}
    for name in sorted(names - {"status"}):
        statement = statement.where(_is(aside(columns[name]), name))
    if status is None:
        return statement
    if status.is_live:
        return statement.where(_stands(status))
    ended = literal(f"'{status}'")
    return statement.where(_job.id.is_(None), aside(_record.status) == ended)


def _page(statement: Select[Any], key: ColumnElement[Any], names: frozenset[str]) -> Search:
    ordered = (*sorted(names), "before", "limit")
    page = statement.where(key < bindparam("before")).order_by(key.desc())
    return Search(prepare(page.limit(bindparam("limit")), *ordered), ordered)


def _are_dead(names: frozenset[str]) -> list[ColumnElement[bool]]:
    """Return the conditions of a dead letter that nobody discarded and the filters `names`."""
    conditions: dict[str, ColumnElement[bool]] = {
        "reason": _is(_record.reason, "reason"),
        "provider": _is(_record.provider, "provider"),
        "channel": _is(aside(_record.channel), "channel"),
        "since": _record.updated_at >= bindparam("since"),
        "until": _record.updated_at < bindparam("until"),
        "id": _record.id == bindparam("id"),
    }
    return [
        # Literal, or SQLite does not see that the index of dead letters is meant.
        cast("ColumnElement[bool]", text(f"notifications.{schema.IS_DEAD}")),
        _record.discarded_at.is_(None),
        *(conditions[name] for name in sorted(names)),
    ]


@cache
def dead_letters(names: frozenset[str]) -> Search:
    """Return the search for dead letters that nobody discarded, the latest death first."""
    ordered = (*sorted(names), "before_at", "before", "limit")
    statement = (
        _records.where(*_are_dead(names))
        .where(
            tuple_(_record.updated_at, _record.id)
            < tuple_(bindparam("before_at"), bindparam("before"))
        )
        .order_by(_record.updated_at.desc(), _record.id.desc())
        .limit(bindparam("limit"))
    )
    return Search(prepare(statement, *ordered), ordered)


@cache
def count_dead_letters(names: frozenset[str]) -> Search:
    """Return the question how many such dead letters there are: channel, n."""
    ordered = tuple(sorted(names))
    channel = aside(_record.channel)
    statement = (
        select(channel, func.count()).where(*_are_dead(names)).group_by(channel).order_by(channel)
    )
    return Search(prepare(statement, *ordered), ordered)
