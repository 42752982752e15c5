"""`clarion send`: what goes over the wire, and what the person gets to read."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from clarion.cli.client import Server, ServerUnreachable
from clarion.cli.send import wait_until_final

# The helpers live beside the fixtures, which pytest gives by name.
ID = "01JC0000000000000000000001"
QUEUED = {"id": ID, "status": "queued", "explanation": "It waits in the queue for its turn."}
SENT = {"id": ID, "status": "sent", "explanation": "outbox took it."}
FAILED = {"id": ID, "status": "failed", "explanation": "The address does not exist."}


async def test_every_option_becomes_a_field(there: Any, run: Any) -> None:
    """The command line can say what the API can hear, and says nothing that was not given."""
    there.answer("POST /v1/notifications", QUEUED, status=202)

    ran = await run(
        "send", "--channel", "email", "--to", "ada@example.com", "--subject", "Hi",
        "--text", "Hello", "--html", "<p>Hello</p>", "--data", '{"a": 1}',
        "--metadata", '{"b": 2}', "--headers", '{"x-a": "b"}',
        "--priority", "high", "--send-at", "2030-01-01T00:00:00Z",
        "--expires-at", "2030-01-02T00:00:00Z", "--delivery", "at_most_once",
        "--tenant", "acme", "--reference", "order-7", "--idempotency-key", "k-1",
    )  # fmt: skip

    assert ran.code == 0
    (request,) = there.seen
    assert request.body == {
        "channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello",
        "html": "<p>Hello</p>", "data": {"a": 1}, "headers": {"x-a": "b"},
        "metadata": {"b": 2}, "priority": "high",
        "send_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-02T00:00:00Z",
        "delivery": "at_most_once", "tenant": "acme", "reference": "order-7",
    }  # fmt: skip
    assert request.headers["Idempotency-Key"] == "k-1"
    assert request.headers["Content-Type"] == "application/json"


async def test_what_was_not_given_is_not_sent(there: Any, run: Any) -> None:
    """The server's defaults are the defaults."""
    there.answer("POST /v1/notifications", QUEUED, status=202)

    ran = await run("send", "--channel", "sms", "--to", "+15551231234", "--text", "Hi")

    assert there.seen[0].body == {"channel": "sms", "to": "+15551231234", "text": "Hi"}
    assert "Idempotency-Key" not in there.seen[0].headers
    assert ran.out == f"{ID} queued\n"
    assert ran.err == "It waits in the queue for its turn.\n"


async def test_a_dash_reads_the_text_from_standard_input(there: Any, run: Any) -> None:
    """`dmesg | clarion send … --text -` is how scripts use it."""
    there.answer("POST /v1/notifications", QUEUED, status=202)

    await run("send", "--channel", "sms", "--to", "+1", "--text", "-", input="from a pipe\n")

    assert there.seen[0].body["text"] == "from a pipe\n"


async def test_the_key_of_the_environment_goes_as_a_bearer_token(there: Any, run: Any) -> None:
    """It is never an argument, which everybody on the machine could read."""
    there.answer("POST /v1/notifications", QUEUED, status=202)

    await run("send", "--channel", "sms", "--to", "+1", "--text", "x", CLARION_API_KEY="k3y")

    assert there.seen[0].headers["Authorization"] == "Bearer k3y"


async def test_waiting_ends_with_the_final_status(there: Any, run: Any) -> None:
    """--wait answers the question that people have: was it sent?"""
    there.answer("POST /v1/notifications", QUEUED, status=202)
    there.answer(f"GET /v1/notifications/{ID}", QUEUED, SENT)

    ran = await run("send", "--channel", "sms", "--to", "+1", "--text", "x", "--wait")

    assert ran.code == 0
    assert ran.out == f"{ID} sent\n"
    assert f"accepted as {ID}" in ran.err


async def test_waiting_for_one_that_fails_exits_with_1(there: Any, run: Any) -> None:
    """A script can tell sent from not sent."""
    there.answer("POST /v1/notifications", QUEUED, status=202)
    there.answer(f"GET /v1/notifications/{ID}", FAILED)

    ran = await run("send", "--channel", "sms", "--to", "+1", "--text", "x", "--wait", "--json")

    assert ran.code == 1
    assert ran.json == FAILED


