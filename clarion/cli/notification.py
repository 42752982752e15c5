"""`clarion list`, `cancel` and `resolve`: find notifications, and decide about one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from clarion.cli.option import (
    Channel,
    Cursor,
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
from clarion.cli.standing import Row, items_of
from clarion.cli.status import show_outcome
from clarion.cli.table import Figure, Table
from clarion.cli.wording import age
from clarion.domain.notification import Status
from clarion.policies.clock import SystemClock

_COLUMNS = ("id", "status", "channel", "provider", "attempts", "age", "reference", "to")
_SPARE = ("reference", "attempts", "provider", "channel", "age")


@guarded
def list_notifications(
    context: typer.Context,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", help="Only these: queued, sent …", autocompletion=words(*Status)
        ),
    ] = None,
    channel: Channel = None,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Only those to this address.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those with this name of yours.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List notifications, the newest first."""
    out, there = output(context, as_json), server(context, url)
    page = there.get(
        "notifications", status=status, channel=channel, to=to, reference=reference,
        limit=str(limit), cursor=cursor,
    )  # fmt: skip
    if out.is_json:
        out.document(page)
        return
    rows, now = items_of(page), SystemClock().now()
    if not rows:
        out.note("there are no notifications like that")
        return
    out.table(Table(_COLUMNS, [_cells(row, now) for row in rows], spare=_SPARE))
    show_next(out, page)


def _cells(row: Row, now: float) -> list[object]:
    old = age(row.get("created_at"), now)
    plain = [row.get(name) for name in ("id", "status", "channel", "provider", "attempts")]
    return [*plain, old and Figure(old), row.get("reference"), row.get("to")]


def show_next(out: Output, page: Row) -> None:
    """Tell how to see the page after this one."""
    if page.get("next"):
        out.note(f"there are more: the same command with --cursor {page['next']}")


@guarded
def cancel(context: typer.Context, id: Id, url: Url = None, as_json: Json = False) -> None:
    """Cancel a notification; while a call is out, let it be the last."""
    out, there = output(context, as_json), server(context, url)
    with found_by_id():
        show_outcome(out, there.post("notifications", id, "cancel"))


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
            "--as",
            metavar="WORD",
            help="sent: a provider had it; retry: send it again, which may be the second time.",
        ),
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Decide about a notification that may have been sent: its status is unknown."""
    out, there = output(context, as_json), server(context, url)
    with found_by_id():
        answer = there.post("notifications", id, "resolve", body={"as": resolution.value})
    show_outcome(out, answer)
