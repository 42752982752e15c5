"""`clarion send --from FILE`: what goes over the wire, what is told, and nothing goes twice."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import clarion.cli
from clarion.cli import bulk
from clarion.cli.bulk import BATCH_LINES, Bulk
from clarion.cli.client import Server, ServerProblem, ServerUnreachable
from clarion.cli.file_send import MAX_LISTED
from clarion.cli.notification_file import read_notifications

_ROOT = Path(clarion.cli.__file__).parent.parent.parent

ROUTE = "POST /v1/notifications/batch"
BAD = {
    "status": 422,
    "title": "Unprocessable content",
    "detail": "To is no phone number",
    "errors": [{"detail": "to is no phone number", "pointer": "/to"}],
}
BUSY = {"status": 503, "title": "Not accepted now", "detail": "The store cannot be used now"}


class Intake:
    """Answers batches as the server does: keys are remembered, an address of "bad" is refused."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.batches: list[int] = []

    def __call__(self, seen: Any) -> Any:
        """Take the items of one request."""
        self.batches.append(len(seen.body))
        results = [self.take(index, item) for index, item in enumerate(seen.body)]
        rejected = sum("problem" in each for each in results)
        return {"accepted": len(results) - rejected, "rejected": rejected, "results": results}

    def take(self, index: int, item: dict[str, Any]) -> dict[str, Any]:
        """Take one item."""
        if item["to"] == "bad":
            return {"index": index, "problem": BAD}
        key = item["idempotency_key"]
        if key in self.keys:
            return {"index": index, "id": "x", "status": "queued", "replayed": True}
        self.keys.append(key)
        return {"index": index, "id": "x", "status": "queued"}


@pytest.fixture
def intake(there: Any) -> Intake:
    """A server that takes batches."""
    intake = Intake()
    there.answer(ROUTE, intake, status=202)
    return intake


def csv_of(path: Path, *recipients: str) -> str:
    """Write a CSV of text messages; its name."""
    path.write_text("to,text\n" + "".join(f"{each},Hi\n" for each in recipients))
    return str(path)


# --- over the wire ---------------------------------------------------------------------------


async def test_each_line_is_an_item_and_the_options_are_defaults(
    there: Any, run: Any, intake: Intake, tmp_path: Path
) -> None:
    """What a line says wins over what the command line says for all."""
    file = tmp_path / "people.ndjson"
    file.write_text('{"to": "+1", "text": "own"}\n{"to": "+2", "tenant": "b"}\n')

    ran = await run(
        "send", "--from", str(file), "--channel", "sms", "--text", "all", "--tenant", "a"
    )

    assert ran.code == 0
    assert ran.out == "2 accepted, 0 already accepted before, 0 rejected\n"
    assert ran.err == ""
    (request,) = there.seen
    assert request.headers["Content-Type"] == "application/x-ndjson"
    items = [{k: v for k, v in each.items() if k != "idempotency_key"} for each in request.body]
    assert items == [
        {"channel": "sms", "to": "+1", "text": "own", "tenant": "a"},
        {"channel": "sms", "to": "+2", "text": "all", "tenant": "b"},
    ]


async def test_it_goes_in_batches(run: Any, intake: Intake, tmp_path: Path) -> None:
    """Some 500 a request: few round trips, bounded memory."""
    file = csv_of(tmp_path / "a.csv", *(f"+{n}" for n in range(2 * BATCH_LINES + 1)))

    ran = await run("send", "--from", file, "--channel", "sms", "--json")

    assert intake.batches == [BATCH_LINES, BATCH_LINES, 1]
    assert ran.json["accepted"] == 2 * BATCH_LINES + 1


