"""Logs: masked, one format for ours and for libraries', harmless when nobody reads."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import clarion.telemetry
from clarion.telemetry.log import bind_correlation, configure

_ROOT = Path(clarion.telemetry.__file__).parent.parent.parent
log = structlog.get_logger(__name__)


@pytest.fixture(autouse=True)
def _undo() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(logging.NOTSET)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_json_and_a_terminal_gets_text() -> None:
    """People read one, machines the other; nobody has to say which."""
    file, terminal = io.StringIO(), Terminal()

    configure(stream=file)
    log.info("lane_paused", channel="email")
    configure(stream=terminal)
    log.info("lane_paused", channel="email")

    (line,) = lines(file)
    assert (line["event"], line["channel"], line["level"]) == ("lane_paused", "email", "info")
    assert "\x1b[" in terminal.getvalue()
    assert "lane_paused" in terminal.getvalue()


def test_the_choice_of_format_can_be_forced() -> None:
    """A terminal may want JSON, and a file text without colours."""
    file, terminal = io.StringIO(), Terminal()

    configure(stream=terminal, json=True)
    log.info("lane_paused")
    configure(stream=file, json=False)
    log.info("lane_paused")

    assert json.loads(terminal.getvalue())["event"] == "lane_paused"
    assert "\x1b[" not in file.getvalue()
    assert "lane_paused" in file.getvalue()


def test_timestamps_are_utc() -> None:
    """Lines of two machines can be laid side by side."""
    stream = io.StringIO()

    configure(stream=stream)
    log.info("lane_paused")

    assert lines(stream)[0]["timestamp"].endswith("Z")


def test_the_level_is_a_floor_for_ours_and_for_libraries() -> None:
    """What is below the level costs nothing and shows nowhere."""
    stream = io.StringIO()
    configure("warning", stream=stream)

    log.info("quiet")
    logging.getLogger("library").info("quiet")
    log.warning("loud")
    logging.getLogger("library").warning("loud %s", "too")

    assert [line["event"] for line in lines(stream)] == ["loud", "loud too"]
    assert lines(stream)[1]["logger"] == "library"


def test_a_level_that_does_not_exist_is_refused() -> None:
    """The answer names those that do."""
    with pytest.raises(ValueError, match="'LOUD' is no log level: choose one of DEBUG"):
        configure("LOUD")


def test_configuring_again_replaces_the_first() -> None:
    """Each line is written once, to the latest stream."""
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)

    configure(stream=second)
    logging.getLogger("library").warning("once")
    log.warning("once")

    assert first.getvalue() == ""
    assert len(lines(second)) == 2


@pytest.mark.parametrize("as_json", [True, False])
def test_no_address_or_secret_passes(as_json: bool) -> None:
    """Addresses are masked and secrets never written, however deep and wherever they stand."""
    stream = io.StringIO()
    configure(stream=stream, json=as_json)

    log.warning(
        "call_failed",
        to="ada@example.com",
        detail="550 <ada@example.com> unknown, call +15551231234",
        api_key="hunter2",
        request={"headers": {"Authorization": "Bearer hunter2"}, "cc": ["ada@example.com"]},
        answer=RuntimeError("ada@example.com"),
    )
    logging.getLogger("library").warning("mail to %s", "ada@example.com")
    said = "no such mailbox: ada@example.com"
    try:
        raise ValueError(said)  # noqa: TRY301 - it is to be caught here
    except ValueError:
        log.exception("call_failed")
        logging.getLogger("library").exception("call failed")

    text = stream.getvalue()
    assert "ada@" not in text
    assert "1231234" not in text
    assert "hunter2" not in text
    assert text.count("a***@example.com") == 7
    assert "+1555***1234" in text
    assert text.count("Traceback") == 2


def test_ids_stay_whole() -> None:
    """A masked id could not be looked up."""
    stream = io.StringIO()
    configure(stream=stream)

    log.warning("call_failed", notification_id="01234567890123456789012345", attempt=15551231234)

    (line,) = lines(stream)
    assert line["notification_id"] == "01234567890123456789012345"
    assert line["attempt"] == 15551231234


def test_a_correlation_id_is_in_every_line_of_its_request() -> None:
    """Lines of one request are found by one word, libraries' lines included."""
    stream = io.StringIO()
    configure(stream=stream)

    bind_correlation("req-7")
    log.info("accepted")
    logging.getLogger("library").warning("slow")
    bind_correlation("")
    log.info("idle")

    assert [line.get("correlation_id") for line in lines(stream)] == ["req-7", "req-7", None]


def test_a_value_cannot_forge_a_line_or_steer_the_terminal() -> None:
    """What a provider answers is not ours: no line breaks, no escape sequences."""
    stream = io.StringIO()
    configure(stream=stream, json=False)

    log.warning("call_failed", detail="x\n2026-01-01 [info] all_is_well\x1b[2J")
    logging.getLogger("library").warning("GET /a\nall_is_well")

    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


def test_a_reader_that_went_away_costs_lines_not_the_process() -> None:
    """`clarion serve | head` must go on serving (EPIPE)."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", buffering=1)
    configure(stream=stream)
    os.close(reading)

    log.info("lane_paused")
    logging.getLogger("library").warning("still there")

    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_closed_stream_is_survived() -> None:
    """At exit, actors may log after the streams are gone."""
    stream = io.StringIO()
    configure(stream=stream)
    stream.close()

    log.info("lane_paused")
    logging.getLogger("library").warning("still there")
    configure(stream=stream)


def test_text_that_the_stream_cannot_encode_is_escaped() -> None:
    """A lone surrogate, or an umlaut on an ASCII terminal, must not lose the line."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    configure(stream=stream, json=False)

    log.info("call_failed", detail="zurück \ud800")

    assert rb"zur\xfcck \ud800" in raw.getvalue()


def test_an_object_that_cannot_be_shown_does_not_lose_the_line() -> None:
    """A foreign __str__ may raise; the line names the type instead."""

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    stream = io.StringIO()
    configure(stream=stream)

    log.info("call_failed", answer=Odd())

    assert lines(stream)[0]["answer"] == "<Odd>"


def test_a_reader_that_stalls_stops_the_log_and_not_the_caller() -> None:
    """`clarion serve | less`, paused, must go on delivering; what was lost is said later."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    configure(stream=stream, json=True, in_background=True)

    for number in range(11_000):
        log.info("call_failed", number=number, detail="x" * 100)
    read = os.fdopen(reading)
    seen = [json.loads(read.readline()) for _ in range(10_000)]

    assert [line["number"] for line in seen[:1000]] == list(range(1000))
    while seen[-1]["event"] != "log_lines_dropped":
        seen.append(json.loads(read.readline()))
    assert seen[-1]["n"] + len(seen) - 1 == 11_000
    stream.close()
    read.close()


def test_the_last_lines_are_written_before_the_process_ends() -> None:
    """The reason of an end stands in its last line."""
    code = (
        "import structlog; from clarion.telemetry.log import configure\n"
        "configure(json=True, in_background=True)\n"
        "for n in range(500): structlog.get_logger().info('serving', n=n)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )

    assert [json.loads(line)["n"] for line in ran.stderr.splitlines()] == list(range(500))
