"""The one thread that writes: group commit, one culprit at a time, and a disk that may fail.

::

              submit                    run_once
    any thread ────> inbox ──(drain)──> BEGIN · apply … · COMMIT (fsync) ──post──> on_done
                                             │ disk trouble
                                             v
                       owed commands are kept in order and tried again every `retry_s`;
                       everything else fails at once with StorageUnavailable

The fsync of one batch is the window in which the next one gathers; no timer is involved. The
writer outlives the Journal: commands, replies and the running batch are here, not in the actor.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import structlog

from clarion.errors import StorageUnavailable, StoreTaken
from clarion.policies.clock import SystemClock
from clarion.storage.command import Command, Load, LoadTimers, Refill
from clarion.storage.failure import is_collision, storage_failure

log = structlog.get_logger(__name__)

_CLOCK = SystemClock()
_READS = (Load, Refill, LoadTimers)

COLLISIONS = 5
"""A batch that was in the way of another node's is written again so often."""


@dataclass(slots=True)
class Done:
    """A command that is through: its result after the commit, or why nothing was written."""

    command: Command
    result: Any = None
    error: Exception | None = None


class Store(Protocol):
    """What the writer needs of a store; each call may raise what `storage_failure` knows."""

    def begin(self) -> None:
        """Begin a transaction."""

    def apply_all(self, batch: Sequence[Command], /) -> list[Any]:
        """Carry out commands in order and return their results."""

    def read(self, each: Command, /) -> Any:
        """Carry out a command that reads, outside of any transaction, without writing."""

    def commit(self) -> None:
        """Make the transaction durable."""

    def rollback(self) -> None:
        """Undo the transaction."""

    def probe(self) -> None:
        """Raise if nothing can be written."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether the answer to the last commit is lost, so that it may have been made."""

    def was_made(self) -> bool:
        """Say whether the commit that was in doubt has been made."""


def _ignore(_value: float) -> None:
    """Measure nothing."""


def _nothing() -> None:
    """Tell nobody."""


def _is_read_in_vain(command: Command) -> bool:
    """Say whether whoever asked has given up waiting."""
    return isinstance(command, _READS) and command.reply is not None and command.reply.done


