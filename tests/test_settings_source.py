"""Where settings come from: files, the environment over them, and secrets kept elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from clarion.settings_source import Faults, document_of, faults_of, near


def read(
    directory, text: str = "", env: dict[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the document of a file, and what is wrong with it by key."""
    file = directory / "settings.toml"
    file.write_text(text)
    faults = Faults()
    document = document_of(file, is_required=True, env=env or {}, faults=faults)
    return document, {fault.pointer: fault.detail for fault in faults.found}


# --- files -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_a_fault_only_where_it_was_named(tmp_path):
    """The default file may be missing, a named one not."""
    for is_required, n in ((True, 1), (False, 0)):
        faults = Faults()

        found = document_of(tmp_path / "no.toml", is_required=is_required, env={}, faults=faults)

        assert (found, len(faults.found)) == ({}, n)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"port = ", "is not valid TOML"),
        (b"x = " + b"[" * 5000, "is not valid TOML"),
        (b"x = " + b"9" * 5000, "is not valid TOML"),
        (b"x = '\xff'", "cannot be read"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault_of_the_file(tmp_path, content, words):
    """Python's own limits included."""
    file, faults = tmp_path / "settings.toml", Faults()
    file.write_bytes(content)

    assert document_of(file, is_required=False, env={}, faults=faults) == {}

    (fault,) = faults.found
    assert fault.pointer == str(file)
    assert words in fault.detail


def test_a_directory_in_the_place_of_the_file_is_a_fault(tmp_path):
    """Whatever the system says about it."""
    faults = Faults()

    document_of(tmp_path, is_required=False, env={}, faults=faults)

    assert "cannot be read" in faults.found[0].detail


# --- the environment ---------------------------------------------------------------------------


def test_a_variable_finds_the_spelling_of_the_file(tmp_path):
    """Variables know neither case nor hyphens; provider names may have both."""
    document, faults = read(
        tmp_path,
        "[providers.Mail-EU]\ntimeout = 1\n",
        {"CLARION_PROVIDERS__MAIL_EU__TIMEOUT": "2", "CLARION_PROVIDERS__NEW__KIND": "outbox"},
    )

    assert document == {"providers": {"Mail-EU": {"timeout": "2"}, "new": {"kind": "outbox"}}}
    assert not faults


def test_other_variables_are_left_alone(tmp_path):
    """CLARION_URL and CLARION_API_KEY belong to the command line."""
    env = {"CLARION_URL": "x", "CLARION_API_KEY": "y", "OTHER__THING": "z"}

    assert read(tmp_path, "", env) == ({}, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12345", "12345"), ("true", "true"), ("1979-05-27", "1979-05-27"),
        ('"quoted"', '"quoted"'),
        ('["a", "b"]', ["a", "b"]), (" [1] ", [1]), ("{a = 1}", {"a": 1}),
        ("[not toml", "[not toml"), ("{}}", "{}}"), ("", ""),
    ],
)  # fmt: skip
def test_only_lists_and_tables_are_parsed(tmp_path, text, value):
    """A secret may look like a number, a date or a boolean, and stays what it is."""
    document, faults = read(tmp_path, "", {"CLARION_A__B": text})

    assert document == {"a": {"b": value}}
    assert not faults


def test_a_variable_that_goes_through_a_value_is_a_fault(tmp_path):
    """It names what is there already as something else."""
    document, faults = read(tmp_path, "[server]\nhost = 'x'\n", {"CLARION_SERVER__HOST__A": "1"})

    assert document == {"server": {"host": "x"}}
    assert "no table" in faults["CLARION_SERVER__HOST__A"]


# --- secrets -----------------------------------------------------------------------------------


