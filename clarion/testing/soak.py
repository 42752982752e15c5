"""Minutes of simulation on every core: seed after seed, and the least story of one that fails.

`python -m clarion.testing.soak MINUTES [--seed FIRST]`, or `make soak MINUTES=10`. Seeds count up
from the first one; every fourth is a long world with little in it, the others are short and wild.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom

from clarion.testing.plot import Chaos, draw
from clarion.testing.shrink import shrink
from clarion.testing.story import Story

WILD = Chaos()
LONG = Chaos(
    horizon_s=50 * 3600.0, notifications=400, deaths=6, moods=60, channels=("email",)
)  # fmt: skip
LAST_LINES = 40
"""Of the trace about the accused notification, in a report."""
SHRINK_PLAYS = 300


def wildness(seed: int) -> Chaos:
    """Return how wild a seed of a soak is."""
    return LONG if seed % 4 == 0 else WILD


@dataclass(slots=True)
class Tally:
    """What was lived through."""

    worlds: int = 0
    simulated_s: float = 0.0
    notifications: int = 0
    calls: int = 0
    receipts: int = 0
    deaths: int = 0
    crashes: int = 0
    reports: list[str] = field(default_factory=list)
    """One for each seed that broke a promise."""

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.worlds += other.worlds
        self.simulated_s += other.simulated_s
        self.notifications += other.notifications
        self.calls += other.calls
        self.receipts += other.receipts
        self.deaths += other.deaths
        self.crashes += other.crashes
        self.reports += other.reports

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.simulated_s / 3600:,.1f} simulated hours,"
            f" {self.notifications:,} notifications, {self.calls:,} calls,"
            f" {self.receipts:,} receipts, {self.deaths:,} deaths, {self.crashes:,} crashes"
        )


def live(seed: int) -> Tally:
    """Live through the world of a seed; of one that breaks a promise, tell the least story."""
    story = draw(seed, wildness(seed))
    try:
        world = story.play()
    except Exception as error:  # a world that breaks down is to be shown like any other
        return Tally(worlds=1, reports=[cut_down(seed, story, repr(error))])
    tally = Tally(
        worlds=1,
        simulated_s=world.now(),
        notifications=len(world.witness.statuses),
        calls=sum(account.calls for account in world.accounts.values()),
        receipts=len(world.receipts),
        deaths=world.deaths,
        crashes=world.crashes,
    )
    if world.violations:
        tally.reports.append(cut_down(seed, story, world.violations[0]))
    return tally


def cut_down(seed: int, story: Story, violation: str) -> str:
    """Tell of a seed that breaks a promise; at once of the seed, since the rest takes minutes."""
    sys.stderr.write(f"seed {seed} breaks a promise, and is cut down: {violation}\n")
    sys.stderr.flush()
    return tell(seed, shrink(story, violation, SHRINK_PLAYS))


def tell(seed: int, story: Story) -> str:
    """Write down, for a person, what a story does and breaks, and how to see it again."""
    path = Path(os.environ.get("CLARION_STORIES", ".")) / f"story-{seed}.json"
    path.write_text(story.to_json(), encoding="utf-8")
    try:
        world = story.play()
        violations, trace = world.violations, world.trace
    except Exception as error:  # as above: shown, whatever it is
        violations, trace = [repr(error)], []
    return "\n".join([
        f"SEED {seed} breaks {len(violations)} promises; the least story that does:",
        *(f"  {violation}" for violation in violations[:5]),
        *_of_settings(story),
        *(f"  {deed}" for deed in story.deeds),
        f"  {story.horizon_s:9.3f} s  all is well; receipts of {story.receipts:.0%}",
        "the last of the trace about it:",
        *(f"  {line}" for line in accused(violations, trace)),
        f"again: python -m clarion.testing.story {path}",
    ])  # fmt: skip


def _of_settings(story: Story) -> list[str]:
    lines = [f"  [providers.{name}] {table}" for name, table in story.settings["providers"].items()]
    lines += [f"  [channels.{name}] {table}" for name, table in story.settings["channels"].items()]
    rest = ("retry", "queue", "defaults")
    return lines + [f"  [{name}] {story.settings[name]}" for name in rest if name in story.settings]


def accused(violations: list[str], trace: list[str]) -> list[str]:
    """Return the last lines about what the first violation names, up to the violation."""
    if not violations:
        return []
    words = violations[0].partition(": ")[2].replace(":", " ").split()
    known = {word for line in trace for word in line.split()[1:2]}
    names = [word for word in words if len(word) == len("01HF7YBFKN497TCEF49AWG9PE1")]
    names = names or [word for word in words if word in known]
    broken_at = next((n for n, line in enumerate(trace) if "VIOLATION" in line), len(trace) - 1)
    before = trace[: broken_at + 1]
    about = [line for line in before if any(name in line for name in names)] if names else before
    return about[-LAST_LINES:]


def soak(minutes: float, first_seed: int, say: Callable[[str], object]) -> Tally:
    """Live through seeds for so many minutes, on every core; stop at the first that fails."""
    until = time.monotonic() + minutes * 60
    started, total, seed = time.monotonic(), Tally(), first_seed
    cores = os.cpu_count() or 1
    # Spawned: a forked copy would share what the parent's threads and files have in hand.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        running: set[Future[Tally]] = set()
        while running or time.monotonic() < until:
            while len(running) < cores and time.monotonic() < until and not total.reports:
                running.add(pool.submit(live, seed))
                seed += 1
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                total.add(each.result())
    took_s = time.monotonic() - started
    say(f"seeds {first_seed} to {seed - 1} in {took_s:.0f} s on {cores} cores: {total}")
    say(f"{total.simulated_s / took_s:,.0f} simulated seconds a second")
    return total


def main() -> int:
    """Run a soak from the command line; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m clarion.testing.soak", description=__doc__)
    parser.add_argument("minutes", type=float, help="how long to go on")
    parser.add_argument("--seed", type=int, help="the first seed; the chosen one is told")
    chosen = parser.parse_args()
    first_seed = SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    total = soak(chosen.minutes, first_seed, print)
    sys.stdout.write("\n\n".join([*total.reports, ""]))
    return bool(total.reports)


if __name__ == "__main__":
    sys.exit(main())
