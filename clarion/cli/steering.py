"""`clarion providers`, `queues` and `breakers`: look, and steer. What is set outlives a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from clarion.cli.option import (
    CHANNELS,
    PROVIDERS,
    Json,
    Url,
    found_by_name,
    guarded,
    output,
    server,
)
from clarion.cli.output import Output
from clarion.cli.standing import items_of
from clarion.cli.status import show_providers, show_queues

providers = typer.Typer(help="List, disable and enable providers.", no_args_is_help=True)
queues = typer.Typer(help="List, pause and resume lanes.", no_args_is_help=True)
breakers = typer.Typer(help="Force circuits open or closed, or reset them.", no_args_is_help=True)

Provider = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER", help="Its name in the settings.", show_default=False,
        autocompletion=PROVIDERS,
    ),
]  # fmt: skip
Channel = Annotated[
    str,
    typer.Argument(
        metavar="CHANNEL", help="email, sms …, as configured.", show_default=False,
        autocompletion=CHANNELS,
    ),
]  # fmt: skip

_LISTINGS: Final = {
    "providers": ("providers", "name"),
    "breakers": ("providers", "name"),
    "queues": ("queues", "channel"),
}
"""Where the names are listed that a kind of thing can have, and in which field."""

_DONE: Final = {
    ("providers", "enable"): "{} is enabled",
    ("providers", "disable"): "{} is disabled: calls that are out end, no new ones are made",
    ("queues", "pause"): "{} is paused: it accepts, and sends nothing",
    ("queues", "resume"): "{} sends again",
    ("breakers", "open"): "the circuit of {} is forced open, until it is reset",
    ("breakers", "close"): "the circuit of {} is held closed whatever happens, until it is reset",
    ("breakers", "reset"): "the circuit of {} works by its own rules again",
}


def _list(
    context: typer.Context,
    url: str | None,
    as_json: bool,
    what: str,
    show: Callable[[Output, Sequence[Mapping[str, Any]]], None],
) -> None:
    out, there = output(context, as_json), server(context, url)
    found = there.get(what)
    if out.is_json:
        out.document(found)
    else:
        show(out, items_of(found))


def _steer(
    context: typer.Context, url: str | None, as_json: bool, action: tuple[str, str], name: str
) -> None:
    out, there = output(context, as_json), server(context, url)
    kind, verb = action
    listing, field = _LISTINGS[kind]
    with found_by_name(there, listing, field, name):
        answer = there.post(kind, name, verb)
    if out.is_json:
        out.document({} if answer is None else answer)
    else:
        out.line(_DONE[action].format(name))


@providers.command("list")
@guarded
def list_providers(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show every provider, its breaker and its slots."""
    _list(context, url, as_json, "providers", show_providers)


@providers.command("enable")
@guarded
def enable(context: typer.Context, name: Provider, url: Url = None, as_json: Json = False) -> None:
    """Use a provider again."""
    _steer(context, url, as_json, ("providers", "enable"), name)


@providers.command("disable")
@guarded
def disable(context: typer.Context, name: Provider, url: Url = None, as_json: Json = False) -> None:
    """Use a provider no more; its notifications go to the next one of the route, or wait."""
    _steer(context, url, as_json, ("providers", "disable"), name)


@queues.command("list")
@guarded
def list_queues(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show every lane: what is ready, scheduled, waiting and in flight."""
    _list(context, url, as_json, "queues", show_queues)


@queues.command("pause")
@guarded
def pause(context: typer.Context, channel: Channel, url: Url = None, as_json: Json = False) -> None:
    """Stop sending on a channel; it goes on accepting."""
    _steer(context, url, as_json, ("queues", "pause"), channel)


@queues.command("resume")
@guarded
def resume(
    context: typer.Context, channel: Channel, url: Url = None, as_json: Json = False
) -> None:
    """Send on a channel again."""
    _steer(context, url, as_json, ("queues", "resume"), channel)


@breakers.command("open")
@guarded
def open_circuit(
    context: typer.Context, name: Provider, url: Url = None, as_json: Json = False
) -> None:
    """Keep every call from a provider."""
    _steer(context, url, as_json, ("breakers", "open"), name)


@breakers.command("close")
@guarded
def close_circuit(
    context: typer.Context, name: Provider, url: Url = None, as_json: Json = False
) -> None:
    """Let every call through to a provider, whatever it answers."""
    _steer(context, url, as_json, ("breakers", "close"), name)


@breakers.command("reset")
@guarded
def reset_circuit(
    context: typer.Context, name: Provider, url: Url = None, as_json: Json = False
) -> None:
    """Take back what was forced and start with a closed circuit."""
    _steer(context, url, as_json, ("breakers", "reset"), name)
