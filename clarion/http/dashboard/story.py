"""The page of one notification: its story, and what a person may do about it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from clarion.domain.notification import Notification
from clarion.errors import ClarionError, NotFound
from clarion.http.dashboard import page, view
from clarion.http.front import FRONT


def add(app: web.Application) -> None:
    """Add the page."""
    app.router.add_get("/notifications/{id}", page.Page(_look).answer)


async def _look(request: web.Request) -> page.Look:
    front, id = request.app[FRONT], request.match_info["id"]
    context: dict[str, Any] = {"id": id, "why": ""}
    try:
        notification = await page.read(front.service.get(id))
    except NotFound:
        return page.Look("No such notification", ("missing",), context, 404)
    except (ClarionError, TimeoutError) as error:
        why = str(error) or f"the store gave no answer within {page.ANSWER_S:g} s"
        return page.Look("Cannot be read", ("missing",), context | {"why": why}, 503)
    shown = await front.service.represent(notification, with_timeline=True)
    card = view.card(notification, shown, front.clock.now())
    context = {
        "card": card,
        "notification": notification,
        "content": _content(notification),
        "steps": view.steps(shown["timeline"]),
    }
    return page.Look(f"{card.mark.word} · {card.short_id}", ("story",), context)


def _content(notification: Notification) -> list[tuple[str, str]]:
    """Return the head of a message, never its body: a name and a value for each line."""
    content = notification.content
    lines = [("Subject", content.subject)] if content.subject is not None else []
    lines += sorted((content.headers or {}).items())
    sizes = {"text": content.text, "HTML": content.html}
    lines += [
        (f"Size of the {name}", f"{len(body.encode()):,} bytes")
        for name, body in sizes.items()
        if body is not None
    ]
    if content.data is not None:
        lines.append(("Data", f"an object of {len(content.data)} fields"))
    return lines
