"""Several nodes share a database: who has a job, who gave a stamp, whose lease lasts how long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import NUMBER, TEXT

revision = "0008"
down_revision: str | None = "0007"

CHURNING = (
    "fillfactor = 70",
    "autovacuum_vacuum_scale_factor = 0.01",
    "autovacuum_vacuum_threshold = 1000",
    "autovacuum_vacuum_cost_delay = 0",
    "autovacuum_analyze_scale_factor = 0.02",
)


def upgrade() -> None:
    """Add the columns; a file has one node, on a server nobody has what was there before."""
    is_server = op.get_bind().dialect.name == "postgresql"
    for table in ("jobs", "redrives", "controls"):
        op.add_column(table, _text("node", "''"))
    op.add_column("nodes", _number("seen_at"))
    op.add_column("nodes", _number("lease_until"))
    op.add_column("nodes", _text("about", "'{}'"))
    if not is_server:
        op.execute("UPDATE jobs SET node = 'local'")
        op.execute("UPDATE redrives SET node = 'local'")
    _index_jobs()
    _part_flows("''" if is_server else "'local'")
    if is_server:
        op.execute(f"ALTER TABLE flows SET ({', '.join(CHURNING)})")
        op.execute("DELETE FROM nodes")


def _text(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default=sa.text(default))


def _number(name: str) -> sa.Column[float]:
    return sa.Column(name, NUMBER, nullable=False, server_default=sa.text("0"))


def _index_jobs() -> None:
    op.drop_index("jobs_ready", "jobs")
    op.drop_index("jobs_timed", "jobs")
    ready, timed = sa.text("state = 0"), sa.text("due_at IS NOT NULL")
    op.create_index(
        "jobs_ready",
        "jobs",
        ["channel", "priority", "node", "vt", "id"],
        sqlite_where=ready,
        postgresql_where=ready,
    )
    op.create_index(
        "jobs_timed",
        "jobs",
        ["channel", "node", "due_at", "id"],
        sqlite_where=timed,
        postgresql_where=timed,
    )


def _part_flows(node: str) -> None:
    """Make the table anew: its key grows by a column, which SQLite cannot do in place."""
    op.rename_table("flows", "flows_of_one_node")
    op.create_table(
        "flows",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("flow", TEXT, nullable=False),
        sa.Column("node", TEXT, nullable=False),
        sa.Column("last_vt", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("channel", "priority", "flow", "node"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO flows SELECT channel, priority, flow, {node}, last_vt FROM flows_of_one_node"  # noqa: S608
    )
    op.drop_table("flows_of_one_node")
