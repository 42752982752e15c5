"""Times all cases and writes them as JSON; runs in an environment that has the peers, too."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import stamina
import structlog

from benchmarks import loop
from benchmarks.micro import actor, stack
from benchmarks.micro.case import Found, Group, measure


async def _each(groups: Sequence[Group], count: int, rounds: int) -> list[Found]:
    return [await measure(group, count=count, rounds=rounds) for group in groups]


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="single parts beside other libraries")
    parser.add_argument("--count", type=int, default=20_000, help="times of each part")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each case")
    parser.add_argument("--json", type=Path, required=True, help="file of the result")
    asked = parser.parse_args()
    # What is measured is the machinery: stamina would log each attempt, and we our actors.
    stamina.instrumentation.set_on_retry_hooks(())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found = loop.run(_each((*actor.GROUPS, *stack.GROUPS), asked.count, asked.rounds))
    # Waking a task costs a turn of the loop, so for actors it matters whose loop it is.
    slow = [replace(group, title=f"{group.title}; asyncio's own loop") for group in actor.GROUPS]
    found += asyncio.run(_each(slow, asked.count, asked.rounds))
    asked.json.write_text(json.dumps([asdict(each) for each in found]))


if __name__ == "__main__":
    main()
