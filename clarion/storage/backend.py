"""Which database a URL names: its store, what reads beside it, how it is checked.

PostgreSQL's driver is imported only where it is wanted: it comes with an extra.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog

from clarion.domain.node import Node
from clarion.errors import Fault, SettingsError, StorageUnavailable, StoreLocked
from clarion.policies.clock import SystemClock
from clarion.storage.reader import Snapshots
from clarion.storage.recount import Difference, recount
from clarion.storage.sqlite import connect_reader
from clarion.storage.sqlite_snapshots import SqliteSnapshots
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.store import Store
from clarion.storage.url import SQLITE, is_postgresql, url_fault

log = structlog.get_logger(__name__)

_CLOCK = SystemClock()

RETRY_S = 1.0
"""Between two tries to open a store that is away."""


def name_of(url: str) -> str:
    """Return what people call the database of a URL: its file, or where it is on which server."""
    if is_postgresql(url):
        from clarion.storage import postgresql

        return postgresql.shown(url)
    return url.removeprefix(SQLITE)


def open_store(
    url: str,
    *,
    node: str = "local",
    now: Callable[[], float] = _CLOCK.now,
    lease_s: float = 30.0,
    about: Node | None = None,
) -> Store:
    """Return the (unopened) store of a URL. Raises SettingsError where it names none.

    Where several nodes share it, `node` is the name of this one, `lease_s` how long it is believed
    to be alive after its last sign, and `about` what people want to know of it.
    """
    fault = url_fault(url)
    if fault is not None:
        raise SettingsError([Fault(fault, "storage.url")])
    if is_postgresql(url):
        from clarion.storage.postgresql_store import PostgresqlStore

        return PostgresqlStore(url, node=node, now=now, lease_s=lease_s, about=about)
    return SqliteStore(url.removeprefix(SQLITE), now=now)


async def open_patiently(
    store: Store, monotonic: Callable[[], float], is_given_up: Callable[[], bool]
) -> None:
    """Open a store; one that may come back, or become free, is waited for as long as it says."""
    deadline_at = monotonic() + store.patience_s
    while True:
        try:
            store.open()
        except (StorageUnavailable, StoreLocked) as error:
            if monotonic() >= deadline_at:
                raise
            log.warning("storage_awaited", reason=str(error))
            await asyncio.sleep(RETRY_S)
            if is_given_up():
                raise
        else:
            return


def open_snapshots(
    url: str, *, least: int, most: int, monotonic: Callable[[], float] = _CLOCK.monotonic
) -> Snapshots:
    """Return what reads beside the store of a URL; `least` to `most` sessions of a server."""
    if is_postgresql(url):
        from clarion.storage.postgresql_snapshots import PostgresqlSnapshots

        return PostgresqlSnapshots(url, least=least, most=most, monotonic=monotonic)
    return SqliteSnapshots(url.removeprefix(SQLITE), monotonic=monotonic)


def recount_all(url: str) -> list[Difference]:
    """Compare the counts of a store with its rows; see `recount`."""
    if is_postgresql(url):
        from clarion.storage import postgresql

        with closing(postgresql.connect(url, "clarion check")) as session:
            return recount(session)
    with closing(connect_reader(Path(url.removeprefix(SQLITE)))) as connection:
        return recount(connection)
