"""Reading beside the writer: short read-only transactions on a few threads of their own.

Readers never wait for the writer nor it for them (WAL), and go on while the disk is full. What
has to be read in the order of the writes does not belong here: that is `lane`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

import structlog

from clarion.domain.notification import Intervention, Notification, Reason, Status
from clarion.domain.redrive import DeadFilter, Redrive
from clarion.errors import Fault, InvalidNotification, StorageUnavailable
from clarion.storage.database import Connection, Row
from clarion.storage.failure import too_slow
from clarion.storage.redrive import FIND_REDRIVE, LIST_REDRIVES, read_part
from clarion.storage.row import Undecodable, read_call, read_notification, read_receipt
from clarion.storage.search import (
    CONTROLS,
    COUNTS,
    FIND_CHANNEL,
    GET,
    GET_CALLS,
    GET_INTERVENTIONS,
    GET_RECEIPTS,
    Filter,
    Search,
    count_dead_letters,
    dead_letters,
    search,
)
from clarion.storage.transaction import ACCEPTED
from clarion.storage.upkeep import Upkeep, look_after

log = structlog.get_logger(__name__)

T = TypeVar("T")

Page = tuple[list[Notification], str | None]

_NEWEST = "~"
"""Sorts behind every id."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """How a pool of connections stands."""

    used: int
    idle: int
    waiting: int
    """How many wait for a connection."""
    waited_s: float
    """How long all that ever waited did, together."""


class Snapshots(Protocol):
    """What gives connections to read from; used by many threads at once."""

    @property
    def threads(self) -> int:
        """How many may ask at once."""

    @property
    def is_server(self) -> bool:
        """Whether a server answers, which has to clean up behind us."""

    def snapshot(self, timeout_s: float, /) -> AbstractContextManager[Connection]:
        """Give a connection that shows one instant, for `timeout_s` seconds at most.

        Raises StorageUnavailable where there is none, or the time is over.
        """

    def state(self) -> PoolState | None:
        """Say how the connections stand; None where each thread has one of its own."""

    def close(self) -> None:
        """Close the connections."""


class Reader:
    """Answers questions about what is stored; each call waits `timeout_s` at most.

    `executor` runs the queries (default: threads of its own). Raises StorageUnavailable where the
    store does not answer, or not in time.
    """

    def __init__(
        self, snapshots: Snapshots, *, timeout_s: float = 5.0, executor: Executor | None = None
    ) -> None:
        self._snapshots = snapshots
        self._timeout_s = timeout_s
        self._executor = executor or ThreadPoolExecutor(snapshots.threads, "clarion-reader")
        self._is_executor_ours = executor is None

    async def get(self, id: str) -> Notification | None:
        """Return a notification as it stands now, with its calls; None if there is none."""
        return await self._ask(lambda connection: _get(connection, id))

    async def channels(self, ids: Collection[str]) -> dict[str, str]:
        """Return the channel of each of these notifications that there is."""
        return await self._ask(lambda connection: _channels(connection, ids))

    async def find(
        self,
        *,
        status: str | None = None,
        channel: str | None = None,
        to: str | None = None,
        reference: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of notifications, newest first, and the cursor of the next page.

        Raises InvalidNotification for an unknown status or a cursor that is none of ours.
        """
        wanted = Filter(_status(status), channel, to, reference)
        before = str(_open_cursor(cursor, 1)[0]) if cursor else _NEWEST
        return await self._ask(lambda connection: _find(connection, wanted, before, limit))

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        provider: str | None = None,
        channel: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of `failed` ones that nobody discarded, the latest death first.

        `since` (inclusive) and `until` (exclusive) bound the instant of the end.
        """
        wanted = Filter(channel=channel, reason=reason, provider=provider, since=since, until=until)
        before = _open_cursor(cursor, 2) if cursor else [math.inf, _NEWEST]
        return await self._ask(lambda connection: _dead(connection, wanted, before, limit))

    async def count_dead_letters(self, wanted: DeadFilter) -> dict[str, int]:
        """Return how many `failed` ones that nobody discarded there are, by channel."""
        return await self._ask(lambda connection: _count_dead(connection, wanted))

    async def redrive(self, id: str) -> Redrive | None:
        """Return a redrive as it stands now; None if there is none."""
        rows = await self._ask(lambda connection: connection.fetch(FIND_REDRIVE, (id,)))
        return Redrive(tuple(read_part(row) for row in rows)) if rows else None

    async def redrives(self, limit: int = 50) -> list[Redrive]:
        """Return the redrives, the latest first."""
        rows = await self._ask(lambda connection: connection.fetch(LIST_REDRIVES, (limit,)))
        parts = [read_part(row) for row in rows]
        return [Redrive(tuple(each)) for _, each in groupby(parts, key=lambda part: part.id)]

    async def stats(self) -> dict[str, Any]:
        """Return the counts of one instant: `accepted` equals the sum of `by_status`."""
        rows = await self._ask(lambda connection: connection.run(COUNTS).fetchall())
        return _stats(rows)

    async def depth(self, channel: str) -> dict[str, int]:
        """Return how many live notifications of the channel stand in each live status."""
        by_channel = (await self.stats())["by_channel"]
        by_status = by_channel.get(channel, {"by_status": {}})["by_status"]
        return {status: n for status, n in by_status.items() if Status(status).is_live}

    async def controls(self) -> dict[tuple[str, str], tuple[str, str, float]]:
        """Return the operators' decisions: (kind, name) -> (value, who, at)."""
        rows = await self._ask(lambda connection: connection.run(CONTROLS).fetchall())
        return {(kind, name): (value, who, at) for kind, name, value, who, at in rows}

    async def upkeep(self) -> Upkeep | None:
        """Return how the server's cleaning up stands; None where there is no server."""
        return await self._ask(look_after) if self._snapshots.is_server else None

    def pool_state(self) -> PoolState | None:
        """Say how the pool of connections stands; None where there is none."""
        return self._snapshots.state()

    def close(self) -> None:
        """Close the connections; queries that still run are given up."""
        if self._is_executor_ours:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._snapshots.close()

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(self._executor, self._answer, question)
        except TimeoutError as error:
            raise StorageUnavailable(too_slow(self._timeout_s)) from error

    def _answer(self, question: Callable[[Connection], T]) -> T:
        with self._snapshots.snapshot(self._timeout_s) as connection:
            return question(connection)


