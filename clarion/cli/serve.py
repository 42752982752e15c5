"""`clarion serve`: the server, until it is told to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Annotated, Any

import typer

from clarion.cli.option import SettingsFile, guarded


@guarded
def serve(
    context: typer.Context,
    settings: SettingsFile = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on.", min=0, max=65535)
    ] = None,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
    log_json: Annotated[
        bool | None,
        typer.Option("--log-json/--no-log-json", help="Default: text on a terminal, else JSON."),
    ] = None,
) -> None:
    """Run the server: HTTP API, queues and providers, in this process."""
    from clarion.settings import load
    from clarion.telemetry.log import configure

    try:
        configure(log_level, log_json, in_background=True)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--log-level") from error
    given = {"host": host, "port": port}
    chosen = {name: value for name, value in given.items() if value is not None}
    loaded = load(settings, overrides={"server": chosen} if chosen else {})
    # After the settings: what is wrong with them is said before the engine is imported.
    import asyncio

    from clarion.server import serve as serve_until_stopped

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(serve_until_stopped(loaded))
    for number in (signal.SIGTERM, signal.SIGINT):
        # All is done: who asks again to stop must not turn a clean exit into a death.
        signal.signal(number, signal.SIG_IGN)
    raise typer.Exit(code)


def _loop_factory() -> Callable[[], Any] | None:
    """Return uvloop's where it exists: twice the messages per second."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory
