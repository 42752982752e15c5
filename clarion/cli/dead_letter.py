"""`clarion dead-letters`: what failed for good, and what to do about it."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from math import isfinite
from typing import Annotated, Any, Final

import typer

from clarion.cli.client import Server
from clarion.cli.notification import show_next
from clarion.cli.option import (
    PROVIDERS,
    ZONED,
    Channel,
    Cursor,
    ExitCode,
    Id,
    Json,
    Limit,
    Url,
    found_by_id,
    guarded,
    output,
    server,
    words,
)
from clarion.cli.output import Output
from clarion.cli.redrive import Follower, show_redrive
from clarion.cli.standing import Row, items_of
from clarion.cli.status import show_notification
from clarion.cli.table import Figure, Table
from clarion.cli.wording import age, counted
from clarion.domain.redrive import DEAD_REASONS
from clarion.policies.clock import SystemClock

app = typer.Typer(
    help="See what failed for good, send it again, or put it aside.", no_args_is_help=True
)

_FILTER: Final = ("reason", "provider", "channel", "since", "until", "ids")
_COLUMNS: Final = (
    "id", "reason", "channel", "provider", "attempts", "failed", "to", "explanation",
)  # fmt: skip
_SPARE: Final = ("attempts", "channel", "provider", "failed")
_REDRIVES: Final = ("id", "state", "matched", "moved", "skipped", "rate", "began")

Reason = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="Only what failed as exhausted, permanent, recipient or poison.",
        autocompletion=words(*DEAD_REASONS),
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Only where this one was tried last.", autocompletion=PROVIDERS
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help=f"Only what failed at that time or later. {ZONED}"),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help=f"Only what failed before. {ZONED}")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", show_default=False, help="These, up to 500, instead of a filter."),
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
    limit: Limit = 50,
    cursor: Cursor = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the latest first."""
    out, there = output(context, as_json), server(context, url)
    page = there.get("dead-letters", **_filter(context), limit=str(limit), cursor=cursor)
    if out.is_json:
        out.document(page)
        return
    rows, now = items_of(page), SystemClock().now()
    if not rows:
        out.note("there are no dead letters like that")
        return
    out.table(Table(_COLUMNS, [_cells(row, now) for row in rows], spare=_SPARE))
    show_next(out, page)


def _cells(row: Row, now: float) -> list[object]:
    old = age(row.get("updated_at"), now)
    plain = [row.get(name) for name in ("id", "reason", "channel", "provider", "attempts")]
    return [*plain, old and Figure(old), row.get("to"), row.get("explanation")]


def _filter(context: typer.Context) -> dict[str, Any]:
    """Return what was said of which dead letters are meant, as the API names it."""
    given = {name: context.params.get(name) for name in _FILTER}
    # An empty word is a fault to be told, not a filter that matches all: "$UNSET" is one.
    wanted = {name: value for name, value in given.items() if value not in (None, [], ())}
    if "ids" in wanted and len(wanted) > 1:
        beside = ", ".join(f"--{name}" for name in wanted if name != "ids")
        raise typer.BadParameter(f"it names them all already: leave out {beside}", param_hint="ID")
    return wanted


@app.command("show")
@guarded
def show(context: typer.Context, id: Id, url: Url = None, as_json: Json = False) -> None:
    """Tell the story of one, call by call."""
    out, there = output(context, as_json), server(context, url)
    with found_by_id():
        found = there.get("notifications", id)
    show_notification(out, found)
    if found.get("status") != "failed":
        out.note(f"it is no dead letter: its status is {found.get('status')}")
        raise typer.Exit(ExitCode.NO)


# --- redrives --------------------------------------------------------------------------------


@app.command("redrive", short_help="Send dead letters again.")
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
    body = _filter(context)
    if rate is not None and not isfinite(rate):
        raise typer.BadParameter("write a number of notifications", param_hint="--rate")
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
        out.line(f"{counted(n, 'dead letter')} like that")


@app.command("redrives")
@guarded
def list_redrives(
    context: typer.Context,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only this redrive.", show_default=False)
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the latest redrives and how far they got, or one of them."""
    out, there = output(context, as_json), server(context, url)
    if id is not None:
        with _found_among_redrives():
            show_redrive(out, there.get("dead-letters", "redrives", id))
        return
    found = there.get("dead-letters", "redrives")
    if out.is_json:
        out.document(found)
        return
    rows, now = items_of(found), SystemClock().now()
    if not rows:
        out.note("there were no redrives yet")
        return
    out.table(Table(_REDRIVES, [_progress(row, now) for row in rows], spare=("skipped", "began")))


def _progress(row: Row, now: float) -> list[object]:
    began, rate = age(row.get("created_at"), now), row.get("rate")
    plain = [row.get(name) for name in ("id", "state", "matched", "moved", "skipped")]
    return [*plain, rate and Figure(f"{rate:g}/s"), began and Figure(began)]


@app.command("cancel")
@guarded
def cancel(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The redrive's id.", show_default=False)],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Let a redrive move no more; what it has moved goes on."""
    out, there = output(context, as_json), server(context, url)
    with _found_among_redrives():
        show_redrive(out, there.post("dead-letters", "redrives", id, "cancel"))


def _found_among_redrives() -> AbstractContextManager[None]:
    return found_by_id("`clarion dead-letters redrives` shows the latest ones, with their ids.")


# --- discard --------------------------------------------------------------------------------


@app.command("discard", short_help="Put dead letters aside for good.")
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
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Mean all, where neither ids nor a filter say which.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Put dead letters aside: they stay failed, and are listed and sent again no more."""
    out, there = output(context, as_json), server(context, url)
    body = _filter(context)
    if not body and not all_of_them and not dry_run:
        # An empty variable of a script looks the same.
        raise typer.BadParameter("give ids or a filter, or --all", param_hint="ID")
    if dry_run:
        _show_count(out, _count(there, "discard", body))
        return
    if not yes:
        _confirm(_count(there, "discard", body))
    found = there.post("dead-letters", "discard", body=body)
    if out.is_json:
        out.document(found)
    else:
        out.line(f"{found['discarded']:,} put aside")
    _check_all_found(out, ids, found["discarded"])


def _confirm(n: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("say it where nobody can be asked", param_hint="--yes")
    if not typer.confirm(f"Put {n:,} aside? They cannot be sent again.", err=True):
        raise typer.Exit(ExitCode.NO)
