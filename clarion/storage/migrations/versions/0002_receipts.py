"""What providers tell later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import NUMBER, TEXT

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Create the table of receipts."""
    op.create_table(
        "receipts",
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("call", sa.Integer(), nullable=True),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("moved_to", TEXT, nullable=True),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("received_at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("notification_id", "provider", "key"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
