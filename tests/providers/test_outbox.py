"""The outbox writes whole files that mail programs open, off the loop."""

from __future__ import annotations

import asyncio
import email
import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.providers.outbox import Outbox, OutboxConfig
from clarion.testing import ManualClock

Make = Callable[..., Any]
MAIL = Outgoing(
    "n1", "email",
    Content("ada@example.com", "Grüße", "hello", "<p>hello</p>", headers={"X-Campaign": "spring"}),
    1, "c1",
)  # fmt: skip
HOOK = Outgoing(
    "n2", "webhook", Content("https://h.example/x", data={"a": ["é"]}), 3, "c2", "acme", "r1",
    {"k": "v"},
)  # fmt: skip


@pytest.fixture
async def outbox(make: Make) -> Outbox:
    adapter: Outbox = await make({"kind": "outbox"})
    return adapter


def names(outbox: Outbox) -> list[str]:
    return sorted(path.name for path in outbox.directory.iterdir())


async def test_an_email_is_a_file_that_mail_programs_read(outbox: Outbox) -> None:
    """Address, subject, both texts, own headers, our id; CRLF line ends."""
    answer = await outbox.send(MAIL, Wire())

    raw = (outbox.directory / "n1-1.eml").read_bytes()
    mail = email.message_from_bytes(raw, policy=default)
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert (answer.outcome, answer.provider_message_id) == (Outcome.ACCEPTED, "n1-1.eml")
    assert (mail["To"], mail["From"]) == ("ada@example.com", "clarion@localhost")
    assert (mail["Subject"], mail["X-Campaign"]) == ("Grüße", "spring")
    assert mail["Message-ID"] == "<n1@localhost>"
    assert mail["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert plain is not None
    assert plain.get_content().strip() == "hello"
    assert html is not None
    assert html.get_content().strip() == "<p>hello</p>"
    assert b"\n" not in raw.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (Content("ada@example.com", text="only text"), "text/plain"),
        (Content("ada@example.com", html="<p>only html</p>"), "text/html"),
        (Content("ada@example.com"), "text/plain"),
    ],
)
async def test_an_email_may_have_one_text(outbox: Outbox, content: Content, kind: str) -> None:
    """Without the other, and without a subject."""
    await outbox.send(replace(MAIL, content=content), Wire())

    mail = email.message_from_bytes((outbox.directory / "n1-1.eml").read_bytes(), policy=default)
    assert mail.get_content_type() == kind


async def test_everything_else_is_a_json_file(outbox: Outbox) -> None:
    """All that the notification holds, by its names in the API."""
    answer = await outbox.send(HOOK, Wire())

    assert answer.provider_message_id == "n2-3.json"
    assert json.loads((outbox.directory / "n2-3.json").read_text()) == {
        "id": "n2", "call": 3, "channel": "webhook", "to": "https://h.example/x",
        "subject": None, "text": None, "html": None, "data": {"a": ["é"]}, "headers": None,
        "tenant": "acme", "reference": "r1", "metadata": {"k": "v"},
        "written_at": "2023-11-14T22:13:20+00:00",
    }  # fmt: skip


async def test_a_repeated_call_overwrites_its_own_file_and_another_call_does_not(
    outbox: Outbox,
) -> None:
    """One file for each call: duplicates can be counted in the directory."""
    await outbox.send(MAIL, Wire())
    await outbox.send(MAIL, Wire())
    await outbox.send(replace(MAIL, call=2), Wire())

    assert names(outbox) == ["n1-1.eml", "n1-2.eml"]


async def test_an_id_cannot_leave_the_directory(outbox: Outbox) -> None:
    """Ids are ours, and still never a path."""
    await outbox.send(replace(MAIL, notification_id="../../etc/x"), Wire())

    assert names(outbox) == ["______etc_x-1.eml"]


async def test_sends_at_once_share_nothing(outbox: Outbox) -> None:
    """Fifty messages, fifty files, each with its own recipient."""
    mails = [
        replace(MAIL, notification_id=f"m{at}", content=Content(f"u{at}@example.com", text="x"))
        for at in range(50)
    ]

    await asyncio.gather(*(outbox.send(one, Wire()) for one in mails))

    for at in range(50):
        raw = (outbox.directory / f"m{at}-1.eml").read_bytes()
        assert f"To: u{at}@example.com\r\n".encode() in raw
    assert len(names(outbox)) == 50


