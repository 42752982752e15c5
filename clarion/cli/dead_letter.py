"""`clarion dead-letters` and `clarion resolve`: what ended badly, and what to do about it."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from clarion.cli.client import Server
from clarion.cli.option import ExitCode, Instant, Json, Url, guarded, output, server
from clarion.cli.output import Output
from clarion.cli.redrive import Follower, show_redrive
from clarion.cli.standing import items_of
from clarion.cli.status import show_notification
from clarion.cli.table import Table
from clarion.policies.clock import SystemClock

app = typer.Typer(
    help="Look at what failed for good, send it again, or put it aside.", no_args_is_help=True
)

Reason = Annotated[
    str | None, typer.Option(metavar="WORD", help="exhausted, permanent, recipient or poison.")
]
Provider = Annotated[str | None, typer.Option(metavar="NAME", help="The last one that was tried.")]
Channel = Annotated[str | None, typer.Option(metavar="CHANNEL")]
Since = Annotated[str | None, Instant]
Until = Annotated[str | None, Instant]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")]
Id = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", show_default=False, help="These, instead of a filter."),
]


@app.command("list")
@guarded
def list_dead_letters(
    context: typer.Context,
    reason: Reason = None,
    provider: Provider = None,
    channel: Channel = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Items of a page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Where the last page ended.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the latest first."""
    out, there = output(context, as_json), server(context, url)
    wanted = _wanted(reason, provider, channel, since, until)
    page = there.get("dead-letters", **wanted, limit=str(limit), cursor=cursor)
    if out.is_json:
        out.document(page)
        return
    rows = items_of(page)
    if not rows:
        out.note("there are no dead letters like that")
        return
    columns = ("id", "channel", "to", "reason", "provider", "attempts", "updated_at", "explanation")
    out.table(Table(columns, [[row.get(name) for name in columns] for row in rows]))
    if page.get("next"):
        out.note(f"there are more: --cursor {page['next']}")


def _wanted(
    reason: str | None,
    provider: str | None,
    channel: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, str]:
    given = {
        "reason": reason,
        "provider": provider,
        "channel": channel,
        "since": since,
        "until": until,
    }
    return {name: value for name, value in given.items() if value is not None}


@app.command("show")
@guarded
def show(context: typer.Context, id: Id, url: Url = None, as_json: Json = False) -> None:
    """Tell the story of one, call by call."""
    out, there = output(context, as_json), server(context, url)
    if not id.strip():
        raise typer.BadParameter("an id is 26 characters", param_hint="ID")
    found = there.get("notifications", id)
    show_notification(out, found)
    if found.get("status") != "failed":
        out.note(f"it is no dead letter: its status is {found.get('status')}")
        raise typer.Exit(ExitCode.NO)


# --- redrives --------------------------------------------------------------------------------


@app.command("redrive")
@guarded
def redrive(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    provider: Provider = None,
    channel: Channel = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="How many a second at most (default 10).")
    ] = None,
    dry_run: DryRun = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for its end; it goes on by itself.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Send dead letters again, with all their attempts, behind everything fresh."""
    out, there = output(context, as_json), server(context, url)
    body = _filter(ids, reason, provider, channel, since, until)
    if dry_run:
        _show_count(out, _count(there, "redrive", body))
        return
    begun = there.post(
        "dead-letters", "redrive", body=body | ({} if rate is None else {"rate": rate})
    )
    if not detach:
        begun = Follower(there, out, SystemClock()).follow(begun)
    show_redrive(out, begun)
    if begun.get("state") == "cancelled":
        raise typer.Exit(ExitCode.NO)
    _check_all_found(out, ids, begun["matched"] if detach else begun["moved"])


def _filter(
    ids: list[str] | None,
    reason: str | None,
    provider: str | None,
    channel: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, Any]:
    wanted: dict[str, Any] = _wanted(reason, provider, channel, since, until)
    return wanted | ({"ids": ids} if ids else {})


def _check_all_found(out: Output, ids: list[str] | None, n: int) -> None:
    """Of those that were named, each is expected to be a dead letter: else the answer is no."""
    missing = len(set(ids or ())) - n
    if missing > 0:
        what = "is no dead letter" if missing == 1 else "are no dead letters"
        out.note(f"{missing} of those that were named {what}")
        raise typer.Exit(ExitCode.NO)


def _count(there: Server, verb: str, body: dict[str, Any]) -> int:
    return int(there.post("dead-letters", verb, body={**body, "dry_run": True})["matched"])


def _show_count(out: Output, n: int) -> None:
    if out.is_json:
        out.document({"matched": n})
    else:
        out.line(f"{n} dead {'letter' if n == 1 else 'letters'} like that")


@app.command("redrives")
@guarded
def list_redrives(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show the latest redrives and how far they got."""
    out, there = output(context, as_json), server(context, url)
    found = there.get("dead-letters", "redrives")
    if out.is_json:
        out.document(found)
        return
    columns = ("id", "state", "matched", "moved", "skipped", "rate", "created_at", "ended_at")
    out.table(Table(columns, [[row.get(name) for name in columns] for row in items_of(found)]))


@app.command("cancel")
@guarded
def cancel(context: typer.Context, id: Id, url: Url = None, as_json: Json = False) -> None:
    """Let a redrive move no more; what it has moved goes on."""
    out, there = output(context, as_json), server(context, url)
    show_redrive(out, there.post("dead-letters", "redrives", id, "cancel"))


# --- discard and resolve ---------------------------------------------------------------------


@app.command("discard")
@guarded
def discard(
    context: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    provider: Provider = None,
    channel: Channel = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Put dead letters aside: they stay failed, and are listed and sent again no more."""
    out, there = output(context, as_json), server(context, url)
    body = _filter(ids, reason, provider, channel, since, until)
    if dry_run:
        _show_count(out, _count(there, "discard", body))
        return
    if not yes:
        _confirm(_count(there, "discard", body))
    found = there.post("dead-letters", "discard", body=body)
    if out.is_json:
        out.document(found)
    else:
        out.line(f"{found['discarded']} put aside")
    _check_all_found(out, ids, found["discarded"])


def _confirm(n: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("say it where nobody can be asked", param_hint="--yes")
    if not typer.confirm(f"Put {n} aside? They cannot be sent again.", err=True):
        raise typer.Exit(ExitCode.NO)


class Resolution(StrEnum):
    """What a person decides about an `unknown` one."""

    SENT = "sent"
    RETRY = "retry"


@guarded
def resolve(
    context: typer.Context,
    id: Id,
    resolution: Annotated[
        Resolution,
        typer.Option(
            "--as", help="sent: a provider had it. retry: send it again; it may arrive twice."
        ),
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Decide about a notification that may have been sent: its status is unknown."""
    out, there = output(context, as_json), server(context, url)
    show_notification(
        out, there.post("notifications", id, "resolve", body={"as": resolution.value})
    )
