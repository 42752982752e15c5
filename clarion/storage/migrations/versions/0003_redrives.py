"""Redrives, and what people did about notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision: str | None = "0002"

NUMBER: TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "redrives",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("wanted_reason", sa.Text(), nullable=True),
        sa.Column("wanted_provider", sa.Text(), nullable=True),
        sa.Column("wanted_channel", sa.Text(), nullable=True),
        sa.Column("wanted_since", NUMBER, nullable=True),
        sa.Column("wanted_until", NUMBER, nullable=True),
        sa.Column("rate", NUMBER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("moved", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("cursor_at", NUMBER, nullable=False),
        sa.Column("cursor_id", sa.Text(), nullable=False),
        sa.Column("last_vt", NUMBER, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
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
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("notification_id", "at", "event"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
