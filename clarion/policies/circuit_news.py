"""News of a circuit from another node, and what it means to the circuit here.

A provider that one node found down is left alone by all, for the time that the one decided on;
then each probes by itself, and judges by its own probes: what fails may be the other node's way
there. A circuit that a probe closed elsewhere may be probed here at once. What an operator decided
holds, and so does a probe of one's own that is out. News that are old, garbled or without end
change nothing beyond what one's own settings would.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from clarion.domain.value import value_class
from clarion.policies.breaker import BreakerSnapshot

Kind = Literal["open", "closed", "paused"]

FRESH_S = 5.0
"""A circuit that closed longer ago may have opened again since, unheard."""
AHEAD_S = 0.5
"""What was told later than now by more was told by no clock of ours."""


@value_class
class News:
    """What a node found out: a circuit opened or closed, or a provider asks for a pause."""

    kind: Kind
    provider: str
    node: str
    remaining_s: float = 0.0
    """For how long it is open, or paused; the time on the way here is subtracted."""
    open_count: int = 0
    """Openings in a row, for the growth of the next one."""
    at: float = 0.0
    """When it was told, by the server's clock: orders the news of one provider."""
    age_s: float = 0.0

    @property
    def topic(self) -> tuple[str, str]:
        """Return what it is about: newer news of the same topic replace it."""
        return "pause" if self.kind == "paused" else "circuit", self.provider

    @property
    def is_over(self) -> bool:
        """Whether it tells nothing any more."""
        if self.kind == "closed":
            return self.age_s > FRESH_S
        return self.remaining_s <= 0.0


def open_for(
    circuit: BreakerSnapshot, news: News, longest_s: float, *, is_disproved: bool
) -> float | None:
    """Return for how long the circuit here is to be open (0: probe at once), None to leave it.

    `longest_s` is what its own settings would come to at most. `is_disproved` says that a probe
    from here succeeded after that node said that the provider is down: that its own probes go on to
    fail is no news.
    """
    if news.is_over:
        return None
    match news.kind, circuit.state:
        case "open", "closed":
            is_known = is_disproved and news.open_count > 1
            return None if is_known else min(news.remaining_s, longest_s)
        case "closed", "open":
            return 0.0 if circuit.retry_after else None
        case _:
            return None


def write(news: News, at: float) -> str:
    """Write news as a line; `at` is when it is told, in seconds of the server's clock."""
    until = at + news.remaining_s
    return f"{news.kind} {news.provider} {news.node} {news.open_count} {at:.6f} {until:.6f}"


def read(line: str, now: float) -> News | None:
    """Return what a line says at an instant of the server's clock; None where it says nothing."""
    try:
        kind, provider, node, open_count, at, until = line.split(" ")
        opened, told, ends = int(open_count), float(at), float(until)
    except ValueError:
        return None
    if kind not in get_args(Kind) or not 0 <= opened < 1_000 or not told <= now + AHEAD_S:
        return None
    remaining_s = ends - max(now, told)
    if not remaining_s < float("inf"):
        return None
    return News(cast(Kind, kind), provider, node, remaining_s, opened, told, max(0.0, now - told))
