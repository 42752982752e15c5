"""`clarion check`: would it start, would its providers take a message, and what to do if not."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clarion.cli.command import app
from clarion.storage.store import open_store
from clarion.testing.settings_file import settings_toml


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
    return ran.exit_code, {each["name"]: each for each in answer.get("checks", [])} or answer


def create_store(house: Path) -> Path:
    """Make the database that the settings name."""
    path = house.parent / "clarion.db"
    store = open_store(f"sqlite:///{path}")
    store.open()
    store.close()
    return path


def test_a_fresh_directory_is_fine_and_stays_empty(house: Path) -> None:
    """A check, perhaps made by root, must not leave a database that the service cannot write."""
    code, found = check(house)

    assert code == 0, found
    assert found["storage"]["detail"].endswith("will be created at the first start")
    assert not (house.parent / "clarion.db").exists()
    assert all(each["ok"] for each in found.values())
    assert {"storage", "http", "provider outbox"} == set(found)


def test_people_get_a_line_for_each_thing(house: Path) -> None:
    """Findings go to standard output, the summary to standard error."""
    ran = CliRunner().invoke(app, ["check", "--settings", str(house)])

    assert ran.exit_code == 0
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == [
        "ok    storage",
        "ok    http",
        "ok    provider outbox",
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


def test_counts_that_a_purge_left_higher_are_fine(house: Path) -> None:
    """A purge removes rows and never lowers what was once counted."""
    path = create_store(house)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO counts VALUES ('local', 'email', 'sent', 3)")
    connection.close()

    code, found = check(house, "--recount")

    assert code == 0
    assert "purge" in found["counts"]["detail"]


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
