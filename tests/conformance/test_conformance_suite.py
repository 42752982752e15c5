"""The suite for adapters finds those that do not keep what they owe."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.sendgrid import SendGrid
from clarion.testing import Fault, ProviderConformance, SendGridLookalike


class TriesAgain(SendGrid):
    """Hides a retry from the engine."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        return answer if answer.outcome is Outcome.ACCEPTED else await super().send(outgoing, wire)


class NeverSaysWritten(SendGrid):
    """Takes every broken call for one that was surely not sent."""

    async def send(self, outgoing, wire):
        return await super().send(outgoing, Wire())


class IsAlwaysSure(SendGrid):
    """Takes a lost answer for a refusal."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        if answer.outcome is Outcome.UNKNOWN:
            return replace(answer, outcome=Outcome.TRANSIENT, surely_not_accepted=True)
        return answer


class CallsItPermanent(SendGrid):
    """Does not tell a bad address from a bad message."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        if answer.outcome is Outcome.RECIPIENT:
            return replace(answer, outcome=Outcome.PERMANENT)
        return answer


class Raises(SendGrid):
    """Lets the errors of its library out."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        if answer.outcome is Outcome.TRANSIENT:
            raise ConnectionError(answer.detail)
        return answer


class Remembers(SendGrid):
    """Keeps the headers of the message before."""

    kept: ClassVar[dict[str, str]] = {}

    async def send(self, outgoing, wire):
        self.kept = {**self.kept, **(outgoing.content.headers or {})}
        content = replace(outgoing.content, headers=self.kept)
        return await super().send(replace(outgoing, content=content), wire)


class MixesUp(SendGrid):
    """Gives the answer of one call to another."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        return replace(answer, provider_message_id="always the same")


class Cleans(SendGrid):
    """Makes something else of a header that holds a line break, and sends that."""

    async def send(self, outgoing, wire):
        content = Content("ada@example.com", "cleaned", outgoing.content.text)
        return await super().send(replace(outgoing, content=content), wire)


class Tells(SendGrid):
    """Shows its key to whoever prints it."""

    def __repr__(self) -> str:
        return f"Tells({self._key_to_tell!r})"

    def __init__(self, name: str, config: Any, **more: Any) -> None:
        super().__init__(name, config, **more)
        self._key_to_tell = config.api_key.get_secret_value()


class ProbesBySending(SendGrid):
    """Finds out whether a message would be taken by sending one."""

    async def probe(self) -> Health:
        answer = await self.send(_probe_message(), Wire())
        return Health(answer.outcome is Outcome.ACCEPTED, answer.detail)


class ClosesOnce(SendGrid):
    """Cannot be closed when it is closed."""

    is_closed = False

    async def close(self) -> None:
        if self.is_closed:
            raise RuntimeError("closed already")
        self.is_closed = True
        await super().close()


class KeepsItsConnection(SendGrid):
    """Uses one connection for all, whatever became of the call before."""

    streams: Any = None

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        if self.streams is None:
            host, port = self._config.base_url.removeprefix("http://").split(":")
            self.streams = await asyncio.open_connection(host, int(port))
        reader, writer = self.streams
        wire.is_written = True
        writer.write(_request_of(outgoing, self._config.api_key.get_secret_value()))
        head = await reader.readuntil(b"\r\n\r\n")
        is_accepted = b" 202 " in head
        return Answer(Outcome.ACCEPTED if is_accepted else Outcome.UNKNOWN, "raw")

    async def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        await super().close()


class GivesNothing(SendGrid):
    """Forgets to return what came out."""

    async def send(self, outgoing, wire):
        await super().send(outgoing, wire)


class GivesItsOutcome(SendGrid):
    """Returns a part of the answer."""

    async def send(self, outgoing, wire):
        return (await super().send(outgoing, wire)).outcome


class ClaimsEarly(SendGrid):
    """Says that a message is taken, and sends it afterwards."""

    async def send(self, outgoing, wire):
        wire.is_written = True
        self.later = asyncio.create_task(super().send(outgoing, Wire()))
        return Answer(Outcome.ACCEPTED, "hopefully")


