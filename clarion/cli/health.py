"""`clarion health`: the server's own word on how every part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer

from clarion.cli.client import Server, ServerProblem
from clarion.cli.option import ExitCode, Json, Url, guarded, output, server
from clarion.cli.output import Output, fold
from clarion.cli.table import Table
from clarion.cli.wording import clean

if TYPE_CHECKING:
    from rich.text import Text

_STYLES: Final = {"pass": "green", "warn": "yellow", "fail": "red"}


@guarded
def health(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show how every part of the server stands. Exits with 1 where the whole fails."""
    out, there = output(context, as_json), server(context, url)
    found = ask_health(there)
    if out.is_json:
        out.document(found)
    else:
        _show(out, found)
    if found["status"] == "fail":
        raise typer.Exit(ExitCode.NO)


def ask_health(there: Server) -> Any:
    """Return what `/health` says, whether the whole fails or not."""
    try:
        return there.get_page("/health")
    except ServerProblem as problem:
        # The bad news comes with a 503, in the shape of the good.
        if "checks" not in problem.problem:
            raise
        return problem.problem


def _show(out: Output, found: Mapping[str, Any]) -> None:
    out.line(fold(f"{found['status']}: {_functions(found.get('functions') or {})}"))
    out.line("")
    parts = [(name, check) for name, (check, *_) in (found.get("checks") or {}).items()]
    checks = [each for each in parts if not _goes_without_saying(*each)]
    rows = [(name, _styled(each.get("status")), each.get("observedValue")) for name, each in checks]
    notes = [[str(each["output"])] if each.get("output") else [] for _, each in checks]
    out.table(Table(("part", "status", "state"), rows, notes=notes))


def _goes_without_saying(name: str, check: Mapping[str, Any]) -> bool:
    return name.startswith("actor:") and check.get("status") == "pass"


def _functions(functions: Mapping[str, Any]) -> str:
    told = []
    for name, state in functions.items():
        lanes = state.items() if isinstance(state, Mapping) else [("", state)]
        told += [f"{name} {lane} {word}".replace("  ", " ") for lane, word in lanes]
    return ", ".join(told)


def _styled(status: Any) -> Text:
    from rich.text import Text

    return Text(clean(str(status)), style=_STYLES.get(str(status), ""))
