"""Bringing a database's schema up to date."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command, util
from alembic.config import Config
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from clarion.errors import ClarionError, StorageUnavailable
from clarion.storage.failure import storage_failure


def _nothing(_connection: Connection) -> None:
    """Prepare nothing."""


def migrate(engine: Engine, name: str, prepare: Callable[[Connection], None] = _nothing) -> None:
    """Take the steps that are missing, all in one transaction, which `prepare` is called in first.

    `name` is what people call the database. Raises ClarionError when a newer Clarion wrote it,
    StorageUnavailable when it cannot be used.
    """
    config = Config()
    config.set_main_option("script_location", "clarion.storage:migrations")
    try:
        with engine.begin() as connection:
            prepare(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except util.CommandError as error:
        raise ClarionError(
            f"the database {name} was written by a newer version of Clarion ({error});"
            " upgrade Clarion, or use a copy of the older database"
        ) from error
    except DBAPIError as error:
        reason = storage_failure(error.orig or error) or str(error.orig)
        raise StorageUnavailable(f"cannot migrate the database {name}: {reason}") from error