class ForgetsTheId(SendGrid):
    """Sends under an id of its own, so that no receipt finds its notification."""

    async def send(self, outgoing, wire):
        return await super().send(replace(outgoing, notification_id="mine"), wire)


class SaysWrittenAtOnce(SendGrid):
    """Takes a connection that is refused for one that broke."""

    async def send(self, outgoing, wire):
        wire.is_written = True
        return await super().send(outgoing, wire)


class GoesOn(SendGrid):
    """Lets nobody cancel it."""

    async def send(self, outgoing, wire):
        sending = asyncio.ensure_future(super().send(outgoing, wire))
        while not sending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(sending)
        return sending.result()


class BlocksTheLoop(SendGrid):
    """Calls a library that blocks, from the event loop."""

    async def send(self, outgoing, wire):
        url = urlsplit(self._config.base_url)
        with closing(http.client.HTTPConnection(url.netloc, timeout=5)) as connection:
            connection.request("POST", "/v3/mail/send", b"{}")
            return Answer(Outcome.ACCEPTED, str(connection.getresponse().status))


class Queues(SendGrid):
    """Makes one call after another."""

    turn = asyncio.Lock()

    async def send(self, outgoing, wire):
        async with self.turn:
            return await super().send(outgoing, wire)


class NeverCloses(SendGrid):
    """Leaves a connection to whoever finds it."""

    left: ClassVar[list[socket.socket]] = []

    async def open(self) -> None:
        await super().open()
        url = urlsplit(self._config.base_url)
        self.left.append(socket.create_connection((url.hostname, url.port)))


class TellsTheAddress(SendGrid):
    """Puts an address where logs will show it."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        return replace(answer, detail=f"sent to {outgoing.content.to}")


class TakesTroubleForSuccess(SendGrid):
    """Looks at the answer's form alone."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        is_trouble = answer.reason == "http_503"
        return replace(answer, outcome=Outcome.PERMANENT) if is_trouble else answer


class TakesHasteForTrouble(SendGrid):
    """Opens its circuit where it should slow down."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        is_haste = answer.outcome is Outcome.THROTTLED
        return replace(answer, outcome=Outcome.TRANSIENT) if is_haste else answer


class CountsMilliseconds(SendGrid):
    """Has another idea of a second."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        return replace(answer, retry_after_s=(answer.retry_after_s or 0.0) * 1000 or None)


class BlamesTheMessage(SendGrid):
    """Gives up each message for a key that is wrong."""

    async def send(self, outgoing, wire):
        answer = await super().send(outgoing, wire)
        is_ours = answer.outcome is Outcome.MISCONFIGURED
        return replace(answer, outcome=Outcome.PERMANENT) if is_ours else answer


class IsAlwaysWell(SendGrid):
    """Asks nobody."""

    async def probe(self) -> Health:
        return Health(True, "surely")


class WrongKind(SendGrid):
    """Is of another kind than its class says, and has no settings of its own."""

    Config = dict  # type: ignore[assignment]


def _probe_message() -> Outgoing:
    return Outgoing("probe", "email", Content("ada@example.com", "s", "t"), 1, "probe")


