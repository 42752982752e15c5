"""`settings.toml` documents every key with its default, and works as it is shipped."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from clarion.domain.submission import FIELDS
from clarion.providers.registry import KINDS, adapter_class
from clarion.settings import load
from clarion.settings_table import (
    ChannelTable,
    HookNotificationTable,
    HookTable,
    ProviderTable,
    Settings,
)

FILE = Path(__file__).parents[2] / "settings.toml"
SECTIONS = ("server", "storage", "redis", "queue", "defaults")
ENVIRONMENT = {
    "SENDGRID_API_KEY": "SG.x", "TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "x",
    "SMTP_PASSWORD": "x", "WEBHOOK_SECRET": "whsec_" + "MTIz" * 8,
    "ALERTS_TOKEN": "x" * 16, "PARTNER_SECRET": "whsec_" + "MTIz" * 8,
}  # fmt: skip


def switched_on() -> str:
    """Return the file with every setting that is switched off in it switched on."""
    return re.sub(r"(?m)^#(?=\S)", "", FILE.read_text())


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return every key of a table with its default, those of tables inside as tables."""
    keys: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        keys[field.alias or name] = (
            keys_of(type(default)) if isinstance(default, BaseModel) else default
        )
    return keys


def plain(value: Any) -> Any:
    """Return a default as a settings file would write it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What the file says with everything switched on."""
    return tomllib.loads(switched_on())


def test_the_file_as_shipped_changes_no_default(tmp_path):
    """It can be deleted without effect."""
    shipped = load(FILE, env={})
    (tmp_path / "settings.toml").write_text("")
    empty = load(tmp_path / "settings.toml", env={})

    assert shipped.model_dump(exclude={"base_dir"}) == empty.model_dump(exclude={"base_dir"})


def test_the_file_is_right_with_everything_switched_on(tmp_path):
    """What is taken from the examples works."""
    (tmp_path / "settings.toml").write_text(switched_on())

    settings = load(tmp_path / "settings.toml", env=ENVIRONMENT)

    assert {each.kind for each in settings.providers.values()} == set(KINDS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_a_section_is_there_with_its_default(document, section):
    """No more and no fewer: a key that is not documented cannot be found."""
    expected = plain(keys_of(Settings.model_fields[section].annotation))
    if section == "server":
        expected["max_body"] = "1 MB"

    assert document[section] == expected


def test_every_key_of_a_channel_is_there_with_its_default(document):
    """Its retries too."""
    assert document["channels"]["email"] == plain(keys_of(ChannelTable))


def test_every_key_of_a_provider_is_there_with_its_default(document):
    """Those that all kinds share, and those of the outbox."""
    shared = plain(keys_of(ProviderTable)) | {"kind": "outbox"}

    assert document["providers"]["outbox"] == shared | plain(
        keys_of(adapter_class("outbox").Config)
    )


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"outbox"}))
def test_every_key_of_a_kind_is_in_its_example(document, kind):
    """And in the page of its provider, with the keys that it has no more gone."""
    keys = keys_of(adapter_class(kind).Config)

    assert document["providers"][kind].keys() == {"kind", *keys}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_key_of_a_kind_is_on_its_page(kind):
    """docs/providers/KIND.md has a table row for each."""
    page = (FILE.parent / "docs" / "providers" / f"{kind}.md").read_text()

    rows = set(re.findall(r"(?m)^\| `(\w+)` \|", page))
    assert keys_of(adapter_class(kind).Config).keys() == rows


def test_every_key_of_a_hook_is_in_an_example_and_on_the_page(document):
    """A hook has either a token or a secret, so it takes two examples to show all."""
    hooks = document["hooks"].values()
    page = (FILE.parent / "docs" / "hooks.md").read_text()

    assert {key for hook in hooks for key in hook} == set(HookTable.model_fields)
    shown = {key for hook in hooks for key in hook["notification"]}
    assert shown == set(HookNotificationTable.model_fields)
    assert set(re.findall(r"(?m)^\| `(\w+)` \| [`–]", page)) == set(HookTable.model_fields)


def test_a_hook_maps_every_field_of_a_request():
    """What the API can say, a hook can say."""
    assert tuple(HookNotificationTable.model_fields) == FIELDS
