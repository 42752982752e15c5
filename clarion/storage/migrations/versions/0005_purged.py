"""How many records retention has removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import COUNT, TEXT

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "purged",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("n", COUNT, nullable=False),
        sa.PrimaryKeyConstraint("channel", "status"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
