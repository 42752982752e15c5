"""What providers tell later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision: str | None = "0001"

NUMBER: TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Create the table of receipts."""
    op.create_table(
        "receipts",
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("call", sa.Integer(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("moved_to", sa.Text(), nullable=True),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("received_at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("notification_id", "provider", "key"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
