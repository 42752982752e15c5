"""Redrives, and what people did about notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import NUMBER, TEXT

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "redrives",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("wanted_reason", TEXT, nullable=True),
        sa.Column("wanted_provider", TEXT, nullable=True),
        sa.Column("wanted_channel", TEXT, nullable=True),
        sa.Column("wanted_since", NUMBER, nullable=True),
        sa.Column("wanted_until", NUMBER, nullable=True),
        sa.Column("rate", NUMBER, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("cursor_at", NUMBER, nullable=False),
        sa.Column("cursor_id", TEXT, nullable=False),
        sa.Column("last_vt", NUMBER, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("updated_at", NUMBER, nullable=False),
        sa.Column("ended_at", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("id", "channel"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "redrives_running",
        "redrives",
        ["id", "channel"],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "interventions",
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("notification_id", "at", "event"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
