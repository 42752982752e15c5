"""What Clarion does when providers break and the process dies: `make demo`, a few seconds.

A real server in a directory of its own, before two look-alikes of SendGrid that break on demand.
What is told is counted where it arrived, not where it was sent. Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from clarion.testing.clarion_process import ClarionProcess
from clarion.testing.client import ClarionClient
from clarion.testing.fault import Fault
from clarion.testing.sendgrid import SendGridLookalike
from clarion.testing.settings_file import settings_toml

N: Final = 40
"""Notifications in each act."""
_BREAKER: Final = {"timeout": 0.5, "timeout_max": 1.0, "jitter": 0.0}


class Stage:
    """The server, its two providers, and what was accepted so far."""

    def __init__(
        self, clarion: ClarionProcess, main: SendGridLookalike, spare: SendGridLookalike
    ) -> None:
        self.clarion = clarion
        self.main = main
        self.spare = spare
        self.accepted: list[str] = []

    @property
    def client(self) -> ClarionClient:
        """Speaks to the server."""
        return self.clarion.client

    async def accept(self) -> None:
        """Have the next `N` notifications accepted."""
        items = [
            {"channel": "email", "to": f"user{n}@example.com", "subject": "Hello", "text": "…"}
            for n in range(N)
        ]
        answer = await self.client.batch(items)
        self.accepted += [each["id"] for each in answer["results"]]

    def delivered(self) -> Counter[str]:
        """Count what arrived, by id, at either provider."""
        return self.main.deliveries + self.spare.deliveries


async def all_is_well(stage: Stage) -> None:
    """Act 1."""
    tell("1. All is well.")
    await stage.accept()
    await stage.client.wait_drained()
    tell(f"   {N} accepted, {stage.main.deliveries.total()} arrived at main.")


async def main_breaks(stage: Stage) -> None:
    """Act 2."""
    tell("2. main answers 500 to everything.")
    before = len(stage.main.requests)
    stage.main.behave(Fault.error(500))
    await stage.accept()
    await stage.client.wait_drained()
    tell(f"   {N} accepted, {stage.spare.deliveries.total()} arrived at spare;")
    tell(f"   main was asked {len(stage.main.requests) - before} times: its slots, and probes.")


async def nobody_delivers(stage: Stage) -> None:
    """Act 3."""
    tell("3. spare breaks as well, and the server dies by kill -9.")
    stage.spare.behave(Fault.error(500))
    await stage.accept()
    held = await _held(stage.client)
    tell(f"   {N} accepted; the lane is held: {held}.")
    await stage.clarion.kill()


async def all_recovers(stage: Stage) -> None:
    """Act 4."""
    tell("4. The server starts again, and both providers are back.")
    stage.main.recover()
    stage.spare.recover()
    await stage.clarion.start()
    await stage.client.wait_drained()
    last = await stage.client.get(stage.accepted[-1])
    tell(f"   The last one, in its own words: {last['explanation']}")


async def _held(client: ClarionClient) -> str:
    async with asyncio.timeout(20):
        while True:
            (lane,) = (await client.queues())["items"]
            if lane["held"]:
                return str(lane["held_reason"])
            await asyncio.sleep(0.05)


async def judge(stage: Stage) -> bool:
    """Compare what was accepted with what arrived."""
    found, stats = stage.delivered(), await stage.client.stats()
    lost = [id for id in stage.accepted if not found[id]]
    twice = [id for id, n in found.items() if n > 1]
    marked = [id for id in twice if (await stage.client.get(id))["possibly_duplicated"]]
    tell(f"{len(stage.accepted)} accepted, {len(lost)} lost, {len(twice)} arrived twice.")
    return not lost and marked == twice and stats["accepted"] == len(stage.accepted)


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def demonstrate(directory: Path) -> bool:
    """Play all acts in a directory; return whether every promise was kept."""
    async with SendGridLookalike() as main, SendGridLookalike() as spare:
        providers: dict[str, dict[str, Any]] = {
            "main": main.settings(), "spare": spare.settings(),
        }  # fmt: skip
        settings_toml(
            directory / "settings.toml",
            providers=providers, channels={"email": ["main", "spare"]}, breaker=_BREAKER,
        )  # fmt: skip
        async with ClarionProcess(directory) as clarion:
            stage = Stage(clarion, main, spare)
            for act in (all_is_well, main_breaks, nobody_delivers, all_recovers):
                await act(stage)
            is_kept = await judge(stage)
            await clarion.terminate()
    return is_kept


def run() -> int:
    """Play in a directory that is gone afterwards; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="clarion-demo-") as directory:
        is_kept = asyncio.run(demonstrate(Path(directory)))
    tell("Every promise was kept." if is_kept else "A promise was broken.")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(run())
