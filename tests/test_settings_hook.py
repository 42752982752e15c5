"""`[hooks.NAME]`: credentials and templates are checked at the start, all faults at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from clarion.errors import SettingsError
from clarion.settings import load
from clarion.testing.settings_file import toml_of

PAGE = Path(__file__).parents[1] / "docs" / "hooks.md"
FIXED = {"channel": "email", "to": "ada@example.com", "text": "x"}
TOKEN = "a-token-of-some-length"


def faults(directory: Path, **hooks: Any) -> dict[str, str]:
    """Return what is wrong with these hooks, by key."""
    file = directory / "settings.toml"
    file.write_text(toml_of({"hooks": hooks}))
    with pytest.raises(SettingsError) as raised:
        load(file, env={})
    return {fault.pointer: fault.detail for fault in raised.value.faults}


def test_every_example_of_the_page_is_right(tmp_path):
    """What is taken from the documentation works, alone and all together."""
    examples = re.findall(r"(?s)```toml\n(.*?)```", PAGE.read_text())
    names = set(re.findall(r"env:(\w+)", PAGE.read_text()))
    env = dict.fromkeys(names, "whsec_" + "MTIz" * 8)
    file = tmp_path / "settings.toml"

    for text in [*examples, "\n".join(examples)]:
        file.write_text(text)
        hooks = load(file, env=env).hooks
        assert hooks
        assert all(table.hook(name).mapping.fields for name, table in hooks.items())
    assert len(examples) == len(hooks) >= 6


@pytest.mark.parametrize(
    ("spec", "key", "told"),
    [
        ({}, "", "either token or secret"),
        ({"token": TOKEN, "secret": TOKEN}, "", "either token or secret"),
        ({"token": "short"}, ".token", "16 characters"),
        ({"token": "two\nlines of a token"}, ".token", "printable ASCII"),
        ({"secret": TOKEN}, ".secret", "must be whsec_"),
        ({"secret": TOKEN, "signature": "gitlab"}, ".signature", "'standard', 'github'"),
        ({"token": "env:NOT_SET"}, ".token", "NOT_SET is not set"),
        ({"token": TOKEN, "idempotency": "x"}, ".idempotency", "did you mean 'idempotency_key'"),
        ({"token": TOKEN, "when": "payload."}, ".when", "line 1"),
        ({"token": TOKEN, "each": "alerts"}, ".each", "no variable 'alerts'"),
    ],
)
def test_a_fault_of_a_hook_is_told_with_its_key(tmp_path, spec, key, told):
    """One fault, one line: what follows from it is not told again."""
    found = faults(tmp_path, x={"notification": FIXED, **spec})

    assert list(found) == [f"hooks.x{key}"]
    assert told in found[f"hooks.x{key}"]


@pytest.mark.parametrize(
    ("notification", "key", "told"),
    [
        ({**FIXED, "channel": "emial"}, ".channel", "did you mean 'email'"),
        ({**FIXED, "channel": ""}, ".channel", "at least 1 character"),
        ({"channel": "email"}, ".to", "is missing"),
        ({**FIXED, "subjct": "x"}, ".subjct", "did you mean 'subject'"),
        ({**FIXED, "subject": "{{ payload"}, ".subject", "line 1"),
        ({**FIXED, "html": "{{ payload | safe }}"}, ".html", "no filter 'safe'"),
        ({**FIXED, "metadata": 7}, ".metadata", "a table of templates, or an expression"),
        ({**FIXED, "data": {"a": "{{ nope }}"}}, ".data.a", "no variable 'nope'"),
    ],
)
def test_a_fault_of_a_template_is_told_with_its_key(tmp_path, notification, key, told):
    """At the start, not when an alert is on."""
    found = faults(tmp_path, x={"token": TOKEN, "notification": notification})

    assert list(found) == [f"hooks.x.notification{key}"]
    assert told in found[f"hooks.x.notification{key}"]


def test_the_name_of_a_hook_can_stand_in_a_url(tmp_path):
    """And a hook without a notification is none."""
    found = faults(
        tmp_path, **{"a b": {"token": TOKEN, "notification": FIXED}, "c": {"token": TOKEN}}
    )

    assert set(found) == {"hooks.a b", "hooks.c.notification"}


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("to", "nobody", "@"),
        ("priority", "urgent", "must be one of critical, high"),
        ("delivery", "once", "must be one of at_least_once"),
        ("send_at", "tomorrow", ""),
        ("reference", "r" * 201, "200"),
        ("channel", "emial", "did you mean 'email'"),
    ],
)
def test_what_every_notification_would_be_refused_for_is_told_at_the_start(
    tmp_path, field, text, told
):
    """A field without an expression is the same for every payload; not when an alert is on."""
    hook = {"token": TOKEN, "notification": {**FIXED, field: text}}

    found = faults(tmp_path, alerts=hook)

    assert list(found) == [f"hooks.alerts.notification.{field}"]
    assert told in found[f"hooks.alerts.notification.{field}"]
