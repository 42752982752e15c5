"""Options that every command has, and the one place where failures become exit codes.

::

    0  done
    1  the answer is no
    2  bad usage or settings
    3  server not reachable
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from clarion.cli.client import DEFAULT_URL, Server, ServerProblem, ServerUnreachable
from clarion.cli.notification_file import UnreadableFile
from clarion.cli.output import Output
from clarion.errors import ClarionError, SettingsError

P = ParamSpec("P")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"The server (CLARION_URL, else {DEFAULT_URL})."),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="Settings file (default: settings.toml where it is)."
    ),
]

Instant = typer.Option(metavar="TIME", help="RFC 3339, with a zone: 2027-01-31T08:00:00Z.")


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3


@dataclass(frozen=True, slots=True)
class Globals:
    """Options given before the command; after it they may be given as well."""

    is_json: bool = False
    url: str | None = None


def output(context: typer.Context, as_json: bool) -> Output:
    """Return where a command prints to."""
    return Output(is_json=as_json or _globals(context).is_json)


def server(context: typer.Context, url: str | None) -> Server:
    """Return the server that a command talks to. Raises typer.BadParameter for a URL that is none.

    The key comes from the environment alone: an argument could be read in the process list.
    """
    chosen = url or _globals(context).url or os.environ.get("CLARION_URL") or DEFAULT_URL
    try:
        return Server(chosen, os.environ.get("CLARION_API_KEY", "").strip())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into a message and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ClarionError as error:
            raise typer.Exit(_explain(error, _output_of(kwargs))) from error

    return run


def _explain(error: ClarionError, out: Output) -> ExitCode:
    match error:
        case ServerProblem():
            out.problem(error)
            return ExitCode.NO
        case ServerUnreachable():
            out.failure(str(error))
            return ExitCode.UNREACHABLE
        case UnreadableFile():
            out.failure(str(error))
            return ExitCode.USAGE
        case SettingsError():
            faults = [{"pointer": each.pointer, "detail": each.detail} for each in error.faults]
            out.failure(str(error), errors=faults)
            return ExitCode.USAGE
        case _:
            out.failure(str(error))
            return ExitCode.NO


def _output_of(arguments: dict[str, Any]) -> Output:
    context = arguments["context"]
    return output(context, bool(arguments.get("as_json")))


def _globals(context: typer.Context) -> Globals:
    found = context.find_object(Globals)
    return found or Globals()
