"""`clarion status`: how the server stands, or the story of one notification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from clarion.cli import standing
from clarion.cli.client import Server, ServerProblem
from clarion.cli.health import ask_health
from clarion.cli.option import Json, Url, found_by_id, guarded, output, server
from clarion.cli.output import Output, fold
from clarion.cli.standing import items_of
from clarion.cli.table import Table
from clarion.cli.wording import counted
from clarion.domain.notification import LIVE
from clarion.policies.clock import SystemClock

_TIMELINE: Final = ("at", "event", "provider", "outcome", "reason")


@guarded
def status(
    context: typer.Context,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A notification.", show_default=False)
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
        with found_by_id():
            show_notification(out, there.get("notifications", id))


def _show_overview(out: Output, there: Server) -> None:
    found = {name: there.get(name) for name in ("stats", "queues", "providers")}
    nodes = _nodes_of(there)
    found |= {"nodes": nodes} if nodes else {}
    if out.is_json:
        out.document(found)
        return
    out.line(standing.summary(found["stats"]))
    out.line("")
    show_queues(out, items_of(found["queues"]))
    out.line("")
    show_providers(out, items_of(found["providers"]))
    if nodes:
        out.line("")
        out.table(standing.nodes(nodes, SystemClock().now()))


def _nodes_of(there: Server) -> list[Any]:
    """Return the nodes that share something; what else stands is shown without them, too."""
    try:
        return ask_health(there).get("nodes") or []
    except ServerProblem:
        return []


def show_queues(out: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the lanes."""
    out.table(standing.lanes(rows, SystemClock().now()))
    _show_trouble(out, standing.lane_trouble(rows))


def show_providers(out: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the providers with their breakers."""
    out.table(standing.providers(rows))
    _show_trouble(out, standing.provider_trouble(rows))


def _show_trouble(out: Output, sentences: Sequence[str]) -> None:
    if sentences:
        out.line("")
        out.sentences(sentences)


def show_notification(out: Output, notification: Mapping[str, Any]) -> None:
    """Tell the story of one notification."""
    if out.is_json:
        out.document(notification)
        return
    told = notification.get
    out.line(f"{told('id')}  {told('channel')} to {told('to')}")
    out.line(f"{told('status')}{_by(notification)}, {counted(told('attempts') or 0, 'attempt')}")
    if told("explanation"):
        out.line(fold(str(told("explanation"))))
    timeline = told("timeline") or []
    if timeline:
        out.line("")
        rows = [[each.get(name) for name in _TIMELINE] for each in timeline]
        out.table(Table(_TIMELINE, rows, is_filled=True, notes=_notes(timeline)))


def show_outcome(out: Output, notification: Mapping[str, Any]) -> None:
    """Tell what became of one notification, in a line that a script can read."""
    if out.is_json:
        out.document(notification)
        return
    out.line(f"{notification['id']} {notification['status']}")
    if notification.get("explanation"):
        out.note(str(notification["explanation"]))


def _by(notification: Mapping[str, Any]) -> str:
    provider, is_live = notification.get("provider"), notification.get("status") in LIVE
    twice = " (possibly twice)" if notification.get("possibly_duplicated") else ""
    by = "last tried" if is_live else "by"
    return (f"{',' if is_live else ''} {by} {provider}" if provider else "") + twice


def _notes(timeline: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return what stands under each event; what the event before has told is not told again."""
    notes, before = [], ""
    for event in timeline:
        detail = str(event.get("detail") or "")
        notes.append(_said(event, detail if detail != before else ""))
        before = detail
    return notes


def _said(event: Mapping[str, Any], detail: str) -> list[str]:
    """Return the provider's words, and why it was that provider."""
    over, why = _passed_over(event.get("considered")), event.get("why")
    return [
        *([detail] if detail else []),
        *([f"chosen: {why}"] if why else []),
        *([f"passed over: {over}"] if over else []),
    ]


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