def _get(connection: Connection, id: str) -> Notification | None:
    rows = connection.fetch(GET, (id,))
    if not rows:
        return None
    calls = tuple(read_call(row) for row in connection.fetch(GET_CALLS, (id,)))
    told = [read_receipt(id, row) for row in connection.fetch(GET_RECEIPTS, (id,))]
    told.sort(key=lambda receipt: receipt.received_at)
    done = tuple(Intervention(*row) for row in connection.run(GET_INTERVENTIONS, (id,)))
    return _noticed(read_notification(rows[0], calls, tuple(told), done))


def _channels(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    found = {id: connection.run(FIND_CHANNEL, (id,)).fetchone() for id in ids}
    return {id: row[0] for id, row in found.items() if row is not None}


def _find(connection: Connection, wanted: Filter, before: str, limit: int) -> Page:
    rows = _found_rows(connection, wanted, before, limit + 1)
    next_cursor = _close_cursor([rows[limit - 1][0]]) if len(rows) > limit else None
    return _readable(rows[:limit]), next_cursor


def _found_rows(connection: Connection, wanted: Filter, before: str, limit: int) -> list[Row]:
    is_by_status = wanted.to is None and wanted.reference is None and wanted.channel is None
    if not is_by_status or wanted.status is None or wanted.status.is_live:
        return _run(connection, wanted, before=before, limit=limit)
    # The index is by status and channel: one newest-first list per channel, merged.
    channels = sorted({row[0] for row in connection.run(COUNTS)})
    lists = [
        _run(connection, Filter(wanted.status, channel), before=before, limit=limit)
        for channel in channels
    ]
    merged = heapq.merge(*lists, key=lambda row: str(row[0]), reverse=True)
    return list(merged)[:limit]


def _run(connection: Connection, wanted: Filter, **page: object) -> list[Row]:
    given = _given(wanted)
    return _fetch(connection, search(frozenset(given), wanted.status), {**given, **page})


def _given(wanted: Filter) -> dict[str, Any]:
    return {name: value for name, value in asdict(wanted).items() if value is not None}


def _fetch(connection: Connection, query: Search, values: dict[str, Any]) -> list[Row]:
    return connection.fetch(query.statement, tuple(values[name] for name in query.names))


def _dead(connection: Connection, wanted: Filter, before: list[Any], limit: int) -> Page:
    given = _given(wanted)
    page = {"before_at": before[0], "before": before[1], "limit": limit + 1}
    rows = _fetch(connection, dead_letters(frozenset(given)), {**given, **page})
    found = _readable(rows[:limit])
    last = rows[limit - 1] if len(rows) > limit else None
    return found, None if last is None else _close_cursor([last[8], last[0]])


def _count_dead(connection: Connection, wanted: DeadFilter) -> dict[str, int]:
    given = {name: value for name, value in asdict(wanted).items() if value is not None}
    questions = [given] if wanted.ids is None else [{"id": id} for id in wanted.ids]
    counted: Counter[str] = Counter()
    for values in questions:
        counted.update(dict(_fetch(connection, count_dead_letters(frozenset(values)), values)))
    return counted


def _noticed(found: Notification) -> Notification:
    if found.status.is_live and found.reason == Reason.POISON:
        log.warning("row_undecodable", notification_id=found.id, detail=found.detail)
    return found


def _readable(rows: list[Row]) -> list[Notification]:
    found: list[Notification] = []
    for row in rows:
        try:
            found.append(_noticed(read_notification(row)))
        except Undecodable as error:
            # One spoilt row must not hide the others; it is still there for a person to look at.
            log.warning("row_undecodable", notification_id=error.id)
    return found


def _stats(rows: list[tuple[str, str, int]]) -> dict[str, Any]:
    by_status: defaultdict[str, int] = defaultdict(int)
    by_channel: dict[str, dict[str, Any]] = {}
    accepted = 0
    for channel, status, n in rows:
        lane = by_channel.setdefault(channel, {"accepted": 0, "by_status": {}})
        if status == ACCEPTED:
            accepted += n
            lane["accepted"] = n
        else:
            by_status[status] += n
            lane["by_status"][status] = n
    return {"accepted": accepted, "by_status": dict(by_status), "by_channel": by_channel}


# --- what comes from outside -----------------------------------------------------------------


def _status(name: str | None) -> Status | None:
    if name is None:
        return None
    try:
        return Status(name)
    except ValueError as error:
        known = ", ".join(Status)
        fault = Fault(f"there is no status {name!r}; there are {known}", "status")
        raise InvalidNotification([fault]) from error


def _close_cursor(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _open_cursor(cursor: str, length: int) -> list[Any]:
    with suppress(binascii.Error, ValueError):
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.urlsafe_b64decode(padded))
        if isinstance(key, list) and len(key) == length and isinstance(key[-1], str):
            return key
    raise InvalidNotification([Fault("the cursor is not one that was given out", "cursor")])
