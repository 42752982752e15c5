"""`clarion check`: would it start, would its providers take a message, and what to do if not."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from clarion.cli import check_storage
from clarion.cli.command import app
from clarion.cli.finding import Finding, show_findings
from clarion.cli.output import Output
from clarion.providers import registry
from clarion.storage.backend import open_store
from clarion.testing import Fault, SendGridLookalike, TwilioLookalike
from clarion.testing.settings_file import settings_toml, toml_of


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is free, though nobody else gets it: bound by us, not listened on."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def house(tmp_path: Path, port: int) -> Path:
    """Settings that are fine."""
    return settings_toml(
        tmp_path / "settings.toml",
        providers={"outbox": {"kind": "outbox"}},
        channels={"email": ["outbox"]},
        server={"port": port},
    )


def check(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Run `clarion check --json`; the findings by name."""
    ran = CliRunner().invoke(app, ["check", "--settings", str(path), "--json", *options])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    answer = json.loads(ran.stdout)
    assert all(each["ok"] or each["fix"] for each in answer.get("checks", [])), "it says what to do"
    return ran.exit_code, {each["name"]: each for each in answer.get("checks", [])} or answer


def create_store(house: Path) -> Path:
    """Make the database that the settings name."""
    path = house.parent / "clarion.db"
    store = open_store(f"sqlite:///{path}")
    store.open()
    store.close()
    return path


