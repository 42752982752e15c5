"""The end of `make demo`: what was accepted, what arrived, and whether that comes to the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table

from clarion.testing.client import ClarionClient
from clarion.testing.demo_stage import Stage

PAGE: int = 200
"""Notifications that are read at once."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row: what was counted, and for a promise whether it is kept."""

    what: str
    count: int
    is_kept: bool | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts of three parties: the sender, Clarion and the providers."""

    answered: frozenset[str]
    """Ids that the sender was answered 202 for."""
    accepted: int
    """What `/v1/stats` says."""
    by_status: Mapping[str, int]
    marked: frozenset[str]
    """Ids that Clarion says may have been sent twice."""
    primary: Counter[str]
    backup: Counter[str]

    @property
    def is_even(self) -> bool:
        """Whether every promise is kept."""
        return all(line.is_kept is not False for line in self.lines())

    def lines(self) -> Iterator[Line]:
        """Yield the rows of the table, in order."""
        arrivals = self.primary + self.backup
        lost, twice = self.answered - set(arrivals), {id for id, n in arrivals.items() if n > 1}
        yield Line("answered 202, says the sender", len(self.answered))
        yield Line(
            "accepted, says Clarion", self.accepted, is_kept=self.accepted == len(self.answered)
        )
        for status, count in sorted(self.by_status.items()):
            yield Line(f"   {status}", count)
        total = sum(self.by_status.values())
        yield Line("   all statuses together", total, is_kept=total == self.accepted)
        yield Line("arrived at primary", self.primary.total())
        yield Line("arrived at backup", self.backup.total())
        yield Line("   different ones", len(arrivals), is_kept=set(arrivals) == self.answered)
        yield Line("lost", len(lost), is_kept=not lost)
        yield Line("arrived more than once", len(twice))
        yield Line(
            "   of these marked possibly_duplicated", len(twice & self.marked),
            is_kept=twice <= self.marked,
        )  # fmt: skip
        yield Line("marked, and arrived once all the same", len(self.marked - twice))

    def table(self) -> Table:
        """Draw it."""
        table = Table(title="The books", title_justify="left", title_style="bold", min_width=52)
        table.add_column("counted")
        table.add_column("", justify="right")
        table.add_column("")
        for line in self.lines():
            table.add_row(line.what, f"{line.count:,}", _mark(line.is_kept))
        return table


async def balance_of(stage: Stage) -> Balance:
    """Count everything once the lane is empty."""
    stats = await stage.client.stats()
    return Balance(
        answered=frozenset(stage.stream.accepted),
        accepted=stats["accepted"],
        by_status={status: n for status, n in stats["by_status"].items() if n},
        marked=await _marked(stage.client),
        primary=Counter(stage.primary.deliveries),
        backup=Counter(stage.backup.deliveries),
    )


async def _marked(client: ClarionClient) -> frozenset[str]:
    found: set[str] = set()
    path = f"/v1/notifications?limit={PAGE}"
    cursor = ""
    while True:
        page = (await client.request("GET", path + cursor)).body
        found |= {each["id"] for each in page["items"] if each["possibly_duplicated"]}
        if not page["next"]:
            return frozenset(found)
        cursor = f"&cursor={page['next']}"


def _mark(is_kept: bool | None) -> str:
    match is_kept:
        case True:
            return "[green]✓[/]"
        case False:
            return "[bold red]✗[/]"
        case None:
            return ""
