"""What every adapter owes, as tests: run them on your own by subclassing `ProviderConformance`.

::

    class TestAcme(ProviderConformance):
        adapter_class = Acme
        channel, to = "sms", "+15005550006"
        refusal = Fault.error(422)

        def server(self) -> AcmeLookalike:
            return AcmeLookalike()

The tests need pytest and nothing else; each runs on an event loop of its own, with the adapter made
as Clarion makes it, against a look-alike of the provider that misbehaves on demand (`Steerable`).
Nothing waits for time to pass: a time limit is a cancellation, which is what it is in Clarion, too.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from clarion.actors.blocking import on_the_loop
from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.policies.clock import SystemClock
from clarion.providers.base import Adapter, Outgoing, Wire, answer_for_exception
from clarion.providers.registry import AdapterClass, flaws_of
from clarion.testing.fault import Fault
from clarion.testing.ledger import SeenRequest
from clarion.testing.steerable import Steerable

BOUND_S = 20.0
"""How long one test may take before it fails, in seconds."""
SLOTS = 4
"""`max_concurrent` of the adapter under test."""
MARK = "left-over"
"""Stands in every field of a first message; nothing of it may be in the second."""

S = TypeVar("S", bound="ProviderConformance")


@dataclass(frozen=True, slots=True)
class Trial:
    """One adapter, open, before its look-alike."""

    adapter: Adapter
    server: Steerable

    @property
    def sends(self) -> list[SeenRequest]:
        """Requests for a message to be sent that reached the provider."""
        return [each for each in self.server.requests if each.is_send]


def _on_a_loop(test: Callable[[S], Awaitable[None]]) -> Callable[[S], None]:
    """Run an async test without a plugin, within its bound."""

    async def within_bound(self: S) -> None:
        async with asyncio.timeout(BOUND_S):
            await test(self)

    @functools.wraps(test)
    def run(self: S) -> None:
        asyncio.run(within_bound(self))

    del run.__wrapped__  # plugins would take it for a coroutine
    return run


class ProviderConformance:
    """Base of the tests of one kind; say which, and how its provider looks and refuses."""

    adapter_class: ClassVar[Any]
    """The adapter's class, of either sort: on the loop, or blocking."""
    channel: ClassVar[str] = "email"
    to: ClassVar[str] = "ada@example.com"
    refusal: ClassVar[Fault]
    """What the look-alike does when it refuses a recipient."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """Credentials in the look-alike's `settings()` that must show nowhere."""

    def server(self) -> Steerable:
        """Make a look-alike of the provider, not started yet."""
        raise NotImplementedError

    def recipient(self, server: Steerable) -> str:
        """Return the address to send to; `to`, unless it depends on the look-alike."""
        return self.to

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[Trial]:
        """Start a look-alike and open an adapter that is configured for it."""
        async with self.server() as server:
            adapter = self.make(server)
            await adapter.open()
            try:
                yield Trial(adapter, server)
            finally:
                await adapter.close()

    def make(self, server: Steerable) -> Adapter:
        """Make the adapter as Clarion does; nothing is opened yet."""
        table = {key: value for key, value in server.settings().items() if key != "kind"}
        make: AdapterClass = self.adapter_class
        made = make(
            "conformance", make.Config(**table), max_concurrent=SLOTS, clock=SystemClock(),
            public_url="https://clarion.example", base_dir=Path(),
        )  # fmt: skip
        return on_the_loop(made, SLOTS)

    def outgoing(self, trial: Trial, n: int = 1, **more: Any) -> Outgoing:
        """Return the n-th message; `more` are fields of its content."""
        content = {"to": self.recipient(trial.server), "text": f"message {n}", **more}
        id_ = f"conformance-{n}"
        return Outgoing(id_, self.channel, Content(**content), 1, id_)

    async def cut_off(self, trial: Trial, wire: Wire) -> Answer:
        """Let the provider take a message and hang, and cut the call off as the time limit does."""
        trial.server.behave(Fault.accept_then_hang())
        taken = trial.server.deliveries.total() + 1
        task = asyncio.create_task(trial.adapter.send(self.outgoing(trial), wire))
        await trial.server.wait_for(taken)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return answer_for_exception(TimeoutError(), wire)

    # --- the class -------------------------------------------------------------------------

    def test_the_class_is_one_that_clarion_can_use(self) -> None:
        """Its kind, channels, settings, constructor and methods are as the protocol says."""
        assert flaws_of(self.adapter_class.kind, self.adapter_class) == []

    def test_its_settings_refuse_a_key_that_there_is_not(self) -> None:
        """A misspelt key must not be silently without effect."""
        table = {key: value for key, value in self.server().settings().items() if key != "kind"}
        try:
            self.adapter_class.Config(**table, surprise=1)
        except ValueError:
            return
        raise AssertionError("Config takes a key that it does not know")

    # --- outcomes --------------------------------------------------------------------------

    @_on_a_loop
    async def test_a_message_that_is_taken_is_accepted(self) -> None:
        """One request, and the wire says that it went out."""
        async with self.trial() as trial:
            wire = Wire()
            answer = await trial.adapter.send(self.outgoing(trial), wire)

            assert answer.outcome is Outcome.ACCEPTED, answer
            assert wire.is_written, "set `wire.is_written` before the message may be read"
            assert trial.server.delivered("conformance-1") == 1

    @_on_a_loop
    async def test_a_refused_recipient_is_told_as_such(self) -> None:
        """It ends the notification, so it must not look like trouble of the provider's."""
        async with self.trial() as trial:
            trial.server.behave(self.refusal)
            answer = await trial.adapter.send(self.outgoing(trial), Wire())

            assert answer.outcome is Outcome.RECIPIENT, answer
            assert answer.surely_not_accepted
            assert len(trial.sends) == 1, "an adapter never tries again by itself"

    @_on_a_loop
    async def test_a_time_out_after_the_message_is_unknown(self) -> None:
        """The provider may have it: whoever wants it at most once must not get it twice."""
        async with self.trial() as trial:
            answer = await self.cut_off(trial, Wire())

            assert (answer.outcome, answer.surely_not_accepted) == (Outcome.UNKNOWN, False), answer

    @_on_a_loop
    async def test_a_connection_lost_after_the_message_is_unknown(self) -> None:
        """It is answered, not raised, and not tried again."""
        async with self.trial() as trial:
            trial.server.behave(Fault.accept_then_reset())
            answer = await trial.adapter.send(self.outgoing(trial), Wire())

            assert (answer.outcome, answer.surely_not_accepted) == (Outcome.UNKNOWN, False), answer
            assert trial.server.delivered("conformance-1") == 1, "it was sent again"

    @_on_a_loop
    async def test_a_refused_connection_is_transient(self) -> None:
        """Nothing was sent, and that is sure: another provider may have it at once."""
        async with self.trial() as trial:
            await trial.server.stop()
            wire = Wire()
            answer = await trial.adapter.send(self.outgoing(trial), wire)

            assert (answer.outcome, answer.surely_not_accepted) == (Outcome.TRANSIENT, True), answer
            assert not wire.is_written

    # --- one call does nothing to another ------------------------------------------------------

    @_on_a_loop
    async def test_a_call_that_was_cut_off_leaves_no_half_used_connection(self) -> None:
        """The next call must not read the answer to the one before."""
        async with self.trial() as trial:
            wire = Wire()
            await self.cut_off(trial, wire)
            trial.server.recover()
            if wire.lingering is None:
                await trial.server.wait_for(lambda: trial.server.in_flight == 0)
            answer = await trial.adapter.send(self.outgoing(trial, 2), Wire())

            assert answer.outcome is Outcome.ACCEPTED, answer
            assert trial.server.deliveries == {"conformance-1": 1, "conformance-2": 1}

    @_on_a_loop
    async def test_nothing_of_one_message_reaches_the_next(self) -> None:
        """An adapter keeps nothing between two sends."""
        async with self.trial() as trial:
            first = self.outgoing(
                trial, text=f"text {MARK}", subject=f"subject {MARK}", html=f"<p>{MARK}</p>",
                headers={"X-Campaign": MARK},
            )  # fmt: skip
            await trial.adapter.send(first, Wire())
            await trial.adapter.send(self.outgoing(trial, 2, subject="second"), Wire())

            seen = trial.sends[-1]
            assert trial.server.delivered("conformance-2") == 1
            assert MARK not in repr((seen.path, dict(seen.headers), seen.payload))

    @_on_a_loop
    async def test_calls_side_by_side_do_not_mix(self) -> None:
        """As many as the provider has slots, each with an answer of its own."""
        async with self.trial() as trial:
            calls = [self.outgoing(trial, n) for n in range(SLOTS)]
            answers = await asyncio.gather(*(trial.adapter.send(each, Wire()) for each in calls))

            assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}, answers
            assert trial.server.deliveries == {each.notification_id: 1 for each in calls}
            ids = [each.provider_message_id for each in answers if each.provider_message_id]
            assert len(ids) == len(set(ids))

    # --- safety ----------------------------------------------------------------------------

    @_on_a_loop
    async def test_no_line_break_gets_into_a_header(self) -> None:
        """Nothing that a message holds may become a header, a command or a recipient of its own."""
        evil = "a\r\nBcc: eve@example.com"
        async with self.trial() as trial:
            for more in (
                {"to": f"{self.recipient(trial.server)}\r\nBcc: eve@example.com"},
                {"subject": evil},
                {"headers": {"X-Campaign": evil}},
                {"headers": {evil: "spring"}},
            ):
                answer = await trial.adapter.send(self.outgoing(trial, **more), Wire())

                assert answer.outcome in (Outcome.PERMANENT, Outcome.RECIPIENT), (more, answer)
                assert answer.surely_not_accepted, answer
            assert trial.sends == [], "flaw_in_headers in clarion.providers.base refuses these"

    @_on_a_loop
    async def test_no_secret_shows(self) -> None:
        """Neither in what is printed of the adapter, nor in what a timeline keeps."""
        async with self.trial() as trial:
            trial.server.behave(Fault.unauthorized())
            shown: list[object] = [trial.adapter, self.adapter_class.Config(**self._table(trial))]
            shown += [await trial.adapter.probe()]
            shown += [await trial.adapter.send(self.outgoing(trial), Wire())]
            await trial.server.stop()
            shown += [await trial.adapter.probe()]
            shown += [await trial.adapter.send(self.outgoing(trial), Wire())]

            assert [each for each in shown if any(s in repr(each) for s in self.secrets)] == []

    def _table(self, trial: Trial) -> dict[str, Any]:
        return {key: value for key, value in trial.server.settings().items() if key != "kind"}

    # --- probe and close -------------------------------------------------------------------

    @_on_a_loop
    async def test_a_probe_sends_nothing(self) -> None:
        """It is well before a provider that is, and never raises before one that is not there."""
        async with self.trial() as trial:
            well = await trial.adapter.probe()
            await trial.server.stop()
            gone = await trial.adapter.probe()

            assert well.is_healthy, well
            assert isinstance(gone, Health)
            assert trial.sends == []

    @_on_a_loop
    async def test_it_can_be_closed_twice_and_unused(self) -> None:
        """A close that fails would hide why it came to that."""
        async with self.trial() as trial:
            await trial.adapter.send(self.outgoing(trial), Wire())
            await trial.adapter.close()
            await trial.adapter.close()

            unused = self.make(trial.server)
            await unused.open()
            await unused.close()
