"""The `clarion` command: what there is, and the order in which help shows it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from clarion.cli import (
    check,
    dead_letter,
    health,
    notification,
    send,
    serve,
    status,
    steering,
    top,
)
from clarion.cli.option import ExitCode, Globals, Json, Url
from clarion.cli.output import Output


class Root(TyperGroup):
    """Also tells bad usage as one JSON document where JSON was asked for."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code."""
        given = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(given, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            if "--json" in given:
                Output(is_json=True).document({"detail": error.format_message()})
            _show_usage(error)
            code = error.exit_code
        except typer.Abort:
            Output(is_json=False).note("nothing was done")
            code = ExitCode.NO
        if not standalone_mode:
            return code
        sys.exit(code)


def _show_usage(error: Any) -> None:
    # Its public base does not have it, all that typer raises for usage do.
    error.show()


app = typer.Typer(
    name="clarion",
    cls=Root,
    help="Send notifications and know what became of them.",
    no_args_is_help=True,
    # A traceback with local variables would print recipients and keys.
    pretty_exceptions_enable=False,
    # Boxes break lines of the narrow terminals and of whoever searches the help.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"clarion {version('clarion')}")
        except PackageNotFoundError:
            print("clarion (not installed)")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    url: Url = None,
    as_json: Json = False,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    """Keep what was given before the command."""
    context.obj = Globals(is_json=as_json, url=url)


app.command("serve", short_help="Run the server.")(serve.serve)
app.command("check", short_help="Say whether it would work, and what to mend.")(check.check)
app.command("send", short_help="Send one notification, or a file of them.")(send.send)
app.command("status", short_help="Show how all stands, or one notification.")(status.status)
app.command("list", short_help="List notifications.")(notification.list_notifications)
app.command("cancel", short_help="Cancel one.")(notification.cancel)
app.command("resolve", short_help="Decide about one that may have been sent.")(notification.resolve)
app.command("health", short_help="Show how every part of the server stands.")(health.health)
app.command("top", short_help="Watch lanes, providers and breakers.")(top.top)
app.add_typer(dead_letter.app, name="dead-letters")
app.add_typer(steering.providers, name="providers")
app.add_typer(steering.queues, name="queues")
app.add_typer(steering.breakers, name="breakers")


def main() -> None:
    """Run the command line; the entry point of `clarion` and `python -m clarion`."""
    # Closed by the shell (`>&-`) they are None, which whatever prints would stumble over.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal does not have must not end a command.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="clarion")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
