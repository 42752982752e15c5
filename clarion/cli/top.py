"""`clarion top`: lanes, providers and their breakers as they stand, drawn anew each second.

Rates are what changed in the counts between two looks, so the first look has none.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from clarion.cli import standing
from clarion.cli.client import Server, ServerProblem, ServerUnreachable, is_passing
from clarion.cli.option import Json, Url, guarded, output, server
from clarion.cli.output import make_console
from clarion.cli.standing import items_of
from clarion.cli.table import Figure
from clarion.cli.wording import clean
from clarion.domain.notification import Status
from clarion.policies.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_S: Final = 1.0

_ARRIVED: Final = (Status.SENT, Status.DELIVERED, Status.UNDELIVERED)
"""A receipt moves a notification from the first to the others: one sending, whatever follows."""
_LOST: Final = (Status.FAILED, Status.EXPIRED, Status.UNKNOWN)
_RATES: Final = ("accepted/s", "sent/s", "lost/s")


@dataclass(frozen=True, slots=True)
class Look:
    """What the server said at one instant: `at_s` is monotonic, `now` epoch seconds."""

    at_s: float
    now: float
    stats: Mapping[str, Any]
    lanes: list[Mapping[str, Any]]
    providers: list[Mapping[str, Any]]
    trouble: str = ""
    """Why it could not be asked since."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What happens in a second; None while there is nothing to compare with."""

    accepted: float | None = None
    sent: float | None = None
    lost: float | None = None


class Keys(Protocol):
    """What a person types."""

    def is_end(self, timeout_s: float) -> bool:
        """Wait so long, and tell whether they want to leave; at once when they do."""
        ...


@guarded
def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Watch lanes, providers and breakers; q ends it. In a pipe, or with --json, once."""
    out, there = output(context, as_json), server(context, url)
    first = look(there, SystemClock())
    if out.is_json:
        lanes, providers = {"items": first.lanes}, {"items": first.providers}
        out.document({"stats": first.stats, "queues": lanes, "providers": providers})
    elif once or not sys.stdout.isatty():
        make_console().print(frame(there.url, None, first))
    else:
        with _typed() as keys:
            watch(there, first, SystemClock(), keys, make_console())


def look(there: Server, clock: Clock) -> Look:
    """Ask the server how all stands. Raises ServerUnreachable, ServerProblem."""
    stats, lanes, providers = (there.get(name) for name in ("stats", "queues", "providers"))
    return Look(clock.monotonic(), clock.now(), stats, items_of(lanes), items_of(providers))


def watch(there: Server, first: Look, clock: Clock, keys: Keys, console: Console) -> None:
    """Draw until somebody wants to leave; a server that is away is told, and asked again."""
    from rich.live import Live

    before, now = None, first
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            live.update(frame(there.url, before, now), refresh=True)
            while not keys.is_end(REFRESH_S):
                before, now = now, _look_again(there, clock, now)
                live.update(frame(there.url, before, now), refresh=True)
        except KeyboardInterrupt:
            return


def _look_again(there: Server, clock: Clock, latest: Look) -> Look:
    try:
        return look(there, clock)
    except (ServerProblem, ServerUnreachable) as error:
        if not is_passing(error):
            raise
        return replace(latest, trouble=str(error))


# --- rates -----------------------------------------------------------------------------------


def rates(before: Look | None, now: Look, channel: str) -> Rates:
    """Return what happened on a channel in each second between two looks."""
    elapsed_s = 0.0 if before is None else now.at_s - before.at_s
    if before is None or elapsed_s <= 0:
        return Rates()
    old, new = _counts(before, channel), _counts(now, channel)
    # A count that fell is another database, or a redrive: no rate.
    return Rates(*(max(0, b - a) / elapsed_s for a, b in zip(old, new, strict=True)))


def _counts(seen: Look, channel: str) -> tuple[int, int, int]:
    found = (seen.stats.get("by_channel") or {}).get(channel) or {}
    by_status = found.get("by_status") or {}
    arrived = sum(by_status.get(each, 0) for each in _ARRIVED)
    return found.get("accepted", 0), arrived, sum(by_status.get(each, 0) for each in _LOST)


# --- a frame ---------------------------------------------------------------------------------


def frame(url: str, before: Look | None, now: Look) -> RenderableType:
    """Return one picture of how all stands."""
    from rich.console import Group
    from rich.text import Text

    at = datetime.fromtimestamp(now.now).astimezone().strftime("%H:%M:%S")
    parts: list[RenderableType] = [Text(clean(f"{url}  {at}  {standing.summary(now.stats)}"))]
    if now.trouble:
        parts.append(Text(clean(now.trouble), style="red"))
    lanes = standing.lanes(now.lanes, now.now, _RATES, lambda row: _paces(before, now, row))
    parts += [Text(), lanes, Text(), standing.providers(now.providers)]
    trouble = [*standing.lane_trouble(now.lanes), *standing.provider_trouble(now.providers)]
    if trouble:
        parts += [Text(), *(Text(clean(each)) for each in trouble)]
    return Group(*parts)


def _paces(before: Look | None, now: Look, row: Mapping[str, Any]) -> list[object]:
    pace = rates(before, now, str(row.get("channel")))
    return [_pace(each) for each in (pace.accepted, pace.sent, pace.lost)]


def _pace(per_second: float | None) -> Figure:
    return Figure("-" if per_second is None else f"{per_second:,.1f}")


# --- the terminal ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Terminal:
    """Keys of a terminal that hands each over at once."""

    fd: int

    def is_end(self, timeout_s: float) -> bool:
        readable, _, _ = select.select([self.fd], [], [], timeout_s)
        # At the end of the input nobody can type q any more: the window is gone.
        return bool(readable) and os.read(self.fd, 1) in (b"q", b"Q", b"")


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Standard input is no terminal: Ctrl-C alone ends it."""

    def is_end(self, timeout_s: float) -> bool:
        return Event().wait(timeout_s)


@contextmanager
def _typed() -> Iterator[Keys]:
    """Read keys without Enter and without echo, and leave the terminal as it was."""
    try:
        import termios
        import tty
    except ImportError:
        yield _Nobody()
        return
    if not sys.stdin.isatty():
        yield _Nobody()
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Terminal(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
