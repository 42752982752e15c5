"""Redrives of dead letters that are named one by one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import TEXT

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Add the column; NULL where a filter describes them."""
    op.add_column("redrives", sa.Column("wanted_ids", TEXT, nullable=True))
