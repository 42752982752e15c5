"""Who writes to a database that more than one process can reach; and tables that churn there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import NUMBER, TEXT

revision = "0007"
down_revision: str | None = "0006"

CHURNING = ("jobs", "flows", "counts", "idempotency")
"""Each row is written again or deleted within seconds."""
SETTINGS = (
    # Room for the next version of a row on the same page, which then needs no index.
    "fillfactor = 70",
    "autovacuum_vacuum_scale_factor = 0.01",
    "autovacuum_vacuum_threshold = 1000",
    "autovacuum_vacuum_cost_delay = 0",
    "autovacuum_analyze_scale_factor = 0.02",
)


def upgrade() -> None:
    """Create the table; let PostgreSQL clean up what a queue leaves before it is much."""
    op.create_table(
        "nodes",
        sa.Column("node", TEXT, nullable=False),
        sa.Column("incarnation", TEXT, nullable=False),
        sa.Column("last_commit", TEXT, nullable=False),
        sa.Column("since", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("node"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in CHURNING:
            op.execute(f"ALTER TABLE {table} SET ({', '.join(SETTINGS)})")
