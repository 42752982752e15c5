"""The tables: what each holds, and for which question each index exists.

Two kinds of rows part the work. `notifications` is the record, written when a notification is
accepted and when it ends; `jobs` is what is live, narrow, and deleted at the end, so that the
cost of taking work never depends on history. While a job exists, its row says how the
notification stands; the record's `status` still says how it was accepted.

Indices over `jobs` are partial on the state: each holds only what its question needs. A query
has to repeat the index's condition literally, or SQLite does not consider the index.

Instants are float seconds since the Unix epoch (`…_at`, `sending_since`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    text,
)

from clarion.storage.column_type import COUNT, NUMBER, TEXT

metadata = MetaData()


def _flag(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


notifications = Table(
    "notifications",
    metadata,
    Column("id", TEXT, primary_key=True, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("to_address", TEXT, nullable=False),
    Column("content", TEXT, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("delivery", TEXT, nullable=False),
    Column("tenant", TEXT),
    Column("reference", TEXT),
    Column("metadata", TEXT),
    Column("correlation_id", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("reason", TEXT),
    Column("detail", TEXT),
    Column("provider", TEXT),
    Column("attempts", Integer, nullable=False),
    _flag("possibly_duplicated"),
    Column("created_at", NUMBER, nullable=False),
    Column("updated_at", NUMBER, nullable=False),
    Column("expires_at", NUMBER, nullable=False),
    Column("discarded_at", NUMBER),
    sqlite_strict=True,
)
"""The record of every notification."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", TEXT, primary_key=True, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("flow", TEXT, nullable=False),
    Column("vt", NUMBER, nullable=False),
    Column("state", Integer, nullable=False),
    Column("due_at", NUMBER),
    Column("call", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tried", TEXT),
    Column("sending", TEXT),
    Column("sending_since", NUMBER),
    _flag("is_doubtful"),
    _flag("is_walk_unknown"),
    _flag("is_walk_burning"),
    _flag("possibly_duplicated"),
    _flag("cancel_requested"),
    Column("expires_at", NUMBER, nullable=False),
    _flag("is_expiry_explicit"),
    Column("delivery", TEXT, nullable=False),
    Column("probes", Integer, nullable=False),
    Column("bugs", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("waiting", TEXT),
    Column("node", TEXT, nullable=False, server_default=text("''")),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The live jobs; `state` is a `domain.notification.JobState`, `node` who has it in memory or out
on a call: '' for nobody, so that any node may take it."""

provider_calls = Table(
    "provider_calls",
    metadata,
    Column("notification_id", TEXT, nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", TEXT, nullable=False),
    Column("outcome", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("detail", TEXT, nullable=False),
    Column("started_at", NUMBER, nullable=False),
    Column("ended_at", NUMBER, nullable=False),
    Column("why", TEXT, nullable=False),
    Column("considered", TEXT),
    Column("provider_message_id", TEXT),
    _flag("is_probe"),
    PrimaryKeyConstraint("notification_id", "number"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Every call that ended; only ever added to."""

receipts = Table(
    "receipts",
    metadata,
    Column("notification_id", TEXT, nullable=False),
    Column("provider", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("event", TEXT, nullable=False),
    Column("call", Integer),
    Column("code", TEXT, nullable=False),
    Column("detail", TEXT, nullable=False),
    Column("moved_to", TEXT),
    Column("at", NUMBER, nullable=False),
    Column("received_at", NUMBER, nullable=False),
    PrimaryKeyConstraint("notification_id", "provider", "key"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What providers told later; one event of one message once, whenever and however often it came."""

flows = Table(
    "flows",
    metadata,
    Column("channel", TEXT, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("flow", TEXT, nullable=False),
    Column("node", TEXT, nullable=False),
    Column("last_vt", NUMBER, nullable=False),
    PrimaryKeyConstraint("channel", "priority", "flow", "node"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The last fair stamp of each flow, by the node that gave it."""

counts = Table(
    "counts",
    metadata,
    Column("node", TEXT, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("n", COUNT, nullable=False),
    PrimaryKeyConstraint("node", "channel", "status"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""How many notifications stand where, and, as status `accepted`, how many there ever were."""

controls = Table(
    "controls",
    metadata,
    Column("kind", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("value", TEXT, nullable=False),
    Column("who", TEXT, nullable=False),
    Column("at", NUMBER, nullable=False),
    Column("node", TEXT, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("kind", "name"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What operators decided: the last word on each lane, provider and breaker; `node` heard it."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("fingerprint", TEXT, nullable=False),
    Column("notification_id", TEXT, nullable=False),
    Column("answer", TEXT, nullable=False),
    Column("expires_at", NUMBER, nullable=False),
    PrimaryKeyConstraint("tenant", "key"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The first answer to each idempotency key; `tenant` is '' for requests without one."""

redrives = Table(
    "redrives",
    metadata,
    Column("id", TEXT, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("wanted_reason", TEXT),
    Column("wanted_provider", TEXT),
    Column("wanted_channel", TEXT),
    Column("wanted_since", NUMBER),
    Column("wanted_until", NUMBER),
    Column("rate", NUMBER, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("matched", Integer, nullable=False),
    Column("moved", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("cursor_at", NUMBER, nullable=False),
    Column("cursor_id", TEXT, nullable=False),
    Column("last_vt", NUMBER, nullable=False),
    Column("who", TEXT, nullable=False),
    Column("created_at", NUMBER, nullable=False),
    Column("updated_at", NUMBER, nullable=False),
    Column("ended_at", NUMBER),
    Column("wanted_ids", TEXT),  # JSON
    Column("node", TEXT, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("id", "channel"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Redrives of dead letters, a row for each lane: what was wanted, how far it got, who asked.
`node` drives it; '' for nobody, so that any node may."""

interventions = Table(
    "interventions",
    metadata,
    Column("notification_id", TEXT, nullable=False),
    Column("at", NUMBER, nullable=False),
    Column("event", TEXT, nullable=False),
    Column("who", TEXT, nullable=False),
    Column("detail", TEXT, nullable=False),
    PrimaryKeyConstraint("notification_id", "at", "event"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""What people did about notifications that had ended: redriven, discarded, resolved."""


purged = Table(
    "purged",
    metadata,
    Column("channel", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("n", COUNT, nullable=False),
    PrimaryKeyConstraint("channel", "status"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""How many ended notifications retention has removed: what the counts have more than the rows."""


nodes = Table(
    "nodes",
    metadata,
    Column("node", TEXT, primary_key=True, nullable=False),
    Column("incarnation", TEXT, nullable=False),
    Column("last_commit", TEXT, nullable=False),
    Column("since", NUMBER, nullable=False),
    Column("seen_at", NUMBER, nullable=False, server_default=text("0")),
    Column("lease_until", NUMBER, nullable=False, server_default=text("0")),
    Column("about", TEXT, nullable=False, server_default=text("'{}'")),  # JSON
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Who writes to a database that several processes share; each start is an incarnation.
`last_commit` is the mark of its last transaction that wrote, `seen_at` and `lease_until` are
instants of the server's clock, `about` is what people want to know of it."""


def _index(name: str, *columns: Column[Any], where: str | None = None) -> Index:
    condition = None if where is None else text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


IS_READY = "state = 0"
IS_SENDING = "state = 2"
IS_TIMED = "due_at IS NOT NULL"
# What damage made of a row, so that no lane would find it. The index is empty, but its condition is
# asked at every write of a job: as `NOT IN` lists it costs 8 us, as comparisons hardly anything.
IS_SPOILT = "state < 0 OR state > 3 OR priority < 0 OR priority > 3"
IS_EXPIRY_EXPLICIT = "is_expiry_explicit = 1"
IS_DEAD = "status = 'failed'"
IS_NOT_PLAIN = "status <> 'queued'"
IS_RUNNING = "state = 'running'"
HAS_REFERENCE = "reference IS NOT NULL"

_job, _record = jobs.c, notifications.c

_index("jobs_ready", _job.channel, _job.priority, _job.node, _job.vt, _job.id, where=IS_READY)
_index("jobs_timed", _job.channel, _job.node, _job.due_at, _job.id, where=IS_TIMED)
_index("jobs_sending", _job.channel, where=IS_SENDING)
_index("jobs_spoilt", _job.id, where=IS_SPOILT)
_index("jobs_expiry", _job.channel, _job.expires_at, where=IS_EXPIRY_EXPLICIT)
_index("notifications_channel", _record.channel, _record.id)
_index("notifications_to", _record.to_address, _record.id)
_index("notifications_reference", _record.reference, _record.id, where=HAS_REFERENCE)
# Records of live jobs say `queued` until the end: left out, the index costs one write, not three.
_index("notifications_status", _record.status, _record.channel, _record.id, where=IS_NOT_PLAIN)
_index("notifications_dead", _record.updated_at, _record.id, where=IS_DEAD)
_index("idempotency_expiry", idempotency.c.expires_at)
_index("redrives_running", redrives.c.id, redrives.c.channel, where=IS_RUNNING)
