"""What PostgreSQL has to clean up behind a queue, and what keeps it from doing so.

Each job leaves a few dead rows. They are cleaned up within seconds, unless some transaction is
older than they are: then every look at the lanes gets slower, the longer it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

from clarion.storage.database import Connection
from clarion.storage.statement import verbatim

DEAD_ROWS = verbatim("""\
SELECT relname, n_dead_tup FROM pg_stat_user_tables
WHERE relid = ANY (ARRAY[to_regclass('jobs'), to_regclass('notifications'), to_regclass('counts'),
    to_regclass('flows'), to_regclass('idempotency')]::oid[])""")
"""-> table, dead rows as the server estimates them."""

OLDEST = verbatim("""\
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::double precision
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()""")
"""-> age in seconds; of other users' transactions with the role `pg_read_all_stats` only."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How it stands with the cleaning up."""

    dead_rows: dict[str, int]
    """Table -> how many."""
    oldest_transaction_s: float


def look_after(connection: Connection) -> Upkeep:
    """Ask the server."""
    rows = connection.fetch(DEAD_ROWS)
    return Upkeep(dict(rows), connection.fetch(OLDEST)[0][0])