async def test_large_lines_make_small_batches(
    run: Any, intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch stays under what a server takes, whatever its lines hold."""
    monkeypatch.setattr(bulk, "BATCH_BYTES", 1000)
    file = csv_of(tmp_path / "a.csv", *(f"+{n}" for n in range(20)))

    ran = await run("send", "--from", file, "--channel", "sms", "--text", "x" * 300)

    assert ran.code == 0
    assert sum(intake.batches) == 20
    assert len(intake.batches) > 2


async def test_a_pipe_is_a_file_too(run: Any, intake: Intake) -> None:
    """`psql --csv … | clarion send --from -`."""
    ran = await run("send", "--from", "-", "--channel", "sms", input="to,text\n+1,Hi\n+2,Hi\n")

    assert ran.code == 0
    assert len(intake.keys) == 2


# --- nothing twice ---------------------------------------------------------------------------


async def test_the_same_command_again_sends_nothing_twice(
    run: Any, intake: Intake, tmp_path: Path
) -> None:
    """And it says so; two equal lines of one file are two notifications."""
    file = csv_of(tmp_path / "a.csv", "+1", "+1", "+2")

    first = await run("send", "--from", file, "--channel", "sms")
    second = await run("send", "--from", file, "--channel", "sms")

    assert (first.code, second.code) == (0, 0)
    assert first.out == "3 accepted, 0 already accepted before, 0 rejected\n"
    assert second.out == "0 accepted, 3 already accepted before, 0 rejected\n"


async def test_mending_one_line_sends_that_line_alone(
    run: Any, intake: Intake, tmp_path: Path
) -> None:
    """Keys are of lines, not of the whole file, which a mended line would change for all."""
    file = csv_of(tmp_path / "a.csv", "+1", "bad", "+3")
    await run("send", "--from", file, "--channel", "sms")
    csv_of(tmp_path / "a.csv", "+1", "+2", "+3")

    ran = await run("send", "--from", file, "--channel", "sms")

    assert ran.out == "1 accepted, 2 already accepted before, 0 rejected\n"


async def test_another_key_or_text_is_another_sending(
    run: Any, intake: Intake, tmp_path: Path
) -> None:
    """Whoever wants the same lines again can say so; another default makes other lines."""
    file = tmp_path / "a.csv"
    file.write_text("to\n+1\n")
    base = ("send", "--from", str(file), "--channel", "sms")

    for more in (("--text", "a"), ("--text", "b"), ("--text", "a", "--idempotency-key", "2")):
        ran = await run(*base, *more)
        assert ran.out == "1 accepted, 0 already accepted before, 0 rejected\n"


async def test_a_key_of_the_line_is_kept(run: Any, intake: Intake) -> None:
    """Whoever has keys of their own knows better than we do."""
    await run(
        "send", "--from", "-", "--channel", "sms", input="to,idempotency_key\n+1,order-7\n+2,\n"
    )

    assert intake.keys[0] == "order-7"
    assert intake.keys[1].startswith("file-")


# --- what is told ----------------------------------------------------------------------------


async def test_rejected_lines_are_told_with_their_number_and_reason(
    run: Any, intake: Intake, tmp_path: Path
) -> None:
    """What the server refused and what could not be read; the others are sent; exit code 1."""
    file = tmp_path / "a.csv"
    file.write_text("to,text\n+1,Hi\nbad,Hi\n+3\n+4,Hi\n")
    rejected = tmp_path / "rejected.ndjson"

    ran = await run("send", "--from", str(file), "--channel", "sms", "--rejected", str(rejected))

    assert ran.code == 1
    assert ran.out == "2 accepted, 0 already accepted before, 2 rejected\n"
    assert sorted(ran.err.splitlines()) == [
        "line 3: to: to is no phone number",
        "line 4: 1 cells, where the header has 2",
    ]
    written = [json.loads(line) for line in rejected.read_text().splitlines()]
    assert {each["line"]: each["notification"] for each in written} == {
        3: {"channel": "sms", "to": "bad", "text": "Hi"},
        4: None,
    }
    assert all(each["reason"] for each in written)


async def test_with_json_it_is_one_document(run: Any, intake: Intake) -> None:
    """Counts and the rejected lines."""
    ran = await run("send", "--from", "-", "--channel", "sms", "--json", input="to\n+1\nbad\n")

    assert ran.code == 1
    assert ran.json == {
        "accepted": 1, "already_accepted": 0, "rejected": 1, "stopped": None,
        "rejected_lines": [{"line": 3, "reason": "to: to is no phone number"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1: the file is empty"),
        ("to,txt\n", "line 1: the header has no such column as 'txt': did you mean text?"),
        ("text\nHi\n", "line 1: no column to: add it, or give --to"),
    ],
)
async def test_a_file_that_is_none_is_bad_usage(
    there: Any, run: Any, content: str, words: str
) -> None:
    """2, with the line, before anything is sent."""
    ran = await run("send", "--from", "-", "--channel", "sms", input=content)

    assert ran.code == 2
    assert words in ran.err
    assert not there.seen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "no-such-file.csv"), "cannot be opened: no such file"),
        (("--from", "."), "cannot be opened: is a directory"),
        (("--from", "-", "--text", "-"), "standard input is read once"),
        (("--from", "-", "--wait"), "--wait"),
        (("--from", "-", "--patience", "nan"), "--patience"),
        (("--from", "-", "--rejected", "no/such/place"), "--rejected"),
        (("--to", "+1", "--rejected", "x"), "only with --from"),
        ((), "--to"),
    ],
)
async def test_options_that_cannot_be_are_bad_usage(
    there: Any, run: Any, options: tuple[str, ...], words: str
) -> None:
    """Before anything is read or sent."""
    ran = await run("send", "--channel", "sms", *options, input="to\n+1\n")

    assert ran.code == 2
    assert words in ran.err
    assert not there.seen


async def test_the_file_itself_is_not_written_over(
    run: Any, intake: Intake, tmp_path: Path
) -> None:
    """`--rejected` naming the file that is sent would empty it."""
    file = csv_of(tmp_path / "a.csv", "+1")

    ran = await run("send", "--from", file, "--channel", "sms", "--rejected", file)

    assert ran.code == 2
    assert Path(file).read_text() == "to,text\n+1,Hi\n"


async def test_many_rejected_lines_do_not_drown_the_rest(
    there: Any, run: Any, intake: Intake, tmp_path: Path
) -> None:
    """The first are told, all are counted, and the file for them gets every one."""
    file = csv_of(tmp_path / "a.csv", *["bad"] * (MAX_LISTED + 5))
    rejected = tmp_path / "rejected.ndjson"

    ran = await run("send", "--from", file, "--channel", "sms", "--rejected", str(rejected))

    assert ran.code == 1
    assert f"{MAX_LISTED + 5} rejected" in ran.out
    told = ran.err.splitlines()
    assert len(told) == MAX_LISTED + 1
    assert "--rejected FILE gets them all" in told[-1]
    assert len(rejected.read_text().splitlines()) == MAX_LISTED + 5


async def test_on_a_terminal_there_is_a_bar(there: Any, intake: Intake, tmp_path: Path) -> None:
    """Counts as they grow, above them each rejected line; the result stays on standard output."""
    file = csv_of(tmp_path / "a.csv", "+1", "bad", "+3")
    ours, theirs = pty.openpty()
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "send", "--from", file, "--channel", "sms",
        cwd=_ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=theirs, env={**os.environ, "CLARION_URL": there.url, "TERM": "xterm"},
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(command.communicate(), 30)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)

    assert command.returncode == 1
    assert out.decode() == "2 accepted, 0 already accepted before, 1 rejected\n"
    assert "line 3: to: to is no phone number" in shown
    assert "━" in shown
    assert "2 accepted, 0 already accepted before, 1 rejected" in shown


# --- trouble ---------------------------------------------------------------------------------


async def test_a_busy_server_is_asked_again(there: Any, run: Any, intake: Intake) -> None:
    """When it said; the whole batch or the items of one channel, and only these."""
    busy = lambda _: web.json_response(BUSY, status=503, headers={"Retry-After": "0"})  # noqa: E731
    there.answer(ROUTE, busy, busy, intake, status=202)

    ran = await run("send", "--from", "-", "--channel", "sms", input="to\n+1\n+2\n")

    assert ran.code == 0
    assert ran.out == "2 accepted, 0 already accepted before, 0 rejected\n"
    assert len(there.seen) == 3


async def test_a_server_that_dies_is_exit_code_3_and_what_to_do(
    there: Any, run: Any, intake: Intake, tmp_path: Path
) -> None:
    """What is through is told, and that the same command may be run again."""
    there.answer(ROUTE, intake, ConnectionResetError(), status=202)
    file = csv_of(tmp_path / "a.csv", *(f"+{n}" for n in range(BATCH_LINES + 1)))

    ran = await run("send", "--from", file, "--channel", "sms", "--patience", "0", "--json")

    assert ran.code == 3
    assert ran.json["accepted"] == BATCH_LINES
    assert ran.json["stopped"]["line"] == BATCH_LINES + 2
    assert "run the same command again" in ran.err


def heed_interrupts() -> None:
    """As on a terminal: what a shell runs in the background inherits that it ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_an_interrupt_says_how_far_it_was(there: Any, intake: Intake) -> None:
    """Ctrl-C in the middle: what is through, and that the same command completes it."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion", "send", "--from", "-", "--channel", "sms",
        cwd=_ROOT, env={**os.environ, "CLARION_URL": there.url},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert command.stdin is not None
    assert command.stderr is not None
    # A rejected line behind the batch shows that its answer has arrived.
    command.stdin.write(b"to\n" + b"+1\n" * BATCH_LINES + b"+2,too,many\n")
    await asyncio.wait_for(command.stderr.readuntil(b"the header has 1"), 30)

    command.send_signal(signal.SIGINT)
    err = await asyncio.wait_for(command.stderr.read(), 30)
    code = await asyncio.wait_for(command.wait(), 30)

    assert code != 0
    assert f"{BATCH_LINES} accepted, 0 already accepted before, 1 rejected, then interrup" in (
        err.decode()
    )
    assert b"run the same command again" in err
    assert b"Traceback" not in err


async def test_no_server_at_all_is_not_waited_for(run: Any) -> None:
    """A wrong address shows at once, patience or not."""
    ran = await run(
        "send", "--from", "-", "--channel", "sms", input="to\n+1\n",
        CLARION_URL="http://127.0.0.1:1",
    )  # fmt: skip

    assert ran.code == 3
    assert "no Clarion answers" in ran.err


async def test_a_key_that_is_refused_is_exit_code_1(there: Any, run: Any) -> None:
    """No patience helps, so none is spent."""
    there.answer(ROUTE, {"detail": "a key is needed", "status": 401}, status=401)

    ran = await run("send", "--from", "-", "--channel", "sms", input="to\n+1\n")

    assert ran.code == 1
    assert "CLARION_API_KEY" in ran.err
    assert len(there.seen) == 1


async def test_a_bad_end_spoils_nothing_before_it(
    run: Any, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before the place where a file is no more readable is sent."""
    monkeypatch.setattr("clarion.cli.notification_file.MAX_LINE_BYTES", 100)

    ran = await run("send", "--from", "-", "--channel", "sms", input="to\n+1\n+2\n" + "x" * 101)

    assert ran.code == 2
    assert ran.out == "2 accepted, 0 already accepted before, 0 rejected\n"
    assert "line 4: it is longer than 100 bytes" in ran.err


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


class _Scripted(Server):
    """Answers by a script whose last line is repeated; "ok" accepts all, a number as many."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("http://127.0.0.1:1")
        self._answers = list(answers)
        self.asked: list[int] = []

    def post_lines(self, *path: str, lines: Any) -> Any:
        self.asked.append(len(lines))
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        taken = len(lines) if found == "ok" else found
        return {"results": [{"id": "x"} if n < taken else {"problem": BUSY}
                            for n in range(len(lines))]}  # fmt: skip


def sending(server: Server, lines: int = 3, patience_s: float = 60.0) -> tuple[Any, _Clock]:
    """Send that many lines on a clock that waiting moves; the report, or what was raised."""
    clock = _Clock()
    stream = io.BytesIO(b"to\n" + b"+1\n" * lines)
    found = read_notifications(stream, "-", {"channel": "sms"})
    made = Bulk(server, patience_s, clock, pause=clock)  # type: ignore[arg-type]
    try:
        return made.send(found), clock
    except (ServerProblem, ServerUnreachable) as error:
        return error, clock


def test_the_wait_is_as_long_as_the_server_says():
    """Retry-After wins over our own back-off."""
    busy = ServerProblem(429, BUSY, retry_after_s=7.0)
    report, clock = sending(_Scripted(busy, busy, "ok"))

    assert report.accepted == 3
    assert clock.waited == [7.0, 7.0]


def test_patience_ends():
    """A server that stays busy is given up; each wait is bounded, and so is the whole."""
    error, clock = sending(_Scripted(ServerProblem(503, BUSY)), patience_s=30)

    assert isinstance(error, ServerProblem)
    assert clock.at <= 30
    assert clock.waited == [1, 2, 4, 8, 10]


def test_a_server_that_asks_for_more_than_our_patience_is_given_up_at_once():
    """Nobody sits through the wait only to be told no at its end."""
    error, clock = sending(_Scripted(ServerProblem(503, BUSY, retry_after_s=3600.0)))

    assert isinstance(error, ServerProblem)
    assert clock.waited == []


def test_only_what_was_refused_is_sent_again_and_progress_renews_patience():
    """A lane that is slow but moves is not given up."""
    server = _Scripted(1, 1, 1, "ok")
    report, clock = sending(server, lines=4, patience_s=1.5)

    assert report.accepted == 4
    assert server.asked == [4, 3, 2, 1]
    assert clock.waited == [1, 1, 1]


def test_a_restart_of_the_server_is_waited_for():
    """It had answered, so the address is right; keys make the repetition harmless."""
    gone = ServerUnreachable("u", "gone", is_doubtful=True)
    report, clock = sending(_Scripted("ok", gone, gone, "ok"), lines=BATCH_LINES + 1)

    assert report.accepted == BATCH_LINES + 1
    assert len(clock.waited) == 2


def test_a_first_batch_that_may_have_been_accepted_was_begun():
    """Who sent it hears that the same command goes on from there."""
    gone = ServerUnreachable("u", "broke off", is_doubtful=True)
    report, _ = sending(_Scripted(gone))

    assert (report.error, report.stopped_at) == (gone, 2)


@pytest.mark.parametrize("answer", [{"results": []}, [], None, {"results": [{}] * 4}])
def test_what_answers_otherwise_is_no_clarion(answer: Any):
    """Another program must not be believed."""

    class Other(Server):
        def post_lines(self, *path: str, lines: Any) -> Any:
            return answer

    error, _ = sending(Other("http://127.0.0.1:1"))

    assert isinstance(error, ServerUnreachable)