class Writer:
    """Commits what is submitted, in order, in groups.

    `post` carries a callable to the thread that `on_done` and `on_state` belong to
    (`loop.call_soon_threadsafe`). `on_state(False, reason)` says once that the disk fails,
    `on_state(True, "")` that it works again. A commit whose answer is lost is told when it is known
    whether it was made. `on_taken` says once that another process has written meanwhile: then this
    one never can again. `retry_s` and `monotonic` are seconds; `commit_seconds` and `batch_size`
    are told how each commit went, on the writer's thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_done: Callable[[list[Done]], None],
        post: Callable[[Callable[[], None]], object],
        on_state: Callable[[bool, str], None],
        on_taken: Callable[[], None] = _nothing,
        max_batch: int = 512,
        retry_s: float = 1.0,
        commit_seconds: Callable[[float], None] = _ignore,
        batch_size: Callable[[float], None] = _ignore,
        monotonic: Callable[[], float] = _CLOCK.monotonic,
    ) -> None:
        self._store = store
        self._on_done = on_done
        self._post = post
        self._on_state = on_state
        self._on_taken = on_taken
        self._max_batch = max_batch
        self._retry_s = retry_s
        self._commit_seconds = commit_seconds
        self._batch_size = batch_size
        self._monotonic = monotonic
        self._inbox: deque[Command] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._running = 0
        self._kept: list[Command] = []
        self._doubtful: list[Done] = []
        """What a commit came to, if it was made: its answer is lost."""
        self._reason = ""
        self._is_told_writable = True
        self._is_taken = False
        self._retry_at = 0.0
        self._thread: threading.Thread | None = None

    # --- any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; without it, `run_once` is called by whoever drives the writer."""
        self._thread = threading.Thread(target=self._run, name="clarion-writer", daemon=True)
        self._thread.start()

    def submit(self, command: Command) -> None:
        """Hand a command over; never blocks. One that was submitted before is dropped."""
        with self._changed:
            if command.is_submitted:
                return
            command.is_submitted = True
            if not self._is_closing:
                self._inbox.append(command)
                self._changed.notify()
                return
        done = [Done(command, error=StorageUnavailable("the store is closed"))]
        self._post_safely(lambda: self._on_done(done))

    @property
    def pending(self) -> int:
        """How many commands are submitted and not through."""
        return len(self._inbox) + self._running + len(self._doubtful) + len(self._kept)

    @property
    def is_writable(self) -> bool:
        """Whether the last write succeeded."""
        return not self._reason

    @property
    def reason(self) -> str:
        """Why nothing can be written, in plain words; "" when it can."""
        return self._reason

    def close(self, timeout_s: float) -> bool:
        """Write what is left and stop; return whether all of it is durable.

        While the disk fails, what is owed is tried once more and then given up: its rows still
        hold the intent, and the next process takes it from there.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            is_stopped = not self._thread.is_alive()
        else:
            self._finish()
            is_stopped = True
        return is_stopped and self.pending == 0

    # --- the writer's thread ---------------------------------------------------------------

    def _run(self) -> None:
        while self._await_work():
            self.run_once()
        self._finish()

    def _await_work(self) -> bool:
        """Wait until there is something to do; return False when it is time to stop."""
        with self._changed:
            while not self._is_closing:
                wait_s = self.wait_s
                if wait_s == 0.0:
                    break
                self._changed.wait(wait_s)
            return not self._is_closing

    @property
    def wait_s(self) -> float | None:
        """Seconds until `run_once` has something to do; None: not before the next command."""
        if self._inbox:
            return 0.0
        return max(0.0, self._retry_at - self._monotonic()) if self._reason else None

    def _finish(self) -> None:
        while self._inbox:
            self.run_once()
        if self._kept or self._doubtful:
            self._retry_at = self._monotonic()
            self.run_once()
        left = [*(done.command for done in self._doubtful), *self._kept]
        self._tell([self._refuse(command) for command in left])

    def run_once(self) -> bool:
        """Write one batch on the caller's thread; return whether there was anything to do."""
        with self._changed:
            batch = [self._inbox.popleft() for _ in range(min(len(self._inbox), self._max_batch))]
            self._running = len(batch)
        try:
            done = self._take_turn(batch)
        except Exception as error:
            # The boundary of the thread: no command may be lost without an answer.
            log.exception("writer_failed", commands=len(batch))
            done = [Done(command, error=error) for command in batch]
        self._running = 0
        self._tell(done)
        return bool(batch or done)

    def _take_turn(self, batch: list[Command]) -> list[Done]:
        if not self._reason:
            return self._write(batch)
        done: list[Done] = []
        if self._monotonic() >= self._retry_at:
            done = self._try_again()
        return done + (self._triage(batch) if self._reason else self._write(batch))

    def _write(self, batch: Sequence[Command], tries: int = COLLISIONS) -> list[Done]:
        if not batch:
            return []
        try:
            return self._commit(batch)
        except Exception as error:
            if tries and is_collision(error) and not self._doubtful:
                return self._write(batch, tries - 1)
            if storage_failure(error) is not None or self._doubtful:
                return self._fail(error, batch)
            if len(batch) == 1:
                return self._write_without_story(batch[0], error)
        return self._write_apart(batch)

    def _write_without_story(self, command: Command, error: Exception) -> list[Done]:
        """Write the least of a command that fails, at once: those behind it count on it."""
        least = command.without_story()
        if least is None:
            return [Done(command, error=error)]
        log.error("story_lost", command=type(command).__name__, error=repr(error))
        return self._write([least])

    def _write_apart(self, batch: Sequence[Command]) -> list[Done]:
        """Run a failed batch command by command: only the culprit fails."""
        done: list[Done] = []
        for position, command in enumerate(batch):
            done += self._write([command])
            if self._reason:
                return done + self._triage(batch[position + 1 :])
        return done

    def _commit(self, batch: Sequence[Command]) -> list[Done]:
        """Write a batch in one transaction, or raise with nothing written, or with a doubt."""
        started_at = self._monotonic()
        done: list[Done] = []
        try:
            self._store.begin()
            results = self._store.apply_all(batch)
            done = [Done(command, result) for command, result in zip(batch, results, strict=True)]
            self._store.commit()
        except BaseException:
            self._store.rollback()
            if self._store.is_in_doubt:
                self._doubtful = done
            raise
        self._commit_seconds(self._monotonic() - started_at)
        self._batch_size(float(len(batch)))
        return done

    # --- a disk that fails -----------------------------------------------------------------

    def _fail(self, error: Exception, batch: Sequence[Command]) -> list[Done]:
        self._reason = storage_failure(error) or str(error)
        self._retry_at = self._monotonic() + self._retry_s
        self._see_if_taken(error)
        return [] if self._doubtful else self._triage(batch)

    def _see_if_taken(self, error: Exception) -> None:
        if isinstance(error, StoreTaken) and not self._is_taken:
            self._is_taken = True
            self._post_safely(self._on_taken)

    def _triage(self, batch: Sequence[Command]) -> list[Done]:
        """Keep what is owed, read what may be read, refuse the rest."""
        done: list[Done] = []
        for command in batch:
            if command.is_owed or (isinstance(command, _READS) and self._is_owed_to(command)):
                self._kept.append(command)
            elif isinstance(command, _READS):
                done.append(self._read(command))
            else:
                done.append(self._refuse(command))
        return done

    def _is_owed_to(self, read: Command) -> bool:
        # A read must not overtake what its lane is owed: it would show what is about to change.
        ahead = (*(done.command for done in self._doubtful), *self._kept)
        return any(each.channel in (read.channel, "") for each in ahead)

    def _read(self, command: Command) -> Done:
        try:
            return Done(command, self._store.read(command))
        except Exception as error:
            is_trouble = storage_failure(error) is not None
            return self._refuse(command) if is_trouble else Done(command, error=error)

    def _refuse(self, command: Command) -> Done:
        error = StorageUnavailable(f"nothing can be stored now: {self._reason}")
        return Done(command, error=error)

    def _try_again(self) -> list[Done]:
        """See whether the disk writes again, and if so write what was kept, in order."""
        reason = self._reason
        # A lane that cannot load asks anew and anew: through a long outage they would pile up.
        self._kept = [command for command in self._kept if not _is_read_in_vain(command)]
        try:
            self._store.probe()
        except Exception as error:
            told = storage_failure(error)
            if told is None:
                log.warning("storage_probe_failed", error=repr(error))
            self._reason = told or reason
            self._retry_at = self._monotonic() + self._retry_s
            self._see_if_taken(error)
            return []
        kept, self._kept, self._reason = self._kept, [], ""
        done = self._end_doubt()
        commands = iter(kept)
        while chunk := list(islice(commands, self._max_batch)):
            done += self._write(chunk) if not self._reason else self._triage(chunk)
        return done

    def _end_doubt(self) -> list[Done]:
        """Tell what a commit came to that turns out to have been made; else make it now."""
        doubtful, self._doubtful = self._doubtful, []
        if not doubtful or self._store.was_made():
            return doubtful
        return self._write([done.command for done in doubtful])

    # --- telling ---------------------------------------------------------------------------

    def _tell(self, done: list[Done]) -> None:
        if self._is_told_writable != self.is_writable:
            self._is_told_writable = self.is_writable
            state, reason = self.is_writable, self._reason
            self._post_safely(lambda: self._on_state(state, reason))
        if done:
            self._post_safely(lambda: self._on_done(done))

    def _post_safely(self, news: Callable[[], None]) -> None:
        try:
            self._post(news)
        except RuntimeError:
            # The loop is closed: nobody is left to hear it, and what was written stays written.
            log.warning("writer_news_unheard")
