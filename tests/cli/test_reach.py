"""What comes back instead of an answer: exit codes, words, and clean output."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import clarion.cli
from clarion.cli.client import Server, ServerProblem, ServerUnreachable

_ROOT = Path(clarion.cli.__file__).parent.parent.parent


@pytest.fixture
def closed_url() -> Iterator[str]:
    """A port that is taken, so that nobody else gets it, and refuses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def test_no_server_is_exit_code_3(run: Any, closed_url: str) -> None:
    """The answer says where it looked, why that failed, and what to do."""
    ran = await run("status", CLARION_URL=closed_url)

    assert ran.code == 3
    assert ran.out == ""
    assert f"no Clarion answers at {closed_url}: connection refused" in ran.err
    assert "clarion serve" in ran.err


async def test_no_server_with_json_is_json_too(run: Any, closed_url: str) -> None:
    """A script parses standard output whatever happens."""
    ran = await run("status", "--json", CLARION_URL=closed_url)

    assert ran.code == 3
    assert "no Clarion answers" in ran.json["detail"]


@pytest.mark.parametrize("text", ["<html>It works!</html>", "OK", "[1, 2]", "7"])
async def test_something_else_on_the_port_is_no_clarion(there: Any, run: Any, text: str) -> None:
    """Another program's answer must not be taken for ours."""
    there.answer("GET /v1/stats", text)

    ran = await run("status")

    assert ran.code == 3
    assert "no Clarion" in ran.err


async def test_a_post_that_breaks_off_may_have_taken_effect(there: Any, run: Any) -> None:
    """Nobody knows, so nobody claims that it was not accepted."""
    there.answer("POST /v1/notifications", ConnectionResetError())

    ran = await run("send", "--channel", "sms", "--to", "+1", "--text", "x")

    assert ran.code == 3
    assert "may have taken effect" in ran.err


async def test_a_read_that_breaks_off_took_no_effect(there: Any, run: Any) -> None:
    """Reading changes nothing, so there is nothing to doubt."""
    there.answer("GET /v1/stats", ConnectionResetError())

    ran = await run("status")

    assert ran.code == 3
    assert "may have taken effect" not in ran.err


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_error_page_of_a_gateway_is_no_answer(there: Any, run: Any, method: str) -> None:
    """Its HTML is not shown; what was posted may have been passed on before."""
    page = "<html>\r\n<h1>502 Bad Gateway</h1></html>"
    there.answer("GET /v1/stats", page, status=502)
    there.answer("POST /v1/queues/sms/pause", page, status=502)

    ran = await run(*(("status",) if method == "GET" else ("queues", "pause", "sms")))

    assert ran.code == 3
    assert "no Clarion (it answered HTTP 502 Bad Gateway and no JSON object)" in ran.err
    assert "<h1>" not in ran.err
    assert ("may have taken effect" in ran.err) == (method == "POST")


@pytest.mark.parametrize(
    "arguments", [("send", "--channel", "sms", "--to", "+1", "--wait"), ("dead-letters", "redrive")]
)
async def test_json_of_another_program_is_no_clarion(
    there: Any, run: Any, arguments: tuple[str, ...]
) -> None:
    """Fields that every Clarion writes are missing: in words, not in a traceback."""
    there.answer("POST /v1/notifications", {"status": "ok"})
    there.answer("POST /v1/dead-letters/redrive", {"status": "ok"})

    ran = await run(*arguments)

    assert ran.code == 3
    assert "no Clarion (there is no id in its answer)" in ran.err


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_server_that_drips_is_given_up(head: bytes) -> None:
    """Each byte comes in time, the answer never does."""
    is_over = Event()
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        thread = Thread(target=_drip, args=(dripping, head, is_over))
        thread.start()
        url = f"http://127.0.0.1:{dripping.getsockname()[1]}"
        try:
            with pytest.raises(ServerUnreachable, match=r"no complete answer within 0.2 s"):
                Server(url, exchange_s=0.2).get("stats")
        finally:
            is_over.set()
            thread.join()


def _drip(listening: socket.socket, head: bytes, is_over: Event) -> None:
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        connection.sendall(head)
        while not is_over.wait(0.01):
            connection.sendall(b"H")


