"""The buttons that steer: lanes, providers, circuits, and what is done about one notification."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web

from clarion.errors import NotFound
from clarion.http.dashboard.form import Fields, carry_out, who
from clarion.http.front import FRONT
from clarion.service import Service

Deed = Callable[[Service, str, str], Awaitable[Any]]
"""(service, of what, who) -> once it is durable; raises ClarionError."""


def _pause(service: Service, channel: str, who: str) -> Awaitable[Any]:
    return service.pause(channel, who)


def _resume(service: Service, channel: str, who: str) -> Awaitable[Any]:
    return service.resume(channel, who)


def _enable(service: Service, name: str, who: str) -> Awaitable[Any]:
    return service.set_provider(name, is_enabled=True, who=who)


def _disable(service: Service, name: str, who: str) -> Awaitable[Any]:
    return service.set_provider(name, is_enabled=False, who=who)


def _breaker(action: str) -> Deed:
    return lambda service, name, who: service.set_breaker(name, action, who)


def _cancel(service: Service, id: str, _who: str) -> Awaitable[Any]:
    return service.cancel(id)


def _resolve(*, is_sent: bool) -> Deed:
    return lambda service, id, who: service.resolve(id, is_sent, who)


STEERING: Mapping[str, tuple[Deed, str]] = {
    "pause": (_pause, "/#lanes"),
    "resume": (_resume, "/#lanes"),
    "enable": (_enable, "/#providers"),
    "disable": (_disable, "/#providers"),
    "open": (_breaker("open"), "/#providers"),
    "close": (_breaker("close"), "/#providers"),
    "reset": (_breaker("reset"), "/#providers"),
}
"""Each with the place on the page that shows what came of it."""

DECISIONS: Mapping[str, Deed] = {
    "cancel": _cancel,
    "sent": _resolve(is_sent=True),
    "retry": _resolve(is_sent=False),
}
"""What is decided about one notification; dead letters have a page of their own."""


def add(app: web.Application) -> None:
    """Add the routes that the buttons send to."""
    app.router.add_post("/steer/{deed}/{name}", _steer)
    app.router.add_post("/notifications/{id}/{deed}", _decide)


async def _steer(request: web.Request) -> web.Response:
    word = request.match_info["deed"]
    deed, back = STEERING.get(word, (None, "/"))
    return await _press(request, deed, request.match_info["name"], back)


async def _decide(request: web.Request) -> web.Response:
    id = request.match_info["id"]
    deed = DECISIONS.get(request.match_info["deed"])
    return await _press(request, deed, id, f"/notifications/{quote(id, safe='')}")


async def _press(request: web.Request, deed: Deed | None, what: str, back: str) -> web.Response:
    async def do(_fields: Fields) -> None:
        if deed is None:
            raise NotFound("button", request.match_info["deed"])
        await deed(request.app[FRONT].service, what, who(request))

    return await carry_out(request, back, do)
