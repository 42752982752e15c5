"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from clarion.storage.column_type import COUNT, NUMBER, TEXT

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create everything."""
    _create_notifications()
    _create_jobs()
    _create_provider_calls()
    _create_flows()
    _create_counts()
    _create_controls()
    _create_idempotency()
    _create_indices()


def _create_notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("to_address", TEXT, nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("delivery", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=True),
        sa.Column("reference", TEXT, nullable=True),
        sa.Column("metadata", TEXT, nullable=True),
        sa.Column("correlation_id", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("detail", TEXT, nullable=True),
        sa.Column("provider", TEXT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("possibly_duplicated", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("updated_at", NUMBER, nullable=False),
        sa.Column("expires_at", NUMBER, nullable=False),
        sa.Column("discarded_at", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("flow", TEXT, nullable=False),
        sa.Column("vt", NUMBER, nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("due_at", NUMBER, nullable=True),
        sa.Column("call", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tried", TEXT, nullable=True),
        sa.Column("sending", TEXT, nullable=True),
        sa.Column("sending_since", NUMBER, nullable=True),
        sa.Column("is_doubtful", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("is_walk_unknown", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("is_walk_burning", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("possibly_duplicated", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("cancel_requested", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("expires_at", NUMBER, nullable=False),
        sa.Column("is_expiry_explicit", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("delivery", TEXT, nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("bugs", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("waiting", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_provider_calls() -> None:
    op.create_table(
        "provider_calls",
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("started_at", NUMBER, nullable=False),
        sa.Column("ended_at", NUMBER, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.Column("considered", TEXT, nullable=True),
        sa.Column("provider_message_id", TEXT, nullable=True),
        sa.Column("is_probe", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("notification_id", "number"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_flows() -> None:
    op.create_table(
        "flows",
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("flow", TEXT, nullable=False),
        sa.Column("last_vt", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("channel", "priority", "flow"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_counts() -> None:
    op.create_table(
        "counts",
        sa.Column("node", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("n", COUNT, nullable=False),
        sa.PrimaryKeyConstraint("node", "channel", "status"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_controls() -> None:
    op.create_table(
        "controls",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.Column("expires_at", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_indices() -> None:
    op.create_index("idempotency_expiry", "idempotency", ["expires_at"])
    op.create_index(
        "jobs_expiry", "jobs", ["channel", "expires_at"], **_where("is_expiry_explicit = 1")
    )
    op.create_index(
        "jobs_ready", "jobs", ["channel", "priority", "vt", "id"], **_where("state = 0")
    )
    op.create_index("jobs_sending", "jobs", ["channel"], **_where("state = 2"))
    op.create_index(
        "jobs_timed", "jobs", ["channel", "due_at", "id"], **_where("due_at IS NOT NULL")
    )
    op.create_index("notifications_channel", "notifications", ["channel", "id"])
    op.create_index(
        "notifications_dead", "notifications", ["updated_at", "id"], **_where("status = 'failed'")
    )
    op.create_index(
        "notifications_reference",
        "notifications",
        ["reference", "id"],
        **_where("reference IS NOT NULL"),
    )
    op.create_index(
        "notifications_status",
        "notifications",
        ["status", "channel", "id"],
        **_where("status <> 'queued'"),
    )
    op.create_index("notifications_to", "notifications", ["to_address", "id"])


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
