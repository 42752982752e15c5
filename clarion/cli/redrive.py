"""Following a redrive to its end, with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from clarion.cli.client import Server, ServerProblem, ServerUnreachable, is_passing
from clarion.cli.output import Output
from clarion.policies.clock import Clock

POLL_S: Final = 0.2
POLL_MAX_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""A server that is gone for so long is not waited for any more; the redrive goes on with it."""

Redrive = Mapping[str, Any]


@dataclass(slots=True)
class Follower:
    """Reads how far a redrive got until it has ended."""

    there: Server
    out: Output
    clock: Clock
    pause: Event = field(default_factory=Event)

    def follow(self, begun: Redrive) -> Redrive:
        """Return the redrive at its end. At Ctrl-C it says that it goes on, and how to stop it.

        Raises ServerUnreachable when the server is gone for longer than `PATIENCE_S`.
        """
        self.out.note(
            f"redrive {begun['id']}: {begun['matched']:,} to move, {begun['rate']:g} a second"
        )
        try:
            with _bar(begun) as show:
                return self._until_ended(begun, show)
        except KeyboardInterrupt:
            self.out.note(
                f"it goes on by itself; to stop it: clarion dead-letters cancel {begun['id']}"
            )
            raise

    def _until_ended(self, found: Redrive, show: Callable[[Redrive], None]) -> Redrive:
        answered_at = self.clock.monotonic()
        delay_s = POLL_S
        while found.get("state") == "running":
            self.pause.wait(delay_s)
            delay_s = min(delay_s * 1.5, POLL_MAX_S)
            try:
                found = self.there.get("dead-letters", "redrives", found["id"])
            except (ServerProblem, ServerUnreachable) as error:
                if not is_passing(error) or self.clock.monotonic() > answered_at + PATIENCE_S:
                    raise
                continue
            answered_at = self.clock.monotonic()
            show(found)
        return found


@contextmanager
def _bar(begun: Redrive) -> Iterator[Callable[[Redrive], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("moving", total=begun["matched"])

        def show(found: Redrive) -> None:
            done = found["moved"] + found["skipped"]
            progress.update(task, completed=done, total=found["matched"])

        yield show


def show_redrive(out: Output, found: Redrive) -> None:
    """Tell how far a redrive got."""
    if out.is_json:
        out.document(found)
        return
    skipped = f", {found['skipped']:,} skipped" if found["skipped"] else ""
    out.line(
        f"redrive {found['id']} is {found['state']}:"
        f" {found['moved']:,} of {found['matched']:,} moved{skipped}"
    )