def test_a_server_that_refuses_a_body_half_way_is_heard() -> None:
    """It answers 413 and hangs up; `broken pipe` would send people to the network."""
    problem = b'{"title": "Too large"}'
    head = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(problem)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=_refuse, args=(listening, head + problem))
        thread.start()
        server = Server(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(ServerProblem, match="Too large"):
            server.post("notifications", body={"text": "x" * 20_000_000})
        thread.join()


def _refuse(listening: socket.socket, answer: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    """Every wait has an end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Server(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)

        with pytest.raises(ServerUnreachable, match=r"no answer within 0.05 s"):
            server.get("stats")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://h/?a=1",
        "http://a b/",
        "http://me:secret@host",
    ],
)
async def test_a_url_that_is_none_is_bad_usage(run: Any, url: str) -> None:
    """A typo in --url is not a dead server."""
    ran = await run("status", "--url", url)

    assert ran.code == 2
    assert "is no URL of a server" in ran.err


async def test_a_url_without_its_scheme_is_completed(run: Any) -> None:
    """It is what people write."""
    ran = await run("status", "--url", "localhost:8080")

    assert ran.code == 2
    assert "did you mean http://localhost:8080?" in ran.err


async def test_https_where_there_is_none_says_so(there: Any, run: Any) -> None:
    """Without the words of a library."""
    ran = await run("status", "--url", there.url.replace("http:", "https:"))

    assert ran.code == 3
    assert "could not be set up (wrong version number); is it http://?" in ran.err


async def test_a_key_that_cannot_be_sent_is_bad_usage(run: Any) -> None:
    """The message does not show the key."""
    ran = await run("status", CLARION_API_KEY="käy")

    assert ran.code == 2
    assert "CLARION_API_KEY" in ran.err
    assert "käy" not in ran.err


@pytest.mark.parametrize("before", [True, False])
async def test_url_and_json_may_stand_before_or_after_the_command(
    there: Any, run: Any, before: bool
) -> None:
    """Nobody remembers which options are global."""
    there.answer("GET /v1/providers", {"items": []})
    options = ["--url", there.url, "--json"]
    command = ["providers", "list"]

    ran = await run(*(options + command if before else command + options), CLARION_URL="")

    assert ran.code == 0
    assert ran.json == {"items": []}


async def test_a_refused_key_says_where_to_put_the_right_one(there: Any, run: Any) -> None:
    """401 is the first answer that a new user gets."""
    problem = {"title": "Unauthorized", "status": 401, "detail": "a key is needed"}
    there.answer("GET /v1/stats", problem, status=401)

    ran = await run("status")

    assert ran.code == 1
    assert "error: a key is needed" in ran.err
    assert "CLARION_API_KEY" in ran.err


async def test_a_problem_with_json_is_shown_whole(there: Any, run: Any) -> None:
    """Machines get the problem, people the sentence, each on its own stream."""
    there.answer("POST /v1/queues/fax/pause", {"title": "Not found", "x": 1}, status=404)

    ran = await run("queues", "pause", "fax", "--json")

    assert ran.code == 1
    assert ran.json == {"status": 404, "title": "Not found", "x": 1}
    assert ran.err == "error: Not found\n"


async def test_a_redirect_is_not_followed(there: Any, run: Any) -> None:
    """The key would go to whoever is named in it."""
    there.answer("GET /v1/stats", "moved", status=302)

    ran = await run("status", CLARION_API_KEY="k3y")

    assert ran.code == 3
    assert "HTTP 302 Found" in ran.err
    assert len(there.seen) == 1


async def test_a_proxy_of_the_environment_is_not_used(
    there: Any, run: Any, closed_url: str
) -> None:
    """A server on loopback is not behind the company's proxy."""
    there.answer("GET /v1/providers", {"items": []})

    ran = await run("providers", "list", "--json", http_proxy=closed_url, no_proxy="")

    assert ran.code == 0


async def test_what_a_provider_says_cannot_steer_the_terminal(there: Any, run: Any) -> None:
    """Escape sequences of a stranger are shown, not obeyed."""
    problem = {"detail": "no \x1b]0;owned\x07 \x9b31m"}
    there.answer("GET /v1/stats", problem, status=500)

    ran = await run("status")

    assert "\x1b" not in ran.err
    assert "\x9b" not in ran.err
    assert r"\x1b]0;owned\x07" in ran.err


def test_help_does_not_wait_for_the_engine() -> None:
    """`clarion --help` loads neither the HTTP server nor the database."""
    heavy = (
        "asyncio aiohttp sqlalchemy alembic pydantic structlog prometheus_client pykka rich.table"
    )
    code = f"import sys, clarion.cli; print([m for m in {heavy.split()} if m in sys.modules])"

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["--version"], 0), (["nonsense"], 2), (["send"], 2), (["status", ""], 2)],
)
async def test_usage_has_its_exit_codes(run: Any, arguments: list[str], code: int) -> None:
    """0 for help, 2 for what cannot be understood."""
    ran = await run(*arguments)

    assert ran.code == code