def test_a_secret_is_looked_up_where_it_is_kept(tmp_path):
    """In the environment, or in a file that counts from the settings file; blanks around go."""
    (tmp_path / "key").write_text("  from a file\n")
    text = '[providers.a]\nx = "env:KEY"\ny = "file:key"\nz = "plain:text"\nn = 1\n'

    document, faults = read(tmp_path, text, {"KEY": "from outside", "CLARION_B__C": "file:key"})

    assert document == {
        "providers": {"a": {"x": "from outside", "y": "from a file", "z": "plain:text", "n": 1}},
        "b": {"c": "from a file"},
    }
    assert not faults


def test_what_is_looked_up_is_not_looked_up_again(tmp_path):
    """A password that begins with "file:" is one."""
    document, _ = read(tmp_path, 'x = "env:KEY"', {"KEY": "file:/etc/passwd"})

    assert document == {"x": "file:/etc/passwd"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env:NOPE", "NOPE is not set"),
        ("env:BLANK", "BLANK is empty"),
        ("env:", "is not set"),
        ("file:nope", "cannot be read"),
        ("file:", "cannot be read"),
        ("file:blank", "is empty"),
        ("file:bytes", "cannot be read"),
        ("file:a\\u0000b", "cannot be read"),
    ],
)
def test_a_secret_that_is_not_there_is_a_fault_of_its_key(tmp_path, text, words):
    """An empty one too: who names a place for a key means to have one."""
    (tmp_path / "blank").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfd")

    document, faults = read(tmp_path, f'[a]\nkey = "{text}"', {"BLANK": ""})

    assert document == {"a": {"key": ""}}
    assert words in faults["a.key"]


def test_a_secret_is_read_within_bounds(tmp_path):
    """A device or a log in the place of a key does not fill the memory."""
    document, faults = read(tmp_path, 'key = "file:/dev/zero"')

    assert len(document["key"]) <= 64_000
    assert not faults


# --- words -------------------------------------------------------------------------------------


class Inner(BaseModel):
    """A table inside another, under a name that Python would not like."""

    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=1, ge=1)


class Outer(BaseModel):
    """A table."""

    model_config = ConfigDict(extra="forbid")
    name: str
    inner_table: Inner = Field(default=Inner(), alias="inner")


def told(table: Any, **options: Any) -> dict[str, str]:
    """Return what is wrong with a table, by key."""
    faults = Faults()
    assert faults_of(Outer, table, "outer", faults, **options) is None
    return {fault.pointer: fault.detail for fault in faults.found}


def test_faults_name_keys_as_the_file_does():
    """Dotted, by alias, with words for people."""
    assert told({"inner": {"size": 0, "sise": 1}, "extra": 1}) == {
        "outer.name": "is missing",
        "outer.inner.size": "should be greater than or equal to 1",
        "outer.inner.sise": "there is no such key; did you mean 'size'?",
        "outer.extra": "there is no such key; there are inner, name",
    }
    assert told(3) == {"outer": "must be a table"}
    assert told({"name": "x", "inner": []}) == {"outer.inner": "must be a table"}


def test_keys_of_a_neighbour_are_known_where_they_may_stand():
    """A provider's table holds the keys of its kind and those that all kinds share."""
    assert "'timeout'" in told({"name": "x", "tiemout": 1}, also_known={"timeout"})["outer.tiemout"]
    assert "timeout" not in told({"name": "x", "inner": {"timeot": 1}}, also_known={"timeout"})


def test_what_follows_from_a_missing_secret_is_not_told_twice():
    """One cause, one fault."""
    faults = Faults()
    faults.unresolved.add("outer.name")

    assert faults_of(Outer, {"name": 1, "inner": {"size": 0}}, "outer", faults) is None

    assert [fault.pointer for fault in faults.found] == ["outer.inner.size"]


def test_near_names_the_likely_one_or_all():
    """The answer to a typing error is a name that works."""
    assert near("prot", ["host", "port"]) == "; did you mean 'port'?"
    assert near("zzz", ["host", "port"]) == "; there are host, port"
    assert near("zzz", []) == ""
