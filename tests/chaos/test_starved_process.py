"""A process that gets nothing any more: no room on the disk, no file descriptors, no time.

Under load on a real process: accepts are refused, nothing that was acknowledged is lost, nothing
is doubled, and everything recovers by itself.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from clarion.testing import ClarionProcess, SendGridLookalike, settings_toml
from clarion.testing.load import Load, audit, read_all, recount_apart

SLOTS = 8
ROOM = "12m"
WAIT_S = 20.0
TIMEOUT_S = 1.0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes; only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a file system")
    yield place
    # Lazily: a process that a failed test left behind may still hold it.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class Filling:
    """A file that takes the room of everything else."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filling"

    def take(self) -> None:
        """Take all room."""
        with self._path.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))

    def give_back(self) -> None:
        self._path.unlink()


class House:
    """One process, one provider, and load on both."""

    def __init__(self, directory, provider, *, timeout_s=5.0, **settings):
        self.provider = provider
        provider.latency_s = 0.02
        settings_toml(
            directory / "settings.toml",
            providers={
                "mail": provider.settings(
                    timeout=timeout_s,
                    bulkhead={"max_concurrent": SLOTS},
                    breaker={"timeout": 0.3, "timeout_max": 0.5, "jitter": 0.0},
                )
            },
            channels={"email": ["mail"]},
            retry={"max_attempts": 1000, "initial_delay": 0.05, "max_delay": 0.3},
            **settings,
        )
        self.clarion = ClarionProcess(directory)

    @property
    def client(self):
        return self.clarion.client

    def load(self, **options):
        return Load(self.clarion.url, self.email, **options)

    @staticmethod
    def email(number):
        return {
            "channel": "email", "to": f"u{number}@example.com", "subject": "Hello",
            "text": "x" * 2000, "delivery": ("at_least_once", "at_most_once")[number % 2],
        }  # fmt: skip

    async def settle_accounts(self, load, *, doubtful=0):
        """Wait for all to end and return it; nothing is lost, at most so many are in doubt."""
        stats = await self.client.wait_drained(60.0)
        found = await read_all(self.client)
        assert audit(load.accepted, found, self.provider.deliveries) == []
        assert stats["accepted"] == sum(stats["by_status"].values()) == len(found)
        unknown = stats["by_status"].get("unknown", 0)
        assert stats["by_status"]["sent"] + unknown == len(found)
        assert unknown <= doubtful
        assert len(self.provider.duplicates()) <= doubtful
        assert await self.clarion.terminate() == 0
        assert await recount_apart(self.clarion) == []
        return found


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def provider():
    async with SendGridLookalike() as one:
        yield one


# --- the disk ----------------------------------------------------------------------------------


@pytest.fixture
async def on_small_disk(tmp_path, small_disk, provider):
    house = House(tmp_path, provider, storage={"url": f"sqlite:///{small_disk}/clarion.db"})
    async with house.clarion:
        yield house, Filling(small_disk)


async def test_a_full_disk_under_load_loses_nothing_and_recovers(on_small_disk):
    """Again and again: 503 while it is full, what is out is settled later, then 202 again."""
    house, filling = on_small_disk
    async with house.load() as load:
        for _ in range(3):
            before = len(load.accepted)
            await until(lambda n=before: len(load.accepted) > n + 50)
            refused = len(load.refused)
            filling.take()
            await until(lambda n=refused: len(load.refused) > n + 5)

            one = next(iter(load.accepted))
            assert (await house.client.get(one))["id"] == one
            assert (await house.client.request("GET", "/readyz")).status == 503
            assert (await house.client.request("GET", "/livez")).status == 200
            filling.give_back()

    assert {answer.status for answer in load.refused} == {503}
    assert all("Retry-After" in answer.headers for answer in load.refused)
    await house.settle_accounts(load)


async def test_a_process_that_died_on_a_full_disk_starts_again_with_room(on_small_disk):
    """Without any it says why it cannot: SQLite needs some for the index of its log."""
    house, filling = on_small_disk
    async with house.load() as load:
        await until(lambda: len(load.accepted) > 100)
        filling.take()
        await until(lambda: len(load.refused) > 5)
        await house.clarion.kill()

        house.clarion.spawn()
        code = await house.clarion.wait_death(WAIT_S)
        words = house.clarion.log.splitlines()[-1]
        accepted = len(load.accepted)
        filling.give_back()
        await house.clarion.start()
        await until(lambda: len(load.accepted) > accepted + 20)

    assert code > 0
    assert words.startswith("error: cannot use the database")
    assert words.endswith("the disk is full")
    await house.settle_accounts(load, doubtful=SLOTS)


# --- file descriptors --------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [0, 12])
async def test_without_file_descriptors_nothing_is_lost_and_all_recovers(tmp_path, provider, spare):
    """Connections wait or fail, in and out; the process lives, and goes on when it gets some."""
    house = House(tmp_path, provider)
    async with house.clarion as clarion, house.load(workers=10, pause_s=0.02) as load:
        await until(lambda: len(load.accepted) > 100)
        unlimited = resource.prlimit(clarion.pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{clarion.pid}/fd").iterdir()))
        # New ones for each request, as senders come that were not connected before.
        resource.prlimit(clarion.pid, resource.RLIMIT_NOFILE, (used + spare, unlimited[1]))
        newcomers = [house.load(workers=10, pause_s=0.05) for _ in range(3)]
        seen = provider.ledger.seen
        await asyncio.sleep(1.0)
        resource.prlimit(clarion.pid, resource.RLIMIT_NOFILE, unlimited)
        await until(lambda: all(len(each.accepted) > 10 for each in newcomers))
        for each in newcomers:
            await each.stop()
            load.accepted.update(each.accepted)
            load.refused += each.refused
        await load.stop()
        assert clarion.is_running
        assert provider.ledger.seen > seen

        assert {answer.status for answer in load.refused} <= {503}
        await house.settle_accounts(load)


# --- time --------------------------------------------------------------------------------------


async def test_answers_that_came_while_the_process_stood_still_count(tmp_path, provider):
    """It is stopped for longer than its time limit: none of them becomes unknown or is repeated."""
    answered = set()
    house = House(tmp_path, provider, timeout_s=TIMEOUT_S)
    async with house.clarion as clarion, house.load(pause_s=0.01) as load:
        for _ in range(3):
            n = len(load.accepted)
            await until(lambda n=n: len(load.accepted) > n + 20 and provider.ledger.in_flight)
            clarion.signal(signal.SIGSTOP)
            await until(lambda: not provider.ledger.in_flight)
            await asyncio.sleep(1.5 * TIMEOUT_S)
            answered |= provider.deliveries.keys()
            clarion.signal(signal.SIGCONT)
        await load.stop()
        # What was not written yet when it was stopped may take too long after it goes on.
        found = await house.settle_accounts(load, doubtful=3 * SLOTS)

        assert len(answered) > 3 * SLOTS
        assert {found[id]["status"] for id in answered} == {"sent"}
        assert {provider.delivered(id) for id in answered} == {1}