async def test_an_answer_with_odd_text_is_valid_json_on_any_terminal(there: Any, run: Any) -> None:
    """Standard output may be ASCII only."""
    there.answer("GET /v1/providers", {"items": [{"name": "zürich \ud800"}]})

    ran = await run("providers", "list", "--json")

    assert ran.out.isascii()
    assert json.loads(ran.out) == {"items": [{"name": "zürich \ud800"}]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("statsu", "--json"), "Did you mean 'status'?"),
        (("--json", "send"), "say it, or send a file with --from"),
        (("list", "--limit", "0", "--json"), "--limit"),
    ],
)
async def test_bad_usage_with_json_is_json_too(
    run: Any, arguments: tuple[str, ...], words: str
) -> None:
    """A script that mistypes an option parses the answer like any other."""
    ran = await run(*arguments)

    assert ran.code == 2
    assert words in ran.json["detail"]
    assert words in ran.err


@pytest.mark.parametrize("arguments", [("queues", "list"), ("queues", "list", "--json")])
async def test_a_reader_that_leaves_is_no_answer(there: Any, arguments: tuple[str, ...]) -> None:
    """`| head -1` ends a command as it ends `cat`: 141, and nothing on standard error."""
    lanes = [{"channel": f"lane{n}", "held_reason": "x" * 100} for n in range(2000)]
    there.answer("GET /v1/queues", {"items": lanes})

    code, error = await asyncio.to_thread(_read_one_byte, there.url, arguments)

    assert (code, error) == (141, b"")


def _read_one_byte(url: str, arguments: tuple[str, ...]) -> tuple[int, bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "clarion", *arguments],
        env={**os.environ, "CLARION_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout and process.stderr
        process.stdout.read(1)
        process.stdout.close()
        error = process.stderr.read()
        return process.wait(30), error


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        pytest.param(
            ">/dev/full", 1, "error: cannot write: No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it"),
        ),
        (">&-", 0, ""),
        (">/dev/null 2>&-", 0, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", ["", "--json"])
async def test_an_output_that_takes_nothing_is_no_traceback(
    there: Any, redirection: str, code: int, words: str, options: str
) -> None:
    """A full disk is told; what a shell has closed is not missed."""
    there.answer("GET /v1/queues", {"items": [{"channel": "email"}]})
    line = f'"$0" -m clarion queues list {options} {redirection}'

    ran = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", line, sys.executable], capture_output=True, text=True,
        env={**os.environ, "CLARION_URL": there.url}, timeout=30, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stderr.strip()) == (code, words)


@pytest.mark.parametrize("arguments", [("status", "\udcff"), ("list", "--to", "\udcff")])
async def test_an_argument_that_is_no_utf8_reaches_the_server(
    there: Any, run: Any, arguments: tuple[str, ...]
) -> None:
    """Which knows nothing by that name; there is no traceback."""
    ran = await run(*arguments)

    assert ran.code == 1
    assert len(there.seen) == 1


async def test_a_terminal_that_lacks_a_character_gets_its_number(there: Any) -> None:
    """An ASCII locale must not end a command with a traceback."""
    there.answer("GET /v1/queues", {"items": [{"channel": "zürich", "held_reason": "größer…"}]})

    def ask() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "clarion", "queues", "list"], capture_output=True, timeout=30,
            env={**os.environ, "CLARION_URL": there.url, "PYTHONIOENCODING": "ascii"}, check=True,
        )  # fmt: skip

    ran = await asyncio.to_thread(ask)

    assert rb"z\xfcrich: gr\xf6\xdfer\u2026" in ran.stdout


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("clarion que", {"queues"}),
        ("clarion send --pri", {"--priority"}),
        ("clarion send --priority h", {"high"}),
        ("clarion dead-letters list --reason ", {"exhausted", "permanent", "poison", "recipient"}),
        ("clarion providers disable m", {"main"}),
        ("clarion queues pause ", {"email", "sms"}),
    ],
)
async def test_a_shell_completes_commands_words_and_names(
    there: Any, line: str, shown: set[str]
) -> None:
    """As bash asks for it; names come from the server that runs."""
    there.answer("GET /v1/providers", {"items": [{"name": "main"}, {"name": "spare"}]})
    there.answer("GET /v1/queues", {"items": [{"channel": "email"}, {"channel": "sms"}]})

    assert await asyncio.to_thread(_completed, line, there.url) == shown


def test_completion_without_a_server_is_silent(closed_url: str) -> None:
    """A traceback in the middle of a line that is typed helps nobody."""
    assert _completed("clarion providers disable m", closed_url) == set()


def _completed(line: str, url: str) -> set[str]:
    words = line.split(" ")
    ran = subprocess.run(
        [sys.executable, "-m", "clarion"], capture_output=True, text=True, timeout=30, check=True,
        env={
            **os.environ, "CLARION_URL": url, "_CLARION_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1),
        },
    )  # fmt: skip
    assert ran.stderr == ""
    return set(ran.stdout.split())
