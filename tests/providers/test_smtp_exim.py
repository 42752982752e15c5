"""The adapter against a real mail server: Exim on loopback, with settings of its own."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.testing import CertificateAuthority, free_port

EXIM = next(filter(None, map(shutil.which, ("exim4", "/usr/sbin/exim4", "exim"))), None)

pytestmark = pytest.mark.skipif(
    EXIM is None, reason="no Exim is installed; apt-get install exim4-daemon-light"
)

Make = Callable[..., Any]

SETTINGS = """
primary_hostname = mail.test
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
exim_user = {user}
exim_group = {group}
deliver_drop_privilege = true
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 1M
tls_advertise_hosts = *
tls_certificate = {certificate}
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_mail = sender
acl_smtp_rcpt = recipient
acl_smtp_data = content

begin acl
sender:
  deny senders = stranger@example.com
       message = 5.7.1 Sender not allowed
  accept
recipient:
  deny local_parts = nobody
       message = 5.1.1 Unknown user
  deny local_parts = full
       message = 5.2.2 Mailbox full
  defer local_parts = grey
       message = 4.7.1 Greylisted, please try again later
  accept domains = example.org
         authenticated = *
  deny domains = example.org
       message = 5.7.0 Authentication required
  deny message = relay not permitted
content:
  deny condition = ${{if match{{$h_subject:}}{{spam}}}}
       message = 5.7.1 This looks like spam
  accept

begin routers
inbox:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = {directory}/inbox
  maildir_format
  create_directory

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{clarion}}}}{{eq{{$auth3}}{{secret}}}}}}}}
"""


class Exim:
    """A running daemon and its maildir."""

    def __init__(self, directory: Path, port: int, ca_file: Path) -> None:
        self.directory = directory
        self.port = port
        self.ca_file = ca_file

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "kind": "smtp", "host": "127.0.0.1", "port": self.port, "security": "starttls",
            "ca_file": str(self.ca_file), "from_address": "news@example.com",
            "username": "clarion", "password": "secret", **more,
        }  # fmt: skip

    async def mail(self, id_: str) -> EmailMessage:
        """Wait until the mail of a notification is in the maildir, and read it."""
        async with asyncio.timeout(20.0):
            while True:
                for file in (self.directory / "inbox" / "new").glob("*"):
                    read = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
                    if read["Message-ID"] == f"<{id_}@example.com>":
                        return read  # type: ignore[return-value]
                await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def exim() -> Iterator[Exim]:
    """Start Exim as an ordinary user, which it needs to be to deliver without root."""
    user = pwd.getpwnam("Debian-exim" if os.geteuid() == 0 else getpass.getuser())
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="exim-", ignore_cleanup_errors=True) as name:
        directory, port = Path(name), free_port()
        authority = CertificateAuthority(directory)
        settings = directory / "exim.conf"
        settings.write_text(
            SETTINGS.format(
                directory=directory, port=port, certificate=authority.server_file(),
                user=user.pw_name, group=user.pw_gid,
            )
        )  # fmt: skip
        for path in (directory / "spool", directory / "log"):
            path.mkdir()
        for path in (directory, *directory.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        daemon = subprocess.Popen(
            [str(EXIM), "-C", str(settings), "-bdf"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **as_user,
        )  # fmt: skip
        try:
            wait_for(daemon, port)
            yield Exim(directory, port, authority.ca_file)
        finally:
            daemon.terminate()
            daemon.communicate(timeout=10)


def wait_for(daemon: subprocess.Popen[bytes], port: int) -> None:
    """Return once it listens; a daemon that ends says why."""
    for _ in range(200):
        if daemon.poll() is not None:
            pytest.fail(f"Exim ended: {daemon.communicate()[0].decode()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
        except ConnectionRefusedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(0.05)
        else:
            return
    pytest.fail("Exim does not listen")


def outgoing(id_: str, **content: Any) -> Outgoing:
    given = {"to": "ada@example.org", "subject": "Hi", "text": "hello", **content}
    return Outgoing(id_, "email", Content(**given), 1, "c1")


async def test_a_mail_arrives_as_it_was_written(exim: Exim, make: Make) -> None:
    """Over STARTTLS, after a login, through a real queue into a mailbox."""
    adapter = await make(exim.settings(from_name="Grüße & Co"))
    text, html = ".\n..\nZeile über\n.\n", "<p>" + "long " * 500 + "ü</p>"
    subject = "Grüße =?x?= " + "sehr lang " * 20 + "–"

    answer = await adapter.send(
        outgoing("whole", subject=subject, text=text, html=html, headers={"X-Tag": "ä" * 100}),
        Wire(),
    )

    assert answer.outcome is Outcome.ACCEPTED, answer
    assert answer.provider_message_id
    mail = await exim.mail("whole")
    assert (mail["Subject"], mail["X-Tag"]) == (subject, "ä" * 100)
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().replace("\r\n", "\n") == text
    assert rich.get_content().strip() == html
    assert mail["From"].addresses[0].display_name == "Grüße & Co"


@pytest.mark.parametrize(
    ("content", "outcome", "reason"),
    [
        ({"to": "nobody@example.org"}, Outcome.RECIPIENT, "smtp_550_5.1.1"),
        ({"to": "full@example.org"}, Outcome.RECIPIENT, "smtp_550_5.2.2"),
        ({"to": "grey@example.org"}, Outcome.TRANSIENT, "smtp_451_4.7.1"),
        ({"to": "ada@elsewhere.example"}, Outcome.MISCONFIGURED, "smtp_550"),
        ({"subject": "spam"}, Outcome.PERMANENT, "smtp_550_5.7.1"),
        ({"text": "x" * 1_200_000}, Outcome.PERMANENT, "message_too_large"),
    ],
)
async def test_its_refusals_are_understood_and_leave_a_clean_session(
    exim: Exim, make: Make, content: dict[str, str], outcome: Outcome, reason: str
) -> None:
    """And the next mail is taken, over the same connection."""
    adapter = await make(exim.settings(), max_concurrent=1)
    id_ = f"after-{reason}"

    refused = await adapter.send(outgoing("refused", **content), Wire())
    taken = await adapter.send(outgoing(id_), Wire())

    assert (refused.outcome, refused.reason) == (outcome, reason), refused
    assert refused.surely_not_accepted
    assert taken.outcome is Outcome.ACCEPTED
    assert await exim.mail(id_)


async def test_wrong_settings_are_told_apart(exim: Exim, make: Make) -> None:
    """Password, sender, certificate, and the encryption itself."""
    tables = {
        "smtp_535": {"password": "wrong"},
        "smtp_550_5.7.1": {"from_address": "stranger@example.com"},
        "tls_refused": {"ca_file": ""},
        "auth_missing": {"security": "none"},
    }
    for reason, more in tables.items():
        adapter = await make(exim.settings(**more))

        answer = await adapter.send(outgoing("never"), Wire())

        assert (answer.outcome, answer.reason) == (Outcome.MISCONFIGURED, reason), answer


async def test_many_mails_share_few_connections(exim: Exim, make: Make) -> None:
    """Forty mails, four connections, each mail once."""
    adapter = await make(exim.settings())

    answers = await asyncio.gather(
        *(adapter.send(outgoing(f"many{at}"), Wire()) for at in range(40))
    )

    assert {answer.outcome for answer in answers} == {Outcome.ACCEPTED}
    assert len({answer.provider_message_id for answer in answers}) == 40
    health = await adapter.probe()
    assert health.is_healthy, health