@pytest.fixture
def on_postgresql(house: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same settings on a database server."""
    monkeypatch.setenv("CLARION_STORAGE__URL", postgresql_url)
    return house


def test_a_database_server_is_tried_and_counted(on_postgresql: Path, postgresql_url: str) -> None:
    """As a file is: it takes a write, and its counts agree with its rows."""
    code, found = check(on_postgresql, "--recount")

    assert code == 0
    assert "can be read and written" in found["storage"]["detail"]
    assert found["counts"]["ok"]
    assert found["disk"]["ok"]


def test_a_database_that_a_server_uses_is_no_fault(
    on_postgresql: Path, postgresql_url: str
) -> None:
    """Whoever checks beside a running server wants to know just that."""
    store = open_store(postgresql_url)
    store.open()
    try:
        _, found = check(on_postgresql)
    finally:
        store.close()

    assert found["storage"]["ok"]
    assert "is in use, most likely by a running Clarion" in found["storage"]["detail"]


def test_a_database_server_that_is_away_is_told_without_its_password(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do stands beside it."""
    monkeypatch.setenv("CLARION_STORAGE__URL", "postgresql://ada:hunter2@127.0.0.1:1/clarion")

    code, found = check(house)

    assert code == 1
    assert "cannot use the database clarion at 127.0.0.1:1" in found["storage"]["detail"]
    assert "start the database server" in found["storage"]["fix"]
    assert "hunter2" not in json.dumps(found)


def test_a_fresh_directory_is_fine_and_stays_empty(house: Path) -> None:
    """A check, perhaps made by root, must not leave a database that the service cannot write."""
    code, found = check(house)

    assert code == 0, found
    assert found["storage"]["detail"].endswith("will be created at the first start")
    assert [each.name for each in house.parent.iterdir()] == [house.name]
    assert all(each["ok"] for each in found.values())
    assert {"settings", "storage", "disk", "http", "provider outbox"} == set(found)


def test_people_get_a_line_for_each_thing(house: Path) -> None:
    """Findings go to standard output, the summary to standard error."""
    ran = CliRunner().invoke(app, ["check", "--settings", str(house)])

    assert ran.exit_code == 0
    assert [line[:23] for line in ran.stdout.splitlines()] == [
        "ok    settings         ",
        "ok    storage          ",
        "ok    disk             ",
        "ok    http             ",
        "ok    provider outbox  ",
    ]
    assert ran.stderr == "everything works\n"


def test_a_database_that_is_there_is_tried(house: Path) -> None:
    """It is opened as the server opens it, and written to."""
    create_store(house)

    code, found = check(house, "--recount")

    assert code == 0
    assert found["storage"]["detail"].endswith("can be read and written")
    assert found["counts"]["ok"]


def test_a_running_server_is_no_fault(house: Path, port: int) -> None:
    """A check beside a running Clarion finds its file and its port taken, by the right one."""
    create_store(house)
    store = open_store(f"sqlite:///{house.parent / 'clarion.db'}")
    store.open()
    try:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen(1)
            code, found = check(house, "--recount")
    finally:
        store.close()

    assert code == 0, found
    assert "most likely by a running Clarion" in found["storage"]["detail"]
    assert "most likely by a running Clarion" in found["http"]["detail"]
    assert found["counts"]["ok"]


def test_a_port_that_another_program_has_is_a_fault(house: Path, port: int) -> None:
    """The answer names the port and the settings to change."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen(1)
        code, found = check(house)

    assert code == 1
    assert not found["http"]["ok"]
    assert str(port) in found["http"]["detail"]
    assert "server.port" in found["http"]["fix"]


def test_a_file_that_is_no_database_is_a_fault(house: Path) -> None:
    """In words, without a traceback."""
    (house.parent / "clarion.db").write_bytes(b"not a database at all" * 100)

    code, found = check(house)

    assert code == 1
    assert "not an SQLite database" in found["storage"]["detail"]


def test_counts_that_disagree_with_the_rows_are_found(house: Path) -> None:
    """--recount compares the table of counts with every row."""
    path = create_store(house)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO counts VALUES ('local', 'email', 'queued', 3)")
    connection.close()

    without, _ = check(house)
    code, found = check(house, "--recount")

    assert without == 0
    assert code == 1
    assert found["counts"]["detail"] == "email queued: 3 counted, 0 found"


def test_counts_of_what_retention_removed_are_fine(house: Path) -> None:
    """Retention removes rows, notes how many, and never lowers what was once counted."""
    path = create_store(house)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO counts VALUES ('local', 'email', 'sent', 3)")
        connection.execute("INSERT INTO counts VALUES ('local', 'email', 'accepted', 3)")
        connection.execute("INSERT INTO purged VALUES ('email', 'sent', 2)")
    connection.close()

    code, found = check(house, "--recount")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE purged SET n = 3")
    connection.close()
    mended, _ = check(house, "--recount")

    assert code == 1
    assert "email sent: 3 counted, 2 found" in found["counts"]["detail"]
    assert mended == 0


def test_a_provider_that_cannot_work_is_a_fault_of_its_own(house: Path) -> None:
    """The others are tried all the same, and the answer says what to correct."""
    (house.parent / "blocked").write_text("a file where the outbox wants a directory")
    settings_toml(
        house,
        providers={
            "bad": {"kind": "outbox", "directory": "blocked"},
            "off": {"kind": "outbox", "enabled": False},
            "good": {"kind": "outbox"},
        },
        channels={"email": ["bad", "good", "off"]},
        server={"port": 0},
    )

    code, found = check(house)

    assert code == 1
    assert not found["provider bad"]["ok"]
    assert found["provider bad"]["fix"]
    assert found["provider good"]["ok"]
    assert "disabled" in found["provider off"]["detail"]
    assert "no channel uses it" in found["provider outbox"]["detail"]


def test_settings_that_are_wrong_are_exit_code_2_with_every_fault(house: Path) -> None:
    """All at once, each with its place, so that one edit mends them."""
    house.write_text("[server]\nport = 'x'\nhots = '::1'\n[queue]\nlease = -1\n")

    code, answer = check(house)

    assert code == 2
    pointers = {each["pointer"] for each in answer["errors"]}
    assert pointers == {"server.port", "server.hots", "queue.lease"}
    assert all(each["detail"] for each in answer["errors"])


def test_a_settings_file_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    """A typo in --settings must not start a server with defaults."""
    code, answer = check(tmp_path / "typo.toml")

    assert code == 2
    assert "typo.toml" in answer["detail"]


# --- providers, their kinds and their receipts -----------------------------------------------


async def checked(path: Path) -> dict[str, Any]:
    """The findings by name, beside look-alikes that run on this loop."""
    _, found = await asyncio.to_thread(check, path)
    return found


async def test_every_account_is_tried_by_a_harmless_question(house: Path) -> None:
    """Connection, login and permission; nothing is sent, and what to do stands beside each no."""
    async with SendGridLookalike("SG.right") as good, TwilioLookalike() as twilio:
        settings_toml(
            house,
            providers={
                "good": good.settings(),
                "bad": good.settings() | {"api_key": "SG.wrong"},
                "texts": twilio.settings() | {"auth_token": "wrong"},
                "mail": {
                    "kind": "smtp", "host": "127.0.0.1", "port": _closed_port(),
                    "security": "none", "from_address": "a@example.com",
                },
            },
            channels={"email": ["good", "bad", "mail"], "sms": ["texts"]},
            server={"port": 0},
        )  # fmt: skip

        found = await checked(house)

        assert found["provider good"]["ok"]
        assert "credentials (401)" in found["provider bad"]["detail"]
        assert "[providers.bad]" in found["provider bad"]["fix"]
        assert "auth_token" in found["provider texts"]["detail"]
        assert "[providers.texts]" in found["provider texts"]["fix"]
        assert "refuses connections" in found["provider mail"]["detail"]
        assert "this machine reaches it" in found["provider mail"]["fix"]
        assert good.deliveries.total() + twilio.deliveries.total() == 0


def _closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


async def test_a_provider_that_hangs_is_given_up(house: Path) -> None:
    """After its own time limit; the others are tried meanwhile."""
    async with SendGridLookalike() as silent, SendGridLookalike() as good:
        silent.behave(Fault.hang())
        settings_toml(
            house,
            providers={"silent": silent.settings() | {"timeout": 0.2}, "good": good.settings()},
            channels={"email": ["silent", "good"]},
            server={"port": 0},
        )

        found = await checked(house)

        assert found["provider silent"]["detail"] == "no answer within 0.2 s"
        assert found["provider good"]["ok"]


@pytest.mark.parametrize(
    ("public_url", "own", "detail", "has_fix"),
    [
        ("", {}, "server.public_url is not set", True),
        ("http://127.0.0.1:8080", {}, "where no provider reaches this server", True),
        ("https://localhost", {}, "where no provider reaches this server", True),
        ("https://example.com/", {}, "taken at https://example.com/callbacks/texts", False),
        ("", {"status_callback": False}, "none are asked for", False),
    ],
)
async def test_receipts_that_cannot_arrive_are_told(
    house: Path, public_url: str, own: dict[str, Any], detail: str, has_fix: bool
) -> None:
    """They may be meant, so they fail nothing; but nobody should wait for `delivered`."""
    async with TwilioLookalike() as twilio:
        settings_toml(
            house,
            providers={"texts": twilio.settings() | own},
            channels={"sms": ["texts"]},
            server={"port": 0, "public_url": public_url},
        )

        found = await checked(house)

    assert found["receipts texts"]["ok"]
    assert detail in found["receipts texts"]["detail"]
    assert bool(found["receipts texts"]["fix"]) == has_fix


async def test_receipts_without_a_key_are_told(house: Path) -> None:
    """SendGrid's are refused while its public key is not set."""
    async with SendGridLookalike() as sendgrid:
        settings_toml(
            house,
            providers={"mail": sendgrid.settings() | {"event_public_key": ""}},
            channels={"email": ["mail"]},
            server={"port": 0},
        )

        found = await checked(house)

    assert "event_public_key is not set" in found["receipts mail"]["detail"]
    assert "docs/providers/sendgrid.md" in found["receipts mail"]["fix"]


def test_a_package_whose_kind_cannot_be_loaded_is_told(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing uses it: the next start with it would be refused."""
    entries = [
        EntryPoint("pigeon", "no_such_module:Pigeon", registry.GROUP),
        EntryPoint("slate", "tests_of_clarion_have_no_such:Slate", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "brought", lambda: {each.name: (each,) for each in entries})

    code, found = check(house)

    assert code == 1
    assert "no_such_module" in found["kind pigeon"]["detail"]
    assert "uninstall" in found["kind pigeon"]["fix"]
    assert not found["kind slate"]["ok"]


# --- disk, schema, hooks ---------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_is_a_fault(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is full, when there is still time."""
    nearly = check_storage.LEAST_FREE_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=nearly))

    code, found = check(house)

    assert code == 1
    assert found["disk"]["detail"].startswith("0.3 GB free in ")
    assert "make room" in found["disk"]["fix"]


