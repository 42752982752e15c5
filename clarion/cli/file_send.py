"""`clarion send --from FILE`: a file sent, with a bar on a terminal and a summary at the end."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

import typer

from clarion.cli.bulk import Bulk, Rejected, Report
from clarion.cli.client import Server, ServerProblem, ServerUnreachable
from clarion.cli.notification_file import UnreadableFile, read_notifications
from clarion.cli.option import ExitCode
from clarion.cli.output import Output
from clarion.policies.clock import SystemClock

MAX_LISTED: Final = 100
"""Rejected lines that are told one by one; the rest is counted, and all are in --rejected."""

_AGAIN: Final = "run the same command again within 24 hours: what was accepted is not sent twice"


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What was asked for; `source` "-" is standard input, `run_name` "" the usual one."""

    source: str
    defaults: Mapping[str, Any]
    patience_s: float
    run_name: str = ""
    rejected: Path | None = None


def send_file(out: Output, there: Server, options: FileOptions) -> None:
    """Send every line; raises typer.Exit with 0 only where all were accepted."""
    with ExitStack() as stack:
        stream = stack.enter_context(_opened(options.source))
        losses = _Losses(out, stack.enter_context(_written(options)))
        show = stack.enter_context(_bar(stream, is_wanted=_is_bar_wanted(out)))
        bulk = Bulk(
            there,
            options.patience_s,
            SystemClock(),
            run_name=options.run_name,
            on_rejected=losses.add,
            on_progress=show,
        )
        try:
            report = bulk.send(read_notifications(stream, options.source, options.defaults))
        except KeyboardInterrupt:
            out.note(f"{_counted(bulk.report)}, then interrupted; {_AGAIN}")
            raise
    _tell(out, report, losses.listed)
    raise typer.Exit(_exit_code(report))


@dataclass(slots=True)
class _Losses:
    """Tells of each rejected line at once: the first to the person, all to the file."""

    out: Output
    file: TextIO | None
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rejected: Rejected) -> None:
        told = {"line": rejected.number, "reason": rejected.why}
        if len(self.listed) < MAX_LISTED:
            self.listed.append(told)
            self.out.note(f"line {rejected.number}: {rejected.why}")
            if len(self.listed) == MAX_LISTED:
                self.out.note("further rejected lines are counted; --rejected FILE gets them all")
        if self.file is not None:
            self.file.write(json.dumps({**told, "notification": rejected.fields}) + "\n")


# --- files -----------------------------------------------------------------------------------


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise _bad_path("--from", source, error) from error
        yield stream


@contextmanager
def _written(options: FileOptions) -> Iterator[TextIO | None]:
    path = options.rejected
    if path is None:
        yield None
        return
    if path.exists() and options.source != "-" and path.samefile(options.source):
        raise typer.BadParameter("it is the file that is sent", param_hint="--rejected")
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise _bad_path("--rejected", str(path), error) from error
    with file:
        yield file


def _bad_path(option: str, path: str, error: OSError) -> typer.BadParameter:
    why = (error.strerror or str(error)).lower()
    return typer.BadParameter(f"{path} cannot be opened: {why}", param_hint=option)


# --- what is shown ---------------------------------------------------------------------------


def _is_bar_wanted(out: Output) -> bool:
    return not out.is_json and sys.stderr.isatty()


@contextmanager
def _bar(stream: BinaryIO, *, is_wanted: bool) -> Iterator[Callable[[Report], None]]:
    """Draw progress by the bytes of a file; of a pipe nobody knows the length."""
    if not is_wanted:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    total = _size_bytes(stream)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading", total=total)

        def show(report: Report) -> None:
            at = stream.tell() if total is not None else None
            progress.update(task, completed=at, description=_counted(report))

        yield show


def _size_bytes(stream: BinaryIO) -> int | None:
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _counted(report: Report) -> str:
    return (
        f"{report.accepted:,} accepted, {report.replayed:,} already accepted before,"
        f" {report.rejected:,} rejected"
    )


def _tell(out: Output, report: Report, listed: list[dict[str, Any]]) -> None:
    if out.is_json:
        out.document(_document(report, listed))
    else:
        out.line(_counted(report))
    if report.error is not None:
        out.note(f"error: {report.error}")
        out.note(f"stopped at line {report.stopped_at}; {_AGAIN}")


def _document(report: Report, listed: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = None
    if report.error is not None:
        stopped = {"line": report.stopped_at, "detail": str(report.error)}
    return {
        "accepted": report.accepted,
        "already_accepted": report.replayed,
        "rejected": report.rejected,
        "rejected_lines": listed,
        "stopped": stopped,
    }


def _exit_code(report: Report) -> ExitCode:
    match report.error:
        case None:
            return ExitCode.NO if report.rejected else ExitCode.DONE
        case UnreadableFile():
            return ExitCode.USAGE
        case ServerUnreachable():
            return ExitCode.UNREACHABLE
        case ServerProblem() | _:
            return ExitCode.NO
