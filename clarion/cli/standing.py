"""How lanes and providers stand, as tables: for `status`, `top` and the lists.

What a server says in sentences stands under a table, where it has the width of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from clarion.cli.table import Figure, Table
from clarion.cli.wording import age, clean, span

if TYPE_CHECKING:
    from rich.text import Text

Row = Mapping[str, Any]

_STYLES: Final = {
    "open": "green", "paused": "yellow", "held": "red", "closed": "red",
    "circuit closed": "green", "circuit half_open": "yellow", "circuit open": "red",
    "circuit forced_open": "red", "circuit disabled": "yellow",
    "provider misconfigured": "red", "provider disabled": "yellow", "provider throttled": "yellow",
}  # fmt: skip
_LANES: Final = ("lane", "state", "ready", "scheduled", "waiting", "in flight", "oldest")
_PROVIDERS: Final = (
    "provider", "kind", "channels", "state", "circuit", "failures", "in flight", "slots",
    "again in",
)  # fmt: skip

_NODES: Final = ("node", "host", "pid", "address", "version", "runs for")


def items_of(body: Row) -> list[Row]:
    """Return the rows of a listing."""
    return [row for row in body.get("items") or [] if isinstance(row, Mapping)]


def lanes(
    rows: Sequence[Row],
    now: float,
    more: Sequence[str] = (),
    more_of: Callable[[Row], Sequence[object]] = lambda _: (),
) -> Table:
    """Return a table of lanes at `now`, in epoch seconds, with `more` columns at its end."""
    return Table((*_LANES, *more), [(*_lane(row, now), *more_of(row)) for row in rows])


def _lane(row: Row, now: float) -> Sequence[object]:
    state, oldest = lane_state(row), age(row.get("oldest_at"), now)
    return (
        row.get("channel"),
        _styled(state, state),
        *(row.get(name) for name in ("ready", "scheduled", "waiting", "in_flight")),
        oldest and Figure(oldest),
    )


def lane_state(row: Row) -> str:
    """Return the word for how a lane stands."""
    if row.get("paused"):
        return "paused"
    if row.get("held"):
        return "held"
    return "open" if row.get("accepting", True) else "closed"


def lane_trouble(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each lane that has something to say."""
    return _sentences(rows, "channel", "held_reason", "problem")


def providers(rows: Sequence[Row]) -> Table:
    """Return a table of providers with their breakers."""
    spare = ("failures", "channels", "kind", "slots")
    return Table(_PROVIDERS, [_provider(row) for row in rows], spare=spare)


def _provider(row: Row) -> Sequence[object]:
    circuit, state, wait_s = circuit_of(row), row.get("state"), row.get("retry_after_s")
    return (
        *(row.get(name) for name in ("name", "kind", "channels")),
        _styled(str(state or "-"), f"provider {state}"),
        _styled(str(circuit or "-"), f"circuit {circuit}"),
        *(row.get(name) for name in ("failures", "in_flight", "slots")),
        None if wait_s is None else Figure(span(wait_s)),
    )


def nodes(rows: Sequence[Row], now: float) -> Table:
    """Return a table of the nodes that share something, at `now` in epoch seconds."""
    return Table(_NODES, [_node(row, now) for row in rows], spare=("address", "version"))


def _node(row: Row, now: float) -> Sequence[object]:
    runs_for = age(row.get("since"), now)
    told = (row.get(name) for name in ("id", "host", "address", "version"))
    id, host, address, version = told
    return id, host, str(row.get("pid") or ""), address, version, runs_for and Figure(runs_for)


def circuit_of(row: Row) -> Any:
    """Return the state of a provider's circuit."""
    found = row.get("breaker") or row.get("circuit")
    return found.get("state") if isinstance(found, Mapping) else found


def provider_trouble(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each provider that has something to say."""
    return _sentences(rows, "name", "reason")


def summary(stats: Row) -> str:
    """Return how many were accepted and what became of them, as one line."""
    told = [f"{n:,} {name}" for name, n in (stats.get("by_status") or {}).items() if n]
    accepted = f"{stats.get('accepted', 0):,} accepted"
    return f"{accepted}: {', '.join(told)}" if told else accepted


def _sentences(rows: Sequence[Row], name: str, *words: str) -> list[str]:
    found = ((row.get(name), next(filter(None, map(row.get, words)), None)) for row in rows)
    return [f"{who}: {said}" for who, said in found if said]


def _styled(text: str, state: str) -> Text:
    from rich.text import Text

    return Text(clean(text), style=_STYLES.get(state, ""))
