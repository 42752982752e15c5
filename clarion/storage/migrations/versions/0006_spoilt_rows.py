"""An index of rows that damage has put beyond the reach of every lane."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"

IS_SPOILT = sa.text("state < 0 OR state > 3 OR priority < 0 OR priority > 3")


def upgrade() -> None:
    """Create the index, which is empty on a sound file."""
    op.create_index(
        "jobs_spoilt",
        "jobs",
        ["id"],
        sqlite_where=IS_SPOILT,
        postgresql_where=IS_SPOILT,
    )
