"""The nodes that share a store: the lease that each renews, and what one leaves to the others.

A node is alive while it renews its lease, by the server's clock. One that does not is buried by
another: its row goes, and with it the right to commit (`postgresql_store`), in the transaction that
gives its jobs away. So there is no moment in which two nodes may work on the same job.

These statements run on a server only: a file has one node.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, fields

from clarion.domain.node import Node
from clarion.errors import StoreTaken
from clarion.storage.command import Command
from clarion.storage.statement import verbatim
from clarion.storage.sweep import FIND_CHANNELS, recover_calls
from clarion.storage.transaction import Transaction, work_for

NODE_LOCK = 0x636C6E64
"""The first key of the advisory lock that the session of a node holds ("clnd")."""

# Not simply the current schema: one that is put before it later has other locks, and no tables.
SCHEMA = """\
coalesce((SELECT nspname::text FROM pg_class AS found
    JOIN pg_namespace AS space ON space.oid = found.relnamespace
    WHERE found.oid = to_regclass('alembic_version')), current_schema())"""
"""The schema in which the tables are, or will be."""


NEWS = f"left('clarion ' || {SCHEMA}, 63)"
"""The channel on which nodes tell each other what is new, in SQL."""


def node_key(node: str) -> str:
    """Return the second key of a node's lock, in SQL; `node` is SQL, too."""
    return f"hashtext({SCHEMA} || ' node ' || {node})"


_NOW = "extract(epoch FROM clock_timestamp())::double precision"
_OWN_LOCK = f"""\
locktype = 'advisory' AND classid = {NODE_LOCK} AND objid = {node_key("nodes.node")}::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND granted"""

FIND_GAP = verbatim(f"SELECT {_NOW} - seen_at FROM nodes WHERE node = $1")
"""node -> seconds since it was seen last."""

RENEW = verbatim(f"UPDATE nodes SET seen_at = {_NOW}, lease_until = {_NOW} + $1 WHERE node = $2")
"""seconds, node."""

FIND_DEAD = verbatim(f"""\
SELECT node FROM nodes
WHERE node <> $1 AND (lease_until < {_NOW}
    OR (seen_at < {_NOW} - $2 AND NOT EXISTS (SELECT FROM pg_locks WHERE {_OWN_LOCK})))
FOR UPDATE SKIP LOCKED""")
"""node, seconds -> the others whose lease is over, or that have no session for so long."""

END_SESSION = verbatim(f"""\
SELECT pg_terminate_backend(pid) FROM nodes, pg_locks JOIN pg_stat_activity USING (pid)
WHERE node = $1 AND usename = current_user AND {_OWN_LOCK}""")
"""node; of a process that stands still it may hold locks."""

GIVE_READY_AWAY = verbatim("""\
UPDATE jobs SET node = '' WHERE channel = $1 AND node = $2 AND state = 0 AND priority = ANY($3)""")
"""channel, node, priorities."""

GIVE_TIMED_AWAY = verbatim("""\
UPDATE jobs SET node = '' WHERE channel = $1 AND node = $2 AND due_at IS NOT NULL""")
"""channel, node."""

GIVE_REDRIVES_AWAY = verbatim("UPDATE redrives SET node = '' WHERE node = $1")
"""node."""

FOLD_COUNTS = verbatim("""\
WITH gone AS (DELETE FROM counts WHERE node = $1 RETURNING channel, status, n)
INSERT INTO counts SELECT '', channel, status, n FROM gone ORDER BY channel, status
ON CONFLICT (node, channel, status) DO UPDATE SET n = counts.n + excluded.n""")
"""node; counts of those that are gone are kept together."""

FOLD_FLOWS = verbatim("""\
WITH gone AS (DELETE FROM flows WHERE node = $1 RETURNING channel, priority, flow, last_vt)
INSERT INTO flows SELECT channel, priority, flow, '', last_vt FROM gone
ORDER BY channel, priority, flow
ON CONFLICT (channel, priority, flow, node)
DO UPDATE SET last_vt = greatest(flows.last_vt, excluded.last_vt)""")
"""node."""

REMOVE_NODE = verbatim("DELETE FROM nodes WHERE node = $1")
"""node."""

LIST_NODES = verbatim("SELECT about FROM nodes WHERE incarnation <> '' ORDER BY node")
"""-> about."""

FIND_UNCLAIMED = verbatim("""\
SELECT channel, priority FROM unnest($1::text[]) AS channel, generate_series(0, 3) AS priority
WHERE EXISTS (SELECT FROM jobs WHERE jobs.channel = channel.channel
    AND jobs.priority = priority.priority AND node = '' AND state = 0)""")
"""channels -> channel, priority of ready jobs that nobody has."""

