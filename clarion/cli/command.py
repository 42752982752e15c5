"""The `clarion` command: what there is, and the order in which help shows it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from clarion.cli import check, dead_letter, send, serve, status, steering, top
from clarion.cli.option import Globals, Json, Url

app = typer.Typer(
    name="clarion",
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
app.command("top", short_help="Watch lanes, providers and breakers.")(top.top)
app.command("resolve", short_help="Decide about one that may have been sent.")(dead_letter.resolve)
app.add_typer(dead_letter.app, name="dead-letters")
app.add_typer(steering.providers, name="providers")
app.add_typer(steering.queues, name="queues")
app.add_typer(steering.breakers, name="breakers")


def main() -> None:
    """Run the command line; the entry point of `clarion` and `python -m clarion`."""
    app(prog_name="clarion")