@pytest.mark.parametrize(
    "content",
    [
        Content("ada@example.com", "Hi\r\nBcc: evil@example.com", "x"),
        Content("ada@example.com\nBcc: evil@example.com", "Hi", "x"),
        Content("ada@example.com", "Hi", "x", headers={"X-A": "b\r\nBcc: evil@example.com"}),
        Content("ada@example.com", "Hi", "x", headers={"X-A\r\nBcc": "evil@example.com"}),
        Content("ada@example.com, evil@example.com", "Hi", "x"),
        Content("ada@example.com", "Hi", "x", headers={"Subject": "twice"}),
        Content("ada@example.com", "Hi", "lone surrogate \ud800"),
        Content("", "Hi", "x"),
    ],
)
async def test_what_cannot_be_one_email_is_refused(outbox: Outbox, content: Content) -> None:
    """Injection, several recipients, text that no charset holds: dead, and nothing is written."""
    answer = await outbox.send(replace(MAIL, content=content), Wire())

    assert (answer.outcome, answer.surely_not_accepted) == (Outcome.PERMANENT, True)
    assert not outbox.directory.exists() or names(outbox) == []


@pytest.mark.parametrize(
    ("number", "outcome", "reason"),
    [
        (errno.ENOSPC, Outcome.TRANSIENT, "disk_full"),
        (errno.EDQUOT, Outcome.TRANSIENT, "disk_full"),
        (errno.EIO, Outcome.TRANSIENT, "write_failed"),
        (errno.EACCES, Outcome.MISCONFIGURED, "directory_not_writable"),
        (errno.EROFS, Outcome.MISCONFIGURED, "directory_not_writable"),
    ],
)
async def test_a_failing_disk_leaves_nothing_behind(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, number: int, outcome: Outcome, reason: str
) -> None:
    """A full disk passes, a forbidden directory does not; no half file stays in either case."""
    real = Path.write_bytes

    def fail_halfway(path: Path, content: bytes) -> int:
        real(path, content[:10])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail_halfway)

    answer = await outbox.send(MAIL, Wire())
    health = await outbox.probe()

    assert (answer.outcome, answer.reason) == (outcome, reason)
    assert answer.surely_not_accepted
    assert names(outbox) == []
    assert (health.is_healthy, health.is_misconfigured) == (
        False,
        outcome is Outcome.MISCONFIGURED,
    )


async def test_a_directory_that_is_a_file_is_misconfigured(make: Make, tmp_path: Path) -> None:
    """Found by the probe before any message is."""
    (tmp_path / "taken").write_text("a file")
    outbox = await make({"kind": "outbox", "directory": "taken"})

    health = await outbox.probe()
    answer = await outbox.send(MAIL, Wire())

    assert (health.is_healthy, health.is_misconfigured) == (False, True)
    assert answer.outcome is Outcome.MISCONFIGURED
    assert "directory" in answer.detail


async def test_the_probe_makes_no_directory_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    """It writes for real, since permissions lie; whoever checks must not become the owner."""
    outbox = await make({"kind": "outbox", "directory": "deep/down"})

    before = await outbox.probe()
    found = list(tmp_path.iterdir())
    await outbox.send(MAIL, Wire())
    after = await outbox.probe()

    assert (before.is_healthy, found) == (True, [])
    assert after.is_healthy
    assert len(names(outbox)) == 1


async def test_relative_directories_count_from_the_settings_file(
    make: Make, tmp_path: Path
) -> None:
    """And absolute ones stay."""
    relative = await make({"kind": "outbox", "directory": "a/b"})
    absolute = await make({"kind": "outbox", "directory": str(tmp_path / "c")})

    assert (relative.directory, absolute.directory) == (tmp_path / "a" / "b", tmp_path / "c")


async def test_the_loop_never_waits_for_the_disk(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a write hangs, the loop goes on; a call cut off then may have been written."""
    is_writing, may_go_on = threading.Event(), threading.Event()
    real = os.replace

    def slow(*paths: Any) -> None:
        is_writing.set()
        may_go_on.wait(10)
        real(*paths)

    monkeypatch.setattr(os, "replace", slow)
    wire = Wire()
    task = asyncio.create_task(outbox.send(MAIL, wire))
    await asyncio.to_thread(is_writing.wait, 10)

    task.cancel()
    await asyncio.wait([task])
    may_go_on.set()

    assert task.cancelled()
    assert wire.is_written


async def test_the_given_executor_does_the_work(tmp_path: Path, clock: ManualClock) -> None:
    """A simulation puts its own in place of threads."""
    from concurrent.futures import Executor, Future

    class Inline(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    outbox = Outbox(
        "one", OutboxConfig(), max_concurrent=1, clock=clock, base_dir=tmp_path, executor=Inline()
    )
    await outbox.open()

    answer = await outbox.send(MAIL, Wire())
    await outbox.close()

    assert answer.outcome is Outcome.ACCEPTED