def test_a_database_of_a_newer_version_is_a_fault(house: Path) -> None:
    """It is left as it is, and the sentence says what to do."""
    path = create_store(house)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    code, found = check(house)

    assert code == 1
    assert "newer version of Clarion" in found["storage"]["detail"]
    assert "upgrade Clarion" in found["storage"]["fix"]


def test_each_hook_is_named_with_its_address(house: Path) -> None:
    """Credential and templates were tried with the settings; a broken one is exit code 2."""
    hook = {"channel": "email", "to": "a@example.com", "text": "{{ payload.x }}"}
    house.write_text(
        house.read_text()
        + toml_of({"hooks": {"alerts": {"token": "x" * 20, "notification": hook}}})
    )

    code, found = check(house)
    house.write_text(house.read_text().replace("payload.x }}", "payload.x"))
    broken, answer = check(house)

    assert (code, broken) == (0, 2)
    assert "/hooks/alerts" in found["hook alerts"]["detail"]
    assert answer["errors"][0]["pointer"] == "hooks.alerts.notification.text"


def test_in_a_window_sentences_stay_in_their_column(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folded at its edge, behind the names."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")

    show_findings(
        Output(is_json=False),
        [Finding("a", True, "x " * 30), Finding("provider", False, "bad", "mend it " * 8)],
    )

    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 50 for line in lines)
    assert lines[0].startswith("ok    a         x x")
    assert lines[1].startswith(" " * 16 + "x")
    assert [line[:18] for line in lines[2:4]] == ["FAIL  provider  ba", " " * 16 + "> "]