async def test_waiting_has_an_end(there: Any, run: Any) -> None:
    """After --timeout it says how it stands; the notification goes on without us."""
    there.answer("POST /v1/notifications", QUEUED, status=202)
    there.answer(f"GET /v1/notifications/{ID}", QUEUED)

    ran = await run(
        "send", "--channel", "sms", "--to", "+1", "--text", "x", "--wait", "--timeout", "0"
    )

    assert ran.code == 1
    assert ran.out == f"{ID} queued\n"
    assert "waits in the queue" in ran.err


class _Clock:
    """Goes on by what was waited for."""

    def __init__(self) -> None:
        self.at = 0.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        self.at += timeout
        return False


class _Flaky(Server):
    """A server that is away for the first questions."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("http://127.0.0.1:1")
        self._answers = list(answers)

    def get(self, *path: str, **query: str | None) -> Any:
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.mark.parametrize("status", [503, 429])
async def test_a_server_that_is_starting_does_not_end_the_wait(
    there: Any, run: Any, status: int
) -> None:
    """It is asked again; what it accepted, it keeps."""
    there.answer("POST /v1/notifications", QUEUED, status=202)
    there.answer(f"GET /v1/notifications/{ID}", web.Response(status=status, text="{}"), SENT)

    ran = await run("send", "--channel", "sms", "--to", "+1", "--text", "x", "--wait")

    assert (ran.code, ran.out) == (0, f"{ID} sent\n")


async def test_ctrl_c_while_waiting_says_that_it_goes_on(
    there: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should send it again because they stopped to look."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clarion.cli.send.wait_until_final", interrupted)
    there.answer("POST /v1/notifications", QUEUED, status=202)

    ran = await run("send", "--channel", "sms", "--to", "+1", "--text", "x", "--wait")

    assert ran.code == 130
    assert f"it goes on by itself: clarion status {ID}" in ran.err


def test_a_restart_of_the_server_does_not_end_the_wait() -> None:
    """What was accepted is kept, so that its answer comes when the server is back."""
    clock, gone = _Clock(), ServerUnreachable("u", "gone")

    final = wait_until_final(
        _Flaky(gone, gone, SENT), dict(QUEUED), timeout_s=30, clock=clock, pause=clock
    )

    assert final == SENT
    assert len(clock.waited) == 2


def test_a_server_that_stays_away_is_reported_at_the_end() -> None:
    """The wait is bounded, and its polls grow rarer."""
    clock = _Clock()

    with pytest.raises(ServerUnreachable):
        wait_until_final(
            _Flaky(ServerUnreachable("u", "gone")),
            dict(QUEUED),
            timeout_s=30,
            clock=clock,
            pause=clock,
        )

    assert clock.at == pytest.approx(30)
    assert len(clock.waited) < 30


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--data", "{", "this is no JSON"),
        ("--data", "[1]", "write a JSON object"),
        ("--metadata", "7", "write a JSON object"),
        ("--idempotency-key", "ä", "printable ASCII only"),
        ("--timeout", "-1", "--timeout"),
        ("--timeout", "nan", "--timeout"),
    ],
)
async def test_an_option_that_cannot_be_is_bad_usage(
    there: Any, run: Any, option: str, value: str, words: str
) -> None:
    """2 is for what was typed wrong, before anything is sent."""
    ran = await run("send", "--channel", "sms", "--to", "+1", option, value)

    assert ran.code == 2
    assert words in ran.err
    assert not there.seen


async def test_faults_are_named_as_the_command_line_names_them(there: Any, run: Any) -> None:
    """The server speaks of /send_at; the person has typed --send-at."""
    problem = {
        "title": "Unprocessable content",
        "status": 422,
        "detail": "2 things are wrong with this notification",
        "errors": [
            {"detail": "a timestamp needs a zone", "pointer": "/send_at"},
            {"detail": "is not an e-mail address", "pointer": "/to"},
        ],
    }
    there.answer("POST /v1/notifications", problem, status=422)

    ran = await run("send", "--channel", "email", "--to", "x", "--text", "x", "--send-at", "now")

    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.splitlines() == [
        "error: 2 things are wrong",
        "  --send-at: a timestamp needs a zone",
        "  --to: is not an e-mail address",
    ]


async def test_one_fault_is_told_once(there: Any, run: Any) -> None:
    """The problem's own sentence would only say it a second time."""
    problem = {
        "title": "Unprocessable content", "status": 422, "detail": "The channel is not configured",
        "errors": [{"detail": "the channel is not configured", "pointer": "/channel"}],
    }  # fmt: skip
    there.answer("POST /v1/notifications", problem, status=422)

    ran = await run("send", "--channel", "fax", "--to", "x", "--text", "x")

    assert ran.err.splitlines() == ["error: --channel: the channel is not configured"]
