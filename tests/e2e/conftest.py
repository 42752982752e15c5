"""End-to-end tests: a real `clarion serve` process, real provider look-alikes, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from clarion.testing import (
    ClarionClient,
    ClarionProcess,
    SendGridLookalike,
    TwilioLookalike,
    settings_toml,
)

FAST_BREAKER = {"timeout": 0.4, "half_open_timeout": 5.0, "timeout_max": 1.0, "jitter": 0.0}
FAST_RETRY = {"initial_delay": 0.05, "max_delay": 0.5}


class House:
    """Starts Clarion with the providers of a test; everything is gone at its end."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack

    async def sendgrid(self, **options: Any) -> SendGridLookalike:
        """Start a SendGrid look-alike."""
        return await self._stack.enter_async_context(SendGridLookalike(**options))

    async def twilio(self, **options: Any) -> TwilioLookalike:
        """Start a Twilio look-alike."""
        return await self._stack.enter_async_context(TwilioLookalike(**options))

    def configure(
        self,
        providers: Mapping[str, Mapping[str, Any]],
        channels: Mapping[str, Any],
        **sections: Any,
    ) -> Path:
        """Write `settings.toml` with quick breakers and retries."""
        sections.setdefault("breaker", FAST_BREAKER)
        sections.setdefault("retry", FAST_RETRY)
        return settings_toml(
            self.directory / "settings.toml",
            providers={name: {"timeout": 5.0, **table} for name, table in providers.items()},
            channels=channels,
            **sections,
        )

    async def start(
        self, *, env: Mapping[str, str] | None = None, port: int | None = None
    ) -> ClarionProcess:
        """Start the process on the written settings."""
        return await self._stack.enter_async_context(
            ClarionProcess(self.directory, env=env, port=port)
        )

    async def start_later(self, *, env: Mapping[str, str] | None = None) -> ClarionProcess:
        """Start a process on the written settings that need not become ready."""
        clarion = ClarionProcess(self.directory, env=env)
        self._stack.push_async_callback(clarion.aclose)
        clarion.spawn()
        return clarion

    @staticmethod
    def email(n: int | str = 0, **more: Any) -> dict[str, Any]:
        """Return an e-mail to send."""
        return {
            "channel": "email",
            "to": f"user{n}@example.com",
            "subject": f"Hello {n}",
            "text": f"Message {n}",
            **more,
        }

    @staticmethod
    def sms(n: int | str = 0, **more: Any) -> dict[str, Any]:
        """Return a text message to send."""
        return {"channel": "sms", "to": "+15005550006", "text": f"Message {n}", **more}

    @staticmethod
    async def send_all(client: ClarionClient, notifications: Iterable[dict[str, Any]]) -> list[str]:
        """Send them one batch, all of which must be accepted; return their ids."""
        answer = await client.batch(list(notifications))
        assert answer["rejected"] == 0, answer
        return [item["id"] for item in answer["results"]]

    @staticmethod
    async def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """Poll an async or plain condition until it is true and return what it gave."""
        async with asyncio.timeout(timeout_s):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)

    @staticmethod
    def ended(stats: Mapping[str, Any]) -> dict[str, int]:
        """Return the counts by status, without the statuses that are empty again."""
        return {status: n for status, n in stats["by_status"].items() if n}

    @staticmethod
    def provider(answer: Any, name: str) -> Any:
        """Pick one provider out of GET /v1/providers."""
        items = answer["items"] if isinstance(answer, dict) else answer
        return next(item for item in items if item["name"] == name)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A place to start Clarion and its providers in."""
    async with AsyncExitStack() as stack:
        yield House(tmp_path, stack)
