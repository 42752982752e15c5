"""Run the migrations over the connection that the caller hands in; Alembic executes this file."""

from __future__ import annotations

from alembic import context

from clarion.storage.schema import metadata

# SQLite can roll back schema changes, which Alembic does not assume by itself: a process that is
# killed half-way leaves the old schema, not half of a new one.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
