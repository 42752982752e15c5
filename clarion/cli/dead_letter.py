"""`clarion dead-letters`: what failed for good, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from clarion.cli.option import Instant, Json, Url, guarded, output, server
from clarion.cli.status import items_of

app = typer.Typer(help="Look at what failed for good.", no_args_is_help=True)


@app.command("list")
@guarded
def list_dead_letters(
    context: typer.Context,
    reason: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="exhausted, permanent, recipient or poison."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="The last one that was tried.")
    ] = None,
    channel: Annotated[str | None, typer.Option(metavar="CHANNEL")] = None,
    since: Annotated[str | None, Instant] = None,
    until: Annotated[str | None, Instant] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Items of a page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Where the last page ended.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List dead letters, the latest first."""
    out, there = output(context, as_json), server(context, url)
    page = there.get(
        "dead-letters",
        reason=reason,
        provider=provider,
        channel=channel,
        since=since,
        until=until,
        limit=str(limit),
        cursor=cursor,
    )
    if out.is_json:
        out.document(page)
        return
    rows = items_of(page)
    if not rows:
        out.note("there are no dead letters like that")
        return
    columns = ("id", "channel", "to", "reason", "provider", "attempts", "updated_at", "explanation")
    out.table(columns, [[row.get(name) for name in columns] for row in rows])
    if page.get("next"):
        out.note(f"there are more: --cursor {page['next']}")
