"""The outbox: writes messages as files, so that Clarion works with nothing configured.

An e-mail becomes an .eml file that mail programs open, everything else a .json file. The name
holds the notification's id and the number of the call, so a call that is repeated after a death
overwrites its own file, and another call is another file. A file appears whole or not at all;
nothing is fsynced, so a power cut may cost the latest ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import re
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import Clock
from clarion.providers.base import Outgoing, Wire, flaw_in_headers
from clarion.providers.mail import NotAnEmail, as_bytes, compose
from clarion.providers.setting import AdapterConfig, Address

T = TypeVar("T")

THREADS = 2
"""Threads of an outbox that is given no executor; one slow write does not hold up the next."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
"""What stays wrong until someone changes the settings or the machine."""


class OutboxConfig(AdapterConfig):
    """The keys of `[providers.NAME]` that belong to kind "outbox"."""

    directory: Path = Field(
        default=Path("outbox"),
        description="where the files go; made if missing, relative to the settings file",
    )
    from_address: Address = Field(
        default="clarion@localhost", description="sender written into e-mails"
    )


class Outbox:
    """One directory of messages."""

    kind: ClassVar[str] = "outbox"
    channels: ClassVar[frozenset[str]] = frozenset({"email", "sms", "push", "webhook", "chat"})
    Config: ClassVar[type[OutboxConfig]] = OutboxConfig

    def __init__(
        self,
        name: str,
        config: OutboxConfig,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = Path(),
        executor: Executor | None = None,
    ) -> None:
        """Write below `base_dir`, in threads of `executor` (default: a few of its own)."""
        self.name = name
        self.directory = base_dir / config.directory
        self._from_address = config.from_address
        self._clock = clock
        self._executor = executor
        self._threads: ThreadPoolExecutor | None = None
        self._max_threads = min(THREADS, max_concurrent)

    async def open(self) -> None:
        """Make the threads; the directory is made by whoever first writes into it."""
        if self._executor is None:
            self._threads = ThreadPoolExecutor(self._max_threads, f"outbox-{self.name}")

    async def close(self) -> None:
        """End the threads; what they were writing has ended with the running sends."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Write one file; nothing of it is there when that fails."""
        flaw = flaw_in_headers(outgoing.content)
        if flaw is not None:
            return flaw
        # From here on a time limit may cut us off while the thread goes on to write.
        wire.is_written = True
        try:
            name = await self._run(lambda: self._write(outgoing))
        except NotAnEmail:
            detail = "the message cannot be written as an e-mail"
            return Answer(Outcome.PERMANENT, "not_an_email", detail, surely_not_accepted=True)
        except OSError as error:
            return _answer_for(error)
        return Answer(Outcome.ACCEPTED, "written", f"written to {name}", provider_message_id=name)

    async def probe(self) -> Health:
        """Try to write into the directory."""
        try:
            await self._run(self._try_writing)
        except OSError as error:
            answer = _answer_for(error)
            is_misconfigured = answer.outcome is Outcome.MISCONFIGURED
            return Health(False, answer.detail, is_misconfigured)
        return Health(True, "the outbox directory can be written to")

    async def _run(self, work: Callable[[], T]) -> T:
        executor = self._executor or self._threads
        if executor is None:
            raise RuntimeError("the outbox is not open")
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _write(self, outgoing: Outgoing) -> str:
        suffix, text = (
            (".eml", self._email(outgoing))
            if outgoing.channel == "email"
            else (".json", self._document(outgoing))
        )
        name = f"{_file_name(outgoing.notification_id)}-{outgoing.call}{suffix}"
        self.directory.mkdir(parents=True, exist_ok=True)
        _write_whole(self.directory, name, text)
        return name

    def _try_writing(self) -> None:
        # A directory that is not there is not made: `clarion check`, run by another user, would
        # leave it to that user.
        name, place = ".clarion-probe", self._nearest_directory()
        _write_whole(place, name, b"")
        (place / name).unlink(missing_ok=True)

    def _nearest_directory(self) -> Path:
        """Return the directory, or the one in which the first message makes it."""
        whole = self.directory.absolute()
        return next(each for each in (whole, *whole.parents) if each.exists())

    def _email(self, outgoing: Outgoing) -> bytes:
        return as_bytes(compose(outgoing, from_address=self._from_address, now=self._clock.now()))

    def _document(self, outgoing: Outgoing) -> bytes:
        content = outgoing.content
        document: dict[str, Any] = {
            "id": outgoing.notification_id,
            "call": outgoing.call,
            "channel": outgoing.channel,
            "to": content.to,
            "subject": content.subject,
            "text": content.text,
            "html": content.html,
            "data": content.data,
            "headers": content.headers,
            "tenant": outgoing.tenant,
            "reference": outgoing.reference,
            "metadata": outgoing.metadata,
            "written_at": datetime.fromtimestamp(self._clock.now(), UTC).isoformat(),
        }
        return (json.dumps(document, indent=2) + "\n").encode()


def _answer_for(error: OSError) -> Answer:
    if error.errno in _FULL:
        outcome, reason, words = Outcome.TRANSIENT, "disk_full", "the disk is full"
    elif error.errno in _FORBIDDEN:
        outcome, reason = Outcome.MISCONFIGURED, "directory_not_writable"
        words = "the outbox directory cannot be written to; check `directory` and its owner"
    else:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        outcome, reason = Outcome.TRANSIENT, "write_failed"
        words = f"the file could not be written ({name})"
    return Answer(outcome, reason, words, surely_not_accepted=True)


def _file_name(id_: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", id_)


def _write_whole(directory: Path, name: str, content: bytes) -> None:
    partial = directory / f".{name}.partial"
    try:
        partial.write_bytes(content)
        partial.replace(directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
