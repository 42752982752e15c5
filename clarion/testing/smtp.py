"""A look-alike of a mail server (RFC 5321), which misbehaves at any stage of a session.

One delivery is counted per mail that is taken, by the notification id in its Message-ID. Every
`Fault` has a stage at which a client meets it; `at_stage` puts it elsewhere. Counted rules hold for
the stages of a mail (from MAIL on), standing ones for every stage.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, ClassVar

from clarion.testing import misbehaviour
from clarion.testing.fault import Fault
from clarion.testing.ledger import SeenRequest
from clarion.testing.smtp_session import Session
from clarion.testing.smtp_stage import at_stage, stage_of
from clarion.testing.steerable import Steerable

__all__ = ["SmtpLookalike", "at_stage", "stage_of"]

_LIMIT_BYTES = 64 * 1024 * 1024


_BROKEN = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError)


class SmtpLookalike(Steerable):
    """A mail server on loopback; with `username` it wants a login.

    With `tls` (what `CertificateAuthority.server_context` makes) it offers STARTTLS, and with
    `is_tls_first` it begins with TLS. `extensions` are further lines of its EHLO.
    """

    provider: ClassVar[str] = "smtp"

    def __init__(
        self,
        username: str = "",
        password: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        is_tls_first: bool = False,
        extensions: tuple[str, ...] = ("8BITMIME", f"SIZE {_LIMIT_BYTES}"),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.username = username
        self.password = password
        self.tls = tls
        self.is_tls_first = is_tls_first
        self.extensions = extensions
        self.connections = 0
        """Connections that were ever made."""
        self.commands: list[str] = []
        """The verbs of all commands, in the order of their arrival; the latest 10,000."""
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None

    def settings(self, **extra: Any) -> dict[str, Any]:
        """Return a `[providers.NAME]` table of kind "smtp" that points here."""
        security = "none" if self.tls is None else "tls" if self.is_tls_first else "starttls"
        login = {"username": self.username, "password": self.password} if self.username else {}
        return {
            "kind": "smtp", "host": "127.0.0.1", "port": self.port, "security": security,
            "from_address": "clarion@example.com", **login, **extra,
        }  # fmt: skip

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port."""
        if self._listener is not None:
            return
        self.ledger.open()
        self._listener = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=_LIMIT_BYTES, backlog=1024,
            ssl=self.tls if self.is_tls_first else None,
        )  # fmt: skip
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: refuse connections and reset the open ones, whatever they wait for."""
        if self._listener is None:
            return
        self._listener.close()
        sessions = list(self._sessions.items())
        for task, writer in sessions:
            misbehaviour.reset(writer.transport)
            task.cancel()
        if sessions:
            await asyncio.wait([task for task, _ in sessions], timeout=5.0)
        await self._listener.wait_closed()
        self._listener = None
        self.ledger.close()

    def fault_at(self, stage: str, seen: SeenRequest) -> Fault | None:
        """Return what goes wrong at this stage; counted rules are used up by it."""
        for rule in (*self._counted, *self._standing):
            if stage_of(rule.fault) == stage and rule.applies_to(seen):
                self._use_up(rule)
                return rule.fault
        is_drawn = stage == stage_of(self.failure) and seen.is_send and self.fail_ratio > 0
        return self.failure if is_drawn and self._rng() < self.fail_ratio else None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._sessions[task] = writer
        session = Session(self, reader, writer)
        try:
            await session.run()
        except (
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            ssl.SSLError,
        ):
            pass
        except asyncio.CancelledError:
            # By `stop`; what the server's own callback makes of a cancelled task is a traceback.
            pass
        finally:
            session.end()
            writer.close()
            del self._sessions[task]
