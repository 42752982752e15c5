"""Waiting for the end of a notification."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from clarion import receipt
from clarion.actors.journal_messages import Ended
from clarion.domain.notification import Content, Delivery, Notification, Priority, Status
from clarion.errors import MailboxFull, NotFound, StorageUnavailable
from clarion.receipt import Receipt, Waiters

QUEUED = Notification(
    "id", "email", Content("ada@example.com"), Status.QUEUED, Priority.NORMAL,
    Delivery.AT_LEAST_ONCE, 0.0, 0.0, 100.0,
)  # fmt: skip


class Shelf:
    """A store of one notification that tells when it is read."""

    def __init__(self) -> None:
        self.notification = QUEUED
        self.was_read = asyncio.Event()
        self.reads = 0

    async def read(self, _id: str) -> Notification:
        found = self.notification
        self.reads += 1
        self.was_read.set()
        await asyncio.sleep(0)
        return found

    def end(self, status: Status = Status.SENT) -> list[Ended]:
        self.notification = dataclasses.replace(QUEUED, status=status)
        return [Ended("id", status)]


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


async def test_all_who_wait_for_one_are_woken(shelf: Shelf) -> None:
    """And nobody is left registered."""
    waiters = Waiters()
    waiting = [asyncio.create_task(waiters.settled("id", shelf.read, 5.0)) for _ in range(3)]
    await shelf.was_read.wait()
    assert len(waiters) == 3

    waiters.wake([Ended("other", Status.SENT), *shelf.end()])

    assert [(await each).status for each in waiting] == [Status.SENT] * 3
    assert len(waiters) == 0


async def test_an_end_while_the_store_is_being_read_is_not_missed(shelf: Shelf) -> None:
    """The news comes between the read of the old state and the wait."""
    waiters = Waiters()
    waiting = asyncio.create_task(waiters.settled("id", shelf.read, 5.0))
    await shelf.was_read.wait()

    waiters.wake(shelf.end())

    async with asyncio.timeout(1.0):
        assert (await waiting).status is Status.SENT


async def test_news_of_another_life_are_no_end(shelf: Shelf) -> None:
    """Woken, it reads; if it is live (a redrive came first), it waits on."""
    waiters = Waiters()
    waiting = asyncio.create_task(waiters.settled("id", shelf.read, 5.0))
    await shelf.was_read.wait()
    shelf.was_read.clear()

    waiters.wake([Ended("id", Status.FAILED)])
    await shelf.was_read.wait()
    assert not waiting.done()
    waiters.wake(shelf.end())

    assert (await waiting).status is Status.SENT


async def test_an_end_that_nobody_tells_is_found_all_the_same(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that ends as poison while it is loaded wakes no one."""
    monkeypatch.setattr(receipt, "RECHECK_S", 0.001)
    waiters = Waiters()
    waiting = asyncio.create_task(waiters.settled("id", shelf.read, 5.0))
    await shelf.was_read.wait()

    shelf.end(Status.FAILED)

    assert (await waiting).status is Status.FAILED


async def test_waiters_are_bounded(shelf: Shelf) -> None:
    """One more than may wait is told so at once, and the others go on."""
    waiters = Waiters(max_waiters=1)
    waiting = asyncio.create_task(waiters.settled("id", shelf.read, 5.0))
    await shelf.was_read.wait()

    with pytest.raises(MailboxFull):
        await waiters.settled("id", shelf.read, 5.0)

    waiters.wake(shelf.end())
    await waiting


@pytest.mark.parametrize("error", [NotFound("notification", "id"), StorageUnavailable("no")])
async def test_a_store_that_cannot_tell_ends_the_wait(error: Exception) -> None:
    """With its reason, and without leaving a waiter behind."""
    waiters = Waiters()

    async def read(_id: str) -> Any:
        raise error

    with pytest.raises(type(error)):
        await waiters.settled("id", read, 5.0)
    assert len(waiters) == 0


async def test_giving_up_leaves_no_trace(shelf: Shelf) -> None:
    """By time or by cancelling."""
    waiters = Waiters()
    ticket = Receipt("id", {}, False, waiters, shelf.read)
    with pytest.raises(TimeoutError):
        await ticket.settled(timeout=0.01)

    waiting = asyncio.create_task(ticket.settled(timeout=5.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert len(waiters) == 0
    assert waiters._events == {}
