"""`clarion serve` that dies at a named point: what a crash oracle starts in place of the real one.

::

    python -m clarion.testing.dying_server --settings FILE --port N --point accept.after --passage 3

The engine is the real one. Around it stand a store, a writer's transaction and adapters that count
how often the named point is passed and at the n-th passage kill the process, with SIGKILL:

    COMMAND.inside   after one of its commands was carried out, in a transaction that is not over
    COMMAND.before   before the COMMIT of a transaction that holds one
    COMMAND.during   within the write of that COMMIT: the log ends in a torn frame
    COMMAND.after    after its fsync, before anybody hears of it
    wire.*           before: the first byte of a call; during: while its answer is awaited;
                     after: the answer was read
    migration.*      inside: at a statement; before, during, after: its COMMIT
    close.*          before, after: the file is closed at the end of a shutdown

COMMAND is one of `COMMANDS`. With `--unlit` passages count only from SIGUSR1 on: sent just before a
SIGTERM it makes any point one of the drain. Each passage that counts is a line on standard error:
the log of a process that lived on says how far it came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

from clarion import blueprint
from clarion.app import Surroundings
from clarion.domain.outcome import Answer, Health
from clarion.policies.clock import SystemClock
from clarion.providers.base import Adapter, Outgoing, Wire
from clarion.server import serve
from clarion.settings import Settings, load
from clarion.storage import command, redrive_command
from clarion.storage.sqlite_store import SqliteStore
from clarion.storage.url import SQLITE
from clarion.telemetry.log import configure
from clarion.testing.fast_loop import fast_loop

COMMANDS: Final[dict[type[command.Command], str]] = {
    command.Accept: "accept",
    command.Intend: "intend",
    command.Settle: "settle",
    command.Defer: "defer",
    command.Receive: "receipt",
    redrive_command.RedriveSome: "redrive",
    command.Sweep: "sweep",
}
"""The commands whose transactions are points; an `Accept` of several is a "batch"."""
PLACES: Final = ("inside", "before", "during", "after")
POINTS: Final = (
    *(f"{name}.{place}" for name in (*COMMANDS.values(), "batch") for place in PLACES),
    *(f"wire.{place}" for place in ("before", "during", "after")),
    *(f"migration.{place}" for place in PLACES),
    "close.before",
    "close.after",
)
AT_START: Final = frozenset(point for point in POINTS if point.startswith(("migration.", "sweep.")))
"""Points that are passed once per life, before the server is ready."""
AT_END: Final = frozenset({"close.before", "close.after"})
"""Points that are passed once per life, after a SIGTERM."""

FRAME_BYTES: Final = 24 + 4096
"""One frame of the log: a header and a page (https://sqlite.org/fileformat2.html#walformat)."""
TORN_AT_BYTES: Final = 32 + FRAME_BYTES + 777
"""How far a torn COMMIT gets: the log's header, a frame, and a part of the next."""
_FRAMES_AT: Final = 16
_BACKFILLED_AT: Final = 96
"""Where the index says how many frames there are, and how many are in the file already
(https://sqlite.org/walformat.html#walidxfmt)."""
WIRE_S: Final = 0.005
"""How long after its start a call is surely out and not yet answered by a slow look-alike."""


class Fuse:
    """Kills the process at the n-th passage of one point, once it is lit."""

    def __init__(self, point: str, passage: int, *, is_lit: bool = True) -> None:
        self._point = point
        self._left = passage
        self.is_lit = is_lit

    def light(self, *_: object) -> None:
        """Count from now on; a handler of signals."""
        self.is_lit = True
        self._tell("fuse_lit")

    def burns_at(self, point: str) -> bool:
        """Count a passage; say whether it is the one to die at."""
        if not self.is_lit or point != self._point:
            return False
        self._left -= 1
        self._tell("point_passed")
        return self._left == 0

    def pass_by(self, point: str) -> None:
        """Count a passage, and die if it is the one."""
        if self.burns_at(point):
            die()

    def _tell(self, event: str) -> None:
        line = {"event": event, "point": self._point, "left": self._left}
        # Not by the log: what that still holds in memory dies with the process.
        os.write(sys.stderr.fileno(), f"{json.dumps(line)}\n".encode())


def die() -> None:
    """Kill -9: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_size(size_bytes: int) -> None:
    """Have the kernel kill the process in the write that would grow a file beyond this size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


class DyingStore(SqliteStore):
    """The store, with points before, inside, during and after its transactions."""

    def __init__(self, path: str, fuse: Fuse, **options: Any) -> None:
        super().__init__(path, **options)
        self._fuse = fuse
        self._names: set[str] = set()

    def open(self) -> None:
        """Open as ever, with points in the migration."""
        event.listen(Engine, "before_cursor_execute", self._at_statement)
        event.listen(Engine, "commit", lambda _: self._before_commit(("migration",)))
        super().open()
        self._fuse.pass_by("migration.after")

    def _at_statement(self, *_: object) -> None:
        self._fuse.pass_by("migration.inside")

    def begin(self) -> None:
        """Begin a transaction that holds nothing yet."""
        self._names.clear()
        super().begin()

    def apply(self, each: command.Command) -> Any:
        """Carry out a command and pass its "inside"."""
        result = super().apply(each)
        name = COMMANDS.get(type(each))
        if isinstance(each, command.Accept) and len(each.drafts) > 1:
            name = "batch"
        if name is not None:
            self._names.add(name)
            self._fuse.pass_by(f"{name}.inside")
        return result

    def commit(self) -> None:
        """Commit between two points."""
        self._before_commit(sorted(self._names))
        super().commit()
        for name in sorted(self._names):
            self._fuse.pass_by(f"{name}.after")

    def _before_commit(self, names: Sequence[str]) -> None:
        for name in names:
            self._fuse.pass_by(f"{name}.before")
            if self._fuse.burns_at(f"{name}.during"):
                die_at_size(self._log_end_bytes() + TORN_AT_BYTES)

    def _log_end_bytes(self) -> int:
        """Read from the index of the log where the next frame goes; 0 where it is begun anew."""
        index = self.path.with_name(self.path.name + "-shm")
        # To close this file drops the locks of the whole process, which is dead in a moment.
        header = index.read_bytes()[: _BACKFILLED_AT + 4] if index.exists() else b""
        if len(header) < _BACKFILLED_AT + 4:
            return 0
        (frames,) = struct.unpack_from("=I", header, _FRAMES_AT)
        (backfilled,) = struct.unpack_from("=I", header, _BACKFILLED_AT)
        return 0 if frames == backfilled else int(frames) * FRAME_BYTES

    def close(self) -> None:
        """Close between two points."""
        self._fuse.pass_by("close.before")
        super().close()
        self._fuse.pass_by("close.after")


class DyingAdapter:
    """An adapter with points before, during and after its calls."""

    def __init__(self, inner: Adapter, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse
        self.open, self.close = inner.open, inner.close

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Make the request between points."""
        self._fuse.pass_by("wire.before")
        if self._fuse.burns_at("wire.during"):
            asyncio.get_running_loop().call_later(WIRE_S, die)
        answer = await self._inner.send(outgoing, wire)
        self._fuse.pass_by("wire.after")
        return answer

    async def probe(self) -> Health:
        """Probe as ever."""
        return await self._inner.probe()


def surroundings(settings: Settings, fuse: Fuse) -> Surroundings:
    """Return what makes the engine of these settings pass the points."""
    clock = SystemClock()

    def open_dying(url: str, *, now: Callable[[], float], **_of_a_server: object) -> SqliteStore:
        return DyingStore(url.removeprefix(SQLITE), fuse, now=now)

    def adapter(name: str) -> Adapter:
        inner = blueprint.adapter_maker(name, settings, clock)()
        return DyingAdapter(inner, fuse)  # type: ignore[return-value]  # of no kind of its own

    makers: dict[str, Callable[[], Adapter]] = {
        name: partial(adapter, name) for name in settings.providers
    }
    return Surroundings(clock=clock, open_store=open_dying, adapters=makers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the point is passed, or until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m clarion.testing.dying_server")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--point", choices=POINTS, required=True)
    parser.add_argument("--passage", type=int, default=1)
    parser.add_argument("--unlit", action="store_true", help="count only from SIGUSR1 on")
    options = parser.parse_args(arguments)
    fuse = Fuse(options.point, options.passage, is_lit=not options.unlit)
    signal.signal(signal.SIGUSR1, fuse.light)
    # Python ignores it, and a write beyond the limit of `die_at_size` would only fail.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    configure("INFO", json=True, in_background=True)
    settings = load(options.settings, overrides={"server": {"port": options.port}})
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(serve(settings, surroundings(settings, fuse)))


if __name__ == "__main__":
    sys.exit(main())
