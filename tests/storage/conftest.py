"""A fresh store, and a desk at which commands are written by hand, one per commit.

Whatever asks for a `desk` runs on every database, unless its module overrides `backend`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from clarion.domain.notification import (
    Call,
    Content,
    Delivery,
    Draft,
    Job,
    JobState,
    Priority,
    ProviderCall,
    Status,
)
from clarion.policies.identifier import IdSource
from clarion.storage import command
from clarion.storage.backend import open_snapshots, open_store
from clarion.storage.reader import Snapshots
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.store import Store
from clarion.storage.url import SQLITE

NOW = 1_800_000_000.0


class Desk:
    """Makes jobs and runs commands on a store, each in a transaction of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = NOW
        self._ids = IdSource(lambda: self.now, lambda _bits: 0)

    @property
    def connection(self) -> Any:
        return self.store.connection  # type: ignore[attr-defined]  # of every store that there is

    @property
    def is_sqlite(self) -> bool:
        return isinstance(self.store, SqliteStore)

    def execute(self, sql: str, *values: Any) -> Any:
        """Run SQL with places `?`, in a transaction of its own."""
        numbers = count(1)
        sql = sql if self.is_sqlite else re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
        return self.connection.execute(sql, values)

    def run(self, each: command.Command) -> Any:
        return self.run_together([each])[0]

    def run_together(self, commands: Sequence[command.Command]) -> list[Any]:
        self.store.begin()
        try:
            results = self.store.apply_all(commands)
            self.store.commit()
        except BaseException:
            self.store.rollback()
            raise
        return results

    def job(self, **fields: Any) -> Job:
        values: dict[str, Any] = {
            "id": self._ids.next(),
            "channel": "email",
            "content": Content(to="ada@example.com", subject="Hi", text="Hello"),
            "priority": Priority.NORMAL,
            "flow": "",
            "vt": 1.0,
            "state": JobState.READY,
            "created_at": self.now,
            "expires_at": self.now + 1000.0,
            "delivery": Delivery.AT_LEAST_ONCE,
        }
        return Job(**(values | fields))

    def scheduled(self, due_at: float, **fields: Any) -> Job:
        return self.job(
            state=JobState.SCHEDULED, due_at=due_at, waiting="schedule", vt=0.0, **fields
        )

    def draft(self, job: Job, **fields: Any) -> Draft:
        return Draft(job.channel, job.content, priority=job.priority, **fields)

    def acceptance(self, *jobs: Job) -> command.Accept:
        return command.Accept(jobs[0].channel, [self.draft(job) for job in jobs], list(jobs))

    def accept(self, *jobs: Job) -> list[Any]:
        return self.run(self.acceptance(*jobs))

    def accepted(self, **fields: Any) -> Job:
        job = self.job(**fields)
        self.accept(job)
        return job

    def intent(self, job: Job, number: int = 1, provider: str = "alpha") -> command.Intend:
        return command.Intend(job.channel, [Call(job, number, provider)], self.now)

    def intend(self, job: Job, number: int = 1, provider: str = "alpha") -> list[Call]:
        return self.run(self.intent(job, number, provider))

    def sending(self, **fields: Any) -> Job:
        job = self.accepted(**fields)
        self.intend(job)
        return job

    def record(self, job: Job, number: int = 1, **fields: Any) -> ProviderCall:
        values: dict[str, Any] = {
            "provider": "alpha",
            "outcome": "accepted",
            "reason": "http_202",
            "detail": "taken",
            "started_at": self.now,
            "ended_at": self.now + 0.1,
        }
        return ProviderCall(job.id, number, **(values | fields))

    def settlement(
        self,
        job: Job,
        number: int | None = 1,
        status: Status = Status.SENT,
        reason: str | None = None,
        **fields: Any,
    ) -> command.Settle:
        if number is not None:
            fields.setdefault("record", self.record(job, number))
        return command.Settle(job.channel, job, number, status, reason, self.now, **fields)

    def deferral(
        self, job: Job, number: int = 1, due_at: float | None = None, **fields: Any
    ) -> command.Defer:
        values: dict[str, Any] = {"tried": ("alpha",), "attempt": 0, "waiting": None}
        values |= fields
        return command.Defer(
            job.channel,
            job,
            number,
            due_at,
            values.pop("tried"),
            values.pop("attempt"),
            values.pop("waiting"),
            self.now,
            **values,
        )

    def load(self, channel: str = "email", head: int = 100) -> command.LoadedLane:
        return self.run(command.Load(channel, head, self.now + 60.0, 100))

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        cursor = self.execute(sql, *values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def job_row(self, job: Job) -> dict[str, Any] | None:
        rows = self.rows("SELECT * FROM jobs WHERE id = ?", job.id)
        return rows[0] if rows else None

    def record_row(self, job: Job) -> dict[str, Any]:
        return self.rows("SELECT * FROM notifications WHERE id = ?", job.id)[0]

    def counts(self, channel: str = "email") -> dict[str, int]:
        rows = self.rows("SELECT status, n FROM counts WHERE channel = ? AND n <> 0", channel)
        return {row["status"]: row["n"] for row in rows}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clarion.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, path: Path) -> str:
    """The store of this test."""
    return f"{SQLITE}{path}" if backend == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Gives an empty store, as often as it is asked; the one before has to be closed."""
    if backend == "postgresql":
        return request.getfixturevalue("empty_postgresql_url")
    factory = request.getfixturevalue("tmp_path_factory")
    return lambda: f"{SQLITE}{factory.mktemp('store')}/clarion.db"


@pytest.fixture
def open_desk_at() -> Iterator[Callable[[str], Desk]]:
    """Open a store (again, as a new process would); the one before has to be closed."""
    stores: list[Store] = []

    def make(url: str) -> Desk:
        store = open_store(url, now=lambda: NOW)
        store.open()
        stores.append(store)
        return Desk(store)

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def open_desk(open_desk_at: Callable[[str], Desk], url: str) -> Callable[[], Desk]:
    """Open the test's own store."""
    return lambda: open_desk_at(url)


@pytest.fixture
def desk(open_desk: Callable[[], Desk]) -> Desk:
    return open_desk()


@pytest.fixture
def snapshots(url: str) -> Iterator[Snapshots]:
    """What reads beside the desk."""
    source = open_snapshots(url, least=1, most=4)
    yield source
    source.close()