def _request_of(outgoing: Outgoing, key: str) -> bytes:
    body = json.dumps(
        {
            "personalizations": [
                {
                    "to": [{"email": outgoing.content.to}],
                    "custom_args": {"clarion_id": outgoing.notification_id},
                }
            ],
            "from": {"email": "clarion@example.com"},
            "subject": "raw",
            "content": [{"type": "text/plain", "value": outgoing.content.text}],
        }
    ).encode()
    head = (
        f"POST /v3/mail/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def suite_of(deviant: Any) -> ProviderConformance:
    class Suite(ProviderConformance):
        adapter_class = deviant
        refusal = Fault.error(400, field="personalizations.0.to.0.email")
        secrets = (SendGridLookalike().api_key,)

        def server(self) -> SendGridLookalike:
            return SendGridLookalike()

    return Suite()


@pytest.fixture(autouse=True)
def tidy():
    """What is left open here belongs to nobody else."""
    yield
    while NeverCloses.left:
        NeverCloses.left.pop().close()


@pytest.mark.parametrize(
    ("deviant", "finding", "words"),
    [
        (TriesAgain, "test_a_refused_recipient_is_told_as_such", "never tries again"),
        (TriesAgain, "test_a_connection_lost_after_the_message_is_unknown", "never tries again"),
        (NeverSaysWritten, "test_a_message_that_is_taken_is_accepted", "is_written` was never set"),
        (NeverSaysWritten, "test_a_time_out_after_the_message_is_unknown", "came to TRANSIENT"),
        (IsAlwaysSure, "test_a_connection_lost_after_the_message_is_unknown", "came to TRANSIENT"),
        (CallsItPermanent, "test_a_refused_recipient_is_told_as_such", "came to PERMANENT"),
        (Raises, "test_a_refused_connection_is_transient", "`send` raised ConnectionError"),
        (Remembers, "test_nothing_of_one_message_reaches_the_next", "of the message before"),
        (MixesUp, "test_calls_side_by_side_do_not_mix", "the same provider's id"),
        (Cleans, "test_no_line_break_gets_into_a_header", "is let through"),
        (Tells, "test_no_secret_shows", "a secret shows"),
        (ProbesBySending, "test_a_probe_sends_nothing", "the probe sent a message"),
        (ClosesOnce, "test_it_can_be_closed_twice_and_unused", "closed already"),
        (
            KeepsItsConnection,
            "test_a_call_that_was_cut_off_leaves_no_half_used_connection",
            "stays open",
        ),
        (WrongKind, "test_the_class_is_one_that_clarion_can_use", "`Config` must be a subclass"),
        (WrongKind, "test_its_settings_refuse_a_key_that_there_is_not", "that it does not know"),
        (GivesNothing, "test_a_message_that_is_taken_is_accepted", "gave NoneType"),
        (GivesItsOutcome, "test_a_message_that_is_taken_is_accepted", "owes Answer"),
        (ClaimsEarly, "test_a_message_that_is_taken_is_accepted", "before the provider had"),
        (ForgetsTheId, "test_a_message_that_is_taken_is_accepted", "outgoing.notification_id"),
        (SaysWrittenAtOnce, "test_a_refused_connection_is_transient", "there was no connection"),
        (GoesOn, "test_a_time_out_after_the_message_is_unknown", "though it was cancelled"),
        (BlocksTheLoop, "test_a_message_that_is_taken_is_accepted", "blocks the event loop"),
        (Queues, "test_no_call_waits_for_another", "only 1 of 4 calls"),
        (NeverCloses, "test_close_releases_what_was_opened", "stay open after `close`"),
        (TellsTheAddress, "test_a_message_that_is_taken_is_accepted", "the whole address"),
        (TakesTroubleForSuccess, "test_a_provider_in_trouble_took_nothing", "came to PERMANENT"),
        (TakesHasteForTrouble, "test_a_provider_that_is_too_busy_is_told_as_such", "TRANSIENT"),
        (CountsMilliseconds, "test_a_provider_that_is_too_busy_is_told_as_such", "is 7000.0"),
        (BlamesTheMessage, "test_wrong_credentials_are_told_as_such", "came to PERMANENT"),
        (IsAlwaysWell, "test_a_probe_sends_nothing", "nothing listens"),
    ],
)
def test_an_adapter_that_breaks_a_promise_is_found(deviant, finding, words):
    """By the test that is there for it, in words; its honest parent passes the same one."""
    getattr(suite_of(SendGrid), finding)()

    with pytest.raises((AssertionError, OSError, RuntimeError), match=words):
        getattr(suite_of(deviant), finding)()


def test_every_test_of_the_suite_can_fail():
    """None of them is left out above."""
    tests = {name for name in dir(ProviderConformance) if name.startswith("test_")}
    (marks,) = test_an_adapter_that_breaks_a_promise_is_found.pytestmark

    assert {finding for _, finding, _ in marks.args[1]} == tests


@pytest.mark.parametrize("deviant", [KeepsItsConnection, MixesUp, Remembers, Cleans])
def test_what_an_adapter_does_right_is_not_held_against_it(deviant):
    """These break a promise to the next message only, so a first one goes well."""
    suite_of(deviant).test_a_message_that_is_taken_is_accepted()
