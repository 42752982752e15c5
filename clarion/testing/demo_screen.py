"""How `make demo` looks: a story line by line, and on a terminal a live view under it."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from clarion.testing.demo_stage import Stage, Standing
from clarion.testing.sendgrid import SendGridLookalike

REFRESH_S: Final = 0.2
PIPE_WIDTH: Final = 100
"""Columns where there is no terminal to ask."""

_INDENT: Final = " " * 9
_CIRCUIT: Final = {
    "closed": ("closed", "green"),
    "half_open": ("half-open: probing", "yellow"),
    "open": ("OPEN", "bold red"),
}


class Screen:
    """Tells the story; `is_live` where somebody looks at it on a terminal."""

    def __init__(self) -> None:
        self.is_live = sys.stdout.isatty()
        self._console = Console(
            file=sys.stdout, highlight=False, width=None if self.is_live else PIPE_WIDTH
        )
        self._begun_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun_at

    def act(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.print(Rule(Text(title, style="bold"), align="left", style="dim"))

    def say(self, text: str) -> None:
        """Tell what happens, with the time at which it does."""
        at = f"{self.elapsed_s:5.1f} s  "
        line = Text(self._wrapped(at + text))
        line.stylize("dim", 0, len(at))
        if line.plain[len(at) :].split(":")[0].isupper():
            line.stylize("bold yellow", len(at), line.plain.index(":"))
        self._console.print(line, soft_wrap=True)

    def quote(self, text: str) -> None:
        """Repeat what Clarion itself says."""
        self._console.print(
            Text(self._wrapped(f"{_INDENT}“{text}”"), style="italic cyan"), soft_wrap=True
        )

    def show(self, what: RenderableType) -> None:
        """Print anything that rich can print."""
        self._console.print(what)

    def _wrapped(self, text: str) -> str:
        # Not left to rich, which fills lines up with blanks.
        return textwrap.fill(text, self._console.width, subsequent_indent=_INDENT)

    @asynccontextmanager
    async def live_view_of(self, stage: Stage) -> AsyncIterator[None]:
        """Draw how everything stands, again and again, under the story."""
        if not self.is_live:
            yield
            return
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            drawing = asyncio.create_task(_draw(live, stage))
            try:
                yield
            finally:
                drawing.cancel()
                await asyncio.wait({drawing})


async def _draw(live: Live, stage: Stage) -> None:
    while True:
        live.update(_view(stage, await stage.standing()), refresh=True)
        await asyncio.sleep(REFRESH_S)


def _view(stage: Stage, standing: Standing | None) -> RenderableType:
    title = f"Clarion · process {stage.clarion.pid} · {stage.clarion.url}"
    if standing is None:
        title = "Clarion · does not answer"
    body = Group(_providers(stage, standing), Text(), _lane(stage, standing))
    return Panel(body, title=title, border_style="green" if standing else "red", padding=(0, 1))


def _providers(stage: Stage, standing: Standing | None) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("provider")
    table.add_column("circuit")
    table.add_column("on the wire", justify="right")
    table.add_column("arrived there", justify="right")
    for name, server in (("primary", stage.primary), ("backup", stage.backup)):
        table.add_row(name, *_provider(name, server, standing))
    return table


def _provider(
    name: str, server: SendGridLookalike, standing: Standing | None
) -> tuple[RenderableType, ...]:
    arrived = f"{server.deliveries.total():,}"
    if standing is None or name not in standing.providers:
        return Text("–", style="dim"), "–", arrived
    said = standing.providers[name]
    words, style = _CIRCUIT.get(said["circuit"], (said["circuit"], "red"))
    return Text(words, style=style), str(said["in_flight"]), arrived


def _lane(stage: Stage, standing: Standing | None) -> Text:
    line = Text(f"accepted {len(stage.stream.accepted):,}")
    if standing is None:
        return line.append(f"   requests repeated {stage.stream.repeats:,}", style="yellow")
    by_status = standing.stats["by_status"]
    line.append(f"   sent {by_status.get('sent', 0):,}", style="green")
    line.append(f"   waiting {standing.waiting:,}", style="yellow" if standing.waiting else "dim")
    if standing.lane["held"]:
        line.append("   HELD", style="bold red")
    return line
