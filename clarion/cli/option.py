"""Options that every command has, and the one place where failures become exit codes.

::

    0  done
    1  the answer is no
    2  bad usage or settings
    3  server not reachable
  130  interrupted by Ctrl-C
  141  who read the output left, as `head` does
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import typer

from clarion.cli.client import (
    DEFAULT_URL,
    REQUEST_TIMEOUT_S,
    Server,
    ServerProblem,
    ServerUnreachable,
)
from clarion.cli.notification_file import UnreadableFile
from clarion.cli.output import Output
from clarion.cli.standing import items_of
from clarion.cli.wording import suggestion
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

ZONED: Final = "With a zone: 2027-01-31T08:00:00Z."
"""How a time is written (RFC 3339)."""

COMPLETION_TIMEOUT_S: Final = 1.0
"""A person who presses TAB does not wait for a server that is away."""


def words(*known: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    return lambda incomplete: [each for each in known if each.startswith(incomplete)]


def names_at(listing: str, name: str) -> Callable[[str], list[str]]:
    """Return what completes a name that the server lists, where there is a server."""

    def complete(incomplete: str) -> list[str]:
        # Whatever is wrong, a shell shows nothing: the command itself says what it is.
        with suppress(Exception):
            there = _server(None, timeout_s=COMPLETION_TIMEOUT_S)
            found = [str(row[name]) for row in items_of(there.get(listing))]
            return [each for each in found if each.startswith(incomplete)]
        return []

    return complete


CHANNELS: Final = names_at("queues", "channel")
PROVIDERS: Final = names_at("providers", "name")

Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, 26 characters.", show_default=False)]
Channel = Annotated[
    str | None,
    typer.Option(metavar="CHANNEL", help="Only this channel.", autocompletion=CHANNELS),
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Lines of a page.")]
Cursor = Annotated[
    str | None, typer.Option(metavar="CURSOR", help="Go on where the last page ended.")
]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    READER_LEFT = 141
    """As a shell tells of a program that SIGPIPE ended."""


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
    try:
        return _server(url or _globals(context).url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _server(url: str | None, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Server:
    chosen = url or os.environ.get("CLARION_URL") or DEFAULT_URL
    return Server(chosen, os.environ.get("CLARION_API_KEY", "").strip(), timeout_s=timeout_s)


@contextmanager
def found_by_id(
    hint: str = "`clarion list` shows the latest ones, with their ids.",
) -> Iterator[None]:
    """Tell who asks for an id that there is not where ids can be found."""
    try:
        yield
    except ServerProblem as problem:
        if problem.status == HTTPStatus.NOT_FOUND:
            problem.hint = hint
        raise


@contextmanager
def found_by_name(there: Server, listing: str, field: str, name: str) -> Iterator[None]:
    """Tell who names something that there is not what was probably meant."""
    try:
        yield
    except ServerProblem as problem:
        if problem.status == HTTPStatus.NOT_FOUND:
            with suppress(ServerProblem, ServerUnreachable):
                known = [str(row.get(field)) for row in items_of(there.get(listing))]
                problem.hint = suggestion(name, known)
        raise


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into a message and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            # Here, where a reader who left is still ours to tell of.
            sys.stdout.flush()
        except ClarionError as error:
            raise typer.Exit(_explain(error, _output_of(kwargs))) from error
        except BrokenPipeError as error:
            _let_go_of_stdout()
            raise typer.Exit(ExitCode.READER_LEFT) from error
        except OSError as error:
            # What servers and files do is told elsewhere: this is the output, on a full disk.
            _let_go_of_stdout()
            Output(is_json=False).note(f"error: cannot write: {error.strerror or error}")
            raise typer.Exit(ExitCode.NO) from error

    return run


def _let_go_of_stdout() -> None:
    # What is still in the buffer would break the pipe again at the end of the process.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


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
