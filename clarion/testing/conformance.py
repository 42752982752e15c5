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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from clarion.actors.blocking import on_the_loop
from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Outcome
from clarion.policies.clock import SystemClock
from clarion.providers.base import Adapter, Outgoing, Wire
from clarion.providers.registry import AdapterClass, flaws_of
from clarion.testing.fault import Fault
from clarion.testing.steerable import Steerable
from clarion.testing.trial import Trial, all_closed, cancelled, on_a_loop, open_files

SLOTS = 4
"""`max_concurrent` of the adapter under test."""
WAIT_S = 7
"""The Retry-After of a provider that wants us to slow down, in seconds."""
MARK = "left-over"
"""Stands in every field of a first message; nothing of it may be in the second."""


class ProviderConformance:
    """Base of the tests of one kind; say which, and how its provider looks and refuses."""

    adapter_class: ClassVar[Any]
    """The adapter's class, of either sort: on the loop, or blocking."""
    channel: ClassVar[str] = "email"
    to: ClassVar[str] = "ada@example.com"
    refusal: ClassVar[Fault]
    """What the look-alike does when it refuses a recipient."""
    has_account: ClassVar[bool] = True
    """False where there is no account whose credentials could be wrong, and nothing to probe."""
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
        return await trial.cut_off(self.outgoing(trial), wire)

    # --- the class -------------------------------------------------------------------------

    def test_the_class_is_one_that_clarion_can_use(self) -> None:
        """Its kind, channels, settings, constructor and methods are as the protocol says."""
        flaws = flaws_of(self.adapter_class.kind, self.adapter_class)
        assert not flaws, f"{self.adapter_class.__name__} cannot be used: {'; '.join(flaws)}"

    def test_its_settings_refuse_a_key_that_there_is_not(self) -> None:
        """A misspelt key must not be silently without effect."""
        table = {key: value for key, value in self.server().settings().items() if key != "kind"}
        try:
            self.adapter_class.Config(**table, surprise=1)
        except ValueError:
            return
        raise AssertionError("Config takes a key that it does not know")

    # --- outcomes --------------------------------------------------------------------------

    @on_a_loop
    async def test_a_message_that_is_taken_is_accepted(self) -> None:
        """One request, and the wire says that it went out."""
        async with self.trial() as trial:
            wire = Wire()
            answer = await trial.send(self.outgoing(trial), wire)

            assert answer.outcome is Outcome.ACCEPTED, _other("a message that is taken", answer)
            assert trial.server.deliveries.total() > 0, (
                "`send` said ACCEPTED before the provider had the message"
            )
            assert trial.server.deliveries == {"conformance-1": 1}, _lost_id(trial)

    @on_a_loop
    async def test_a_refused_recipient_is_told_as_such(self) -> None:
        """It ends the notification, so it must not look like trouble of the provider's."""
        async with self.trial() as trial:
            trial.server.behave(self.refusal)
            answer = await trial.send(self.outgoing(trial), Wire())

            assert answer.outcome is Outcome.RECIPIENT, _other("a refused recipient", answer)
            assert answer.surely_not_accepted, _unsure(answer)
            assert len(trial.sends) == 1, "an adapter never tries again by itself"

    @on_a_loop
    async def test_a_time_out_after_the_message_is_unknown(self) -> None:
        """The provider may have it: whoever wants it at most once must not get it twice."""
        async with self.trial() as trial:
            answer = await self.cut_off(trial, Wire())

            assert answer.outcome is Outcome.UNKNOWN, _other("a call that was cut off", answer)
            assert not answer.surely_not_accepted, _too_sure(answer)

    @on_a_loop
    async def test_a_connection_lost_after_the_message_is_unknown(self) -> None:
        """It is answered, not raised, and not tried again."""
        async with self.trial() as trial:
            trial.server.behave(Fault.accept_then_reset())
            answer = await trial.send(self.outgoing(trial), Wire())

            assert trial.server.deliveries.total() == 1, "an adapter never tries again by itself"
            assert answer.outcome is Outcome.UNKNOWN, _other("a lost connection", answer)
            assert not answer.surely_not_accepted, _too_sure(answer)

    @on_a_loop
    async def test_a_refused_connection_is_transient(self) -> None:
        """Nothing was sent, and that is sure: another provider may have it at once."""
        async with self.trial() as trial:
            await trial.server.stop()
            wire = Wire()
            answer = await trial.send(self.outgoing(trial), wire)

            assert not wire.is_written, (
                "`wire.is_written` is set although there was no connection: set it right before "
                "the first byte leaves, not earlier"
            )
            assert answer.outcome is Outcome.TRANSIENT, _other("a refused connection", answer)
            assert answer.surely_not_accepted, _unsure(answer)

    @on_a_loop
    async def test_a_provider_in_trouble_took_nothing(self) -> None:
        """Its own word that it is unavailable counts against its circuit, and is no success."""
        async with self.trial() as trial:
            trial.server.behave(Fault.unavailable())
            answer = await trial.send(self.outgoing(trial), Wire())

            assert answer.outcome is Outcome.TRANSIENT, _other("the provider's own 503", answer)

    @on_a_loop
    async def test_a_provider_that_is_too_busy_is_told_as_such(self) -> None:
        """It is asked less often then; its circuit has nothing to do with it."""
        async with self.trial() as trial:
            trial.server.behave(Fault.throttled(WAIT_S))
            answer = await trial.send(self.outgoing(trial), Wire())

            assert answer.outcome is Outcome.THROTTLED, _other("too many requests", answer)
            assert answer.surely_not_accepted, _unsure(answer)
            assert answer.retry_after_s is None or 0 < answer.retry_after_s <= WAIT_S, (
                f"asked to wait {WAIT_S} s, `retry_after_s` is {answer.retry_after_s}"
            )

    @on_a_loop
    async def test_wrong_credentials_are_told_as_such(self) -> None:
        """Every message would fail by them, so the gate closes and whoever runs it is told."""
        if not self.has_account:
            return
        async with self.trial() as trial:
            trial.server.behave(Fault.unauthorized())
            answer = await trial.send(self.outgoing(trial), Wire())

            assert answer.outcome is Outcome.MISCONFIGURED, _other("wrong credentials", answer)
            assert answer.surely_not_accepted, _unsure(answer)

    # --- one call does nothing to another ------------------------------------------------------

    @on_a_loop
    async def test_a_call_that_was_cut_off_leaves_no_half_used_connection(self) -> None:
        """The next call must not read the answer to the one before."""
        async with self.trial() as trial:
            wire = Wire()
            await self.cut_off(trial, wire)
            trial.server.recover()
            if wire.lingering is None:
                with suppress(TimeoutError):
                    await trial.server.wait_for(lambda: trial.server.in_flight == 0)
                assert trial.server.in_flight == 0, (
                    "the connection of a call that was cut off stays open: close it, "
                    "or the next call reads the answer to the one before"
                )
            answer = await trial.send(self.outgoing(trial, 2), Wire())

            assert answer.outcome is Outcome.ACCEPTED, _other("the call after it", answer)
            assert trial.server.deliveries == {"conformance-1": 1, "conformance-2": 1}, (
                f"the second message is not with the provider: {dict(trial.server.deliveries)}"
            )

    @on_a_loop
    async def test_nothing_of_one_message_reaches_the_next(self) -> None:
        """An adapter keeps nothing between two sends."""
        async with self.trial() as trial:
            first = self.outgoing(
                trial, text=f"text {MARK}", subject=f"subject {MARK}", html=f"<p>{MARK}</p>",
                headers={"X-Campaign": MARK},
            )  # fmt: skip
            await trial.send(first, Wire())
            await trial.send(self.outgoing(trial, 2, subject="second"), Wire())

            seen = trial.sends[-1]
            shown = repr((seen.path, dict(seen.headers), seen.payload))
            assert trial.server.delivered("conformance-2") == 1, _lost_id(trial)
            assert MARK not in shown, f"something of the message before is in the next: {shown}"

    @on_a_loop
    async def test_calls_side_by_side_do_not_mix(self) -> None:
        """As many as the provider has slots, each with an answer of its own."""
        async with self.trial() as trial:
            calls = [self.outgoing(trial, n) for n in range(SLOTS)]
            answers = await asyncio.gather(*(trial.send(each, Wire()) for each in calls))

            for answer in answers:
                assert answer.outcome is Outcome.ACCEPTED, _other("a call beside others", answer)
            assert trial.server.deliveries == {each.notification_id: 1 for each in calls}, (
                f"each message has to arrive once: {dict(trial.server.deliveries)}"
            )
            ids = [each.provider_message_id for each in answers if each.provider_message_id]
            assert len(ids) == len(set(ids)), f"two messages have the same provider's id: {ids}"

    @on_a_loop
    async def test_no_call_waits_for_another(self) -> None:
        """A slow answer costs its own slot and no other's."""
        async with self.trial() as trial:
            trial.server.behave(Fault.accept_then_hang())
            calls = [self.outgoing(trial, n) for n in range(SLOTS)]
            tasks = [asyncio.create_task(trial.send(each)) for each in calls]
            with suppress(TimeoutError):
                await trial.server.wait_for(SLOTS)
            taken = trial.server.deliveries.total()
            await cancelled(*tasks)

            assert taken == SLOTS, (
                f"only {taken} of {SLOTS} calls were with the provider at once: "
                "an adapter takes `max_concurrent` calls side by side"
            )

    # --- safety ----------------------------------------------------------------------------

    @on_a_loop
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
                answer = await trial.send(self.outgoing(trial, **more), Wire())

                assert answer.outcome in (Outcome.PERMANENT, Outcome.RECIPIENT), (
                    f"a line break in {more} is let through ({answer}): "
                    "refuse it with flaw_in_headers of clarion.providers.base"
                )
                assert answer.surely_not_accepted, _unsure(answer)
            assert trial.sends == [], "something was sent although a header held a line break"

    @on_a_loop
    async def test_no_secret_shows(self) -> None:
        """Neither in what is printed of the adapter, nor in what a timeline keeps."""
        async with self.trial() as trial:
            trial.server.behave(Fault.unauthorized())
            shown: list[object] = [trial.adapter, self.adapter_class.Config(**self._table(trial))]
            shown += [await trial.probe()]
            shown += [await trial.send(self.outgoing(trial), Wire())]
            await trial.server.stop()
            shown += [await trial.probe()]
            shown += [await trial.send(self.outgoing(trial), Wire())]

            told = [each for each in shown if any(s in repr(each) for s in self.secrets)]
            assert told == [], f"a secret shows in {told}"

    def _table(self, trial: Trial) -> dict[str, Any]:
        return {key: value for key, value in trial.server.settings().items() if key != "kind"}

    # --- probe and close -------------------------------------------------------------------

    @on_a_loop
    async def test_a_probe_sends_nothing(self) -> None:
        """It is well before a provider that is, and never raises before one that is not there."""
        async with self.trial() as trial:
            well = await trial.probe()
            await trial.server.stop()
            gone = await trial.probe()

            assert well.is_healthy, f"the provider is well, and the probe says {well}"
            assert not (self.has_account and gone.is_healthy), (
                f"nothing listens at the provider's address, and the probe says {gone}"
            )
            assert trial.sends == [], "the probe sent a message"

    @on_a_loop
    async def test_it_can_be_closed_twice_and_unused(self) -> None:
        """A close that fails would hide why it came to that."""
        async with self.trial() as trial:
            await trial.send(self.outgoing(trial), Wire())
            await trial.adapter.close()
            await trial.adapter.close()

            unused = self.make(trial.server)
            await unused.open()
            await unused.close()

    @on_a_loop
    async def test_close_releases_what_was_opened(self) -> None:
        """An adapter is made anew after each crash: what it leaks adds up until nothing opens."""
        async with self.server() as server:
            await self._use(server)
            before = open_files()
            for _ in range(SLOTS):
                await self._use(server)
            await all_closed(before)

            assert open_files() <= before, (
                f"{open_files() - before} connections or files stay open after `close`"
            )

    async def _use(self, server: Steerable) -> None:
        adapter = self.make(server)
        await adapter.open()
        trial = Trial(adapter, server)
        await trial.send(self.outgoing(trial))
        await trial.send(self.outgoing(trial))
        await adapter.close()


def _other(what: str, answer: Answer) -> str:
    return f"{what} came to {answer.outcome.name}: {answer}"


def _unsure(answer: Answer) -> str:
    return f"the provider surely has not got it: say `surely_not_accepted=True` ({answer})"


def _too_sure(answer: Answer) -> str:
    return f"the provider may have it: do not say `surely_not_accepted=True` ({answer})"


def _lost_id(trial: Trial) -> str:
    return (
        f"the provider counts {dict(trial.server.deliveries)}: each message has to arrive once, "
        "under its `outgoing.notification_id`"
    )