FIND_UNCLAIMED_TIMERS = verbatim("""\
SELECT channel FROM unnest($1::text[]) AS channel
WHERE EXISTS (SELECT FROM jobs WHERE jobs.channel = channel.channel
    AND node = '' AND due_at IS NOT NULL AND due_at <= $2)""")
"""channels, instant -> channel of jobs that fall due by then and that nobody has."""

COUNT_LIVE = verbatim("""\
SELECT channel, status, sum(n)::bigint FROM counts
WHERE status IN ('scheduled', 'queued', 'sending') GROUP BY channel, status""")
"""-> channel, status, n, over all nodes."""

LIST_CONTROLS = verbatim("SELECT kind, name, value, who, at, node FROM controls")
"""-> kind, name, value, who, at, node."""


@dataclass(slots=True, eq=False)
class Beat(Command):
    """Renew the lease of this node, and see how the others and the lanes stand.

    `buries_after_s` is how long another one without a session is waited for; None to bury nobody.
    Result: `Standing`. Raises StoreTaken where this node was buried itself.
    """

    lease_s: float
    buries_after_s: float | None
    channels: tuple[str, ...]
    timers_until: float
    now: float


@dataclass(slots=True, eq=False)
class Leave(Command):
    """Give away all that this node has, and be a node no more: nothing can be written after it."""

    now: float


@dataclass(frozen=True, slots=True)
class Control:
    """An operator's decision, and which node heard it."""

    value: str
    who: str
    at: float
    node: str


@dataclass(slots=True)
class Standing:
    """How the nodes and the lanes stand."""

    nodes: list[Node]
    gap_s: float
    """Since the beat before this one, by the server's clock."""
    buried: list[str]
    depth: dict[str, dict[str, int]]
    """Channel -> live status -> how many, over all nodes."""
    unclaimed: dict[str, frozenset[int]]
    """Channel -> priorities with ready jobs that nobody has."""
    unclaimed_timers: frozenset[str]
    """Channels with timers of the near future that nobody has."""
    controls: dict[tuple[str, str], Control]
    """(kind, name) -> what was decided last."""


def beat(tx: Transaction, command: Beat) -> Standing:
    """Renew the lease and look around; see `Beat`."""
    gap = tx.fetch(FIND_GAP, (tx.node,))
    if not tx.execute(RENEW, (command.lease_s, tx.node)).rowcount:
        raise StoreTaken(
            f"the other nodes have given up {tx.node!r} and taken over its work; restart it"
        )
    [(gap_s,)] = gap
    buried: list[str] = []
    # Who was away himself, or woke up with the server, cannot tell who else was.
    if command.buries_after_s is not None and gap_s < command.buries_after_s:
        for (node,) in tx.fetch(FIND_DEAD, (tx.node, command.buries_after_s)):
            tx.execute(END_SESSION, (node,))
            _bury(tx, node, command.now)
            buried.append(node)
    tx.flush()
    channels = list(command.channels)
    depth: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for channel, status, n in tx.fetch(COUNT_LIVE):
        depth[channel][status] = n
    unclaimed: defaultdict[str, set[int]] = defaultdict(set)
    for channel, priority in tx.fetch(FIND_UNCLAIMED, (channels,)):
        unclaimed[channel].add(priority)
    timers = tx.fetch(FIND_UNCLAIMED_TIMERS, (channels, command.timers_until))
    return Standing(
        nodes=[_read_node(about) for (about,) in tx.fetch(LIST_NODES)],
        gap_s=gap_s,
        buried=buried,
        depth=dict(depth),
        unclaimed={channel: frozenset(found) for channel, found in unclaimed.items()},
        unclaimed_timers=frozenset(channel for (channel,) in timers),
        controls={(kind, name): Control(*row) for kind, name, *row in tx.fetch(LIST_CONTROLS)},
    )


def _read_node(about: str) -> Node:
    """Return what a node tells of itself; one of another version may tell more, or less."""
    told = {"id": "", **json.loads(about)}
    return Node(**{each.name: told[each.name] for each in fields(Node) if each.name in told})


def leave(tx: Transaction, command: Leave) -> None:
    """Give away what this node has; see `Leave`."""
    _bury(tx, tx.node, command.now)
    tx.is_leaving = True


def _bury(tx: Transaction, node: str, now: float) -> None:
    """Give away what a node had, and take its right to write."""
    recover_calls(tx, node, now)
    tx.flush()
    for (channel,) in tx.fetch(FIND_CHANNELS):
        ready = tx.execute(GIVE_READY_AWAY, (channel, node, [0, 1, 2, 3])).rowcount
        timed = tx.execute(GIVE_TIMED_AWAY, (channel, node)).rowcount
        if ready or timed:
            tx.tell_others(work_for(channel))
    for statement in (GIVE_REDRIVES_AWAY, FOLD_COUNTS, FOLD_FLOWS, REMOVE_NODE):
        tx.execute(statement, (node,))