# --- Redis -------------------------------------------------------------------------------------


def with_redis(house: Path, **table: Any) -> Path:
    """Add a Redis to settings that are fine."""
    house.write_text(house.read_text() + toml_of({"redis": table}))
    return house


def test_a_redis_that_is_there_is_fine_and_left_as_it_was(house, redis_url, redis_prefix):
    code, found = check(with_redis(house, url=redis_url, prefix=redis_prefix))

    assert code == 0
    assert found["redis"]["ok"]
    assert "0 nodes there" in found["redis"]["detail"]


def test_a_redis_that_is_away_is_named_with_what_to_do(house):
    code, found = check(with_redis(house, url="redis://:hunter2@127.0.0.1:1/0"))

    assert code == 1
    assert "Redis at 127.0.0.1:1 cannot be used: it cannot be reached" in found["redis"]["detail"]
    assert "redis.url" in found["redis"]["fix"]
    assert "hunter2" not in str(found)


def test_a_redis_that_evicts_is_worth_a_note(house, own_redis):
    """Shared state is soft, so it is no failure."""
    own_redis.client().config_set("maxmemory-policy", "allkeys-lru")

    code, found = check(with_redis(house, url=own_redis.url))

    assert code == 0
    assert "allkeys-lru" in found["redis"]["detail"]
    assert "noeviction" in found["redis"]["fix"]


def test_without_redis_nothing_is_said_of_it(house):
    _, found = check(house)

    assert "redis" not in found
