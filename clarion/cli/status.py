"""`clarion status`: how the server stands, or the story of one notification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from clarion.cli.client import Server
from clarion.cli.option import Json, Url, guarded, output, server
from clarion.cli.output import Output

_TIMELINE: Final = (
    "at", "event", "provider", "why", "outcome", "reason", "detail", "passed over",
)  # fmt: skip


@guarded
def status(
    context: typer.Context,
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A notification.", show_default=False)
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show lanes, providers and counts; with an ID what became of that notification, and why."""
    out, there = output(context, as_json), server(context, url)
    if id is not None and not id.strip():
        raise typer.BadParameter("an id is 26 characters", param_hint="ID")
    if id is None:
        _show_overview(out, there)
    else:
        show_notification(out, there.get("notifications", id))


def _show_overview(out: Output, there: Server) -> None:
    found = {name: there.get(name) for name in ("stats", "queues", "providers")}
    if out.is_json:
        out.document(found)
        return
    counts = found["stats"].get("by_status") or {}
    told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    out.line(f"{found['stats'].get('accepted', 0)} accepted" + (f": {told}" if told else ""))
    out.line("")
    show_queues(out, items_of(found["queues"]))
    out.line("")
    show_providers(out, items_of(found["providers"]))


def items_of(body: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a listing, bare or under `items`."""
    rows = body.get("items", []) if isinstance(body, Mapping) else body
    return [row for row in rows or [] if isinstance(row, Mapping)]


def show_queues(out: Output, rows: list[Mapping[str, Any]]) -> None:
    """Draw the lanes."""
    columns = ("lane", "state", "ready", "scheduled", "waiting", "in flight", "oldest", "why")
    out.table(
        columns,
        [
            (
                row.get("channel"),
                lane_state(row),
                *(row.get(name) for name in ("ready", "scheduled", "waiting", "in_flight")),
                row.get("oldest_at"),
                row.get("held_reason") or row.get("problem"),
            )
            for row in rows
        ],
    )


def lane_state(row: Mapping[str, Any]) -> str:
    """Return the word for how a lane stands."""
    if row.get("paused"):
        return "paused"
    if row.get("held"):
        return "held"
    return "open" if row.get("accepting", True) else "closed"


def show_providers(out: Output, rows: list[Mapping[str, Any]]) -> None:
    """Draw the providers with their breakers."""
    columns = ("provider", "kind", "channels", "state", "circuit", "in flight", "slots", "why")
    out.table(
        columns,
        [
            (
                *(row.get(name) for name in ("name", "kind", "channels", "state")),
                circuit_of(row),
                *(row.get(name) for name in ("in_flight", "slots", "reason")),
            )
            for row in rows
        ],
    )


def circuit_of(row: Mapping[str, Any]) -> Any:
    """Return the state of a provider's circuit."""
    found = row.get("breaker") or row.get("circuit")
    return found.get("state") if isinstance(found, Mapping) else found


def show_notification(out: Output, notification: Mapping[str, Any]) -> None:
    """Tell the story of one notification."""
    if out.is_json:
        out.document(notification)
        return
    told = notification.get
    out.line(f"{told('id')}  {told('channel')} to {told('to')}")
    out.line(f"{told('status')}{_by(notification)}, {_counted(told('attempts') or 0, 'attempt')}")
    if told("explanation"):
        out.line(str(told("explanation")))
    timeline = told("timeline") or []
    if timeline:
        out.line("")
        out.table(*_filled(_TIMELINE, [_event(each) for each in timeline]))


def _filled(
    columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> tuple[list[str], list[list[object]]]:
    """Leave out the columns that say nothing in any row: a story should fit into a window."""
    kept = [n for n in range(len(columns)) if any(row[n] not in (None, "") for row in rows)]
    return [columns[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _by(notification: Mapping[str, Any]) -> str:
    provider = notification.get("provider")
    twice = " (possibly twice)" if notification.get("possibly_duplicated") else ""
    return (f" by {provider}" if provider else "") + twice


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _event(event: Mapping[str, Any]) -> list[object]:
    plain: list[object] = [event.get(name) for name in _TIMELINE[:-1]]
    return [*plain, _passed_over(event.get("considered"))]


def _passed_over(considered: Any) -> str:
    match considered:
        case Mapping():
            return "; ".join(f"{name}: {why}" for name, why in considered.items())
        case list():
            return "; ".join(_one_passed_over(each) for each in considered)
        case _:
            return ""


def _one_passed_over(each: Any) -> str:
    match each:
        case {"provider": name, **rest}:
            return f"{name}: {rest.get('reason') or rest.get('why') or ''}"
        case [name, why]:
            return f"{name}: {why}"
        case _:
            return str(each)
