"""Kinds of other packages: found by entry points, and told apart from what cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clarion.errors import SettingsError
from clarion.providers import registry
from clarion.providers.registry import UnknownKind, UnusableKind, adapter_class
from clarion.settings import load

GOOD = """
from typing import ClassVar
from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.setting import AdapterConfig

class PigeonConfig(AdapterConfig):
    loft: str = "roof"

class Pigeon:
    kind: ClassVar[str] = "pigeon"
    channels = frozenset({"sms"})
    Config = PigeonConfig
    def __init__(self, name, config, *, max_concurrent, clock, public_url="", base_dir=None,
                 executor=None):
        self.config = config
    async def open(self): ...
    async def send(self, outgoing, wire): return Answer(Outcome.ACCEPTED, "flown")
    async def probe(self): return Health(True, "cooing")
    async def close(self): ...
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with an adapter for the length of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.brought.cache_clear()
    modules: list[str] = []

    def install(package: str, source: str = GOOD, *, kind: str = "pigeon", name: str = "") -> None:
        module = f"{package}_adapter"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        value = f"{module}:{name or 'Pigeon'}"
        (info / "entry_points.txt").write_text(f"[clarion.providers]\n{kind} = {value}\n")

    yield install
    registry.brought.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def fault_of(tmp_path: Path, kind: str) -> str:
    """Load settings with a provider of this kind, and return what they say of it."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[providers.bird]\nkind = "{kind}"\n')
    with pytest.raises(SettingsError) as raised:
        load(file, env={})
    return str(raised.value)


def test_a_kind_of_another_package_is_as_good_as_a_built_in_one(install, tmp_path):
    """Its settings are checked, and its channels, like those of every kind."""
    install("flock")
    file = tmp_path / "settings.toml"
    file.write_text('[providers.pigeon]\nloft = "barn"\n[channels.sms]\nproviders = ["pigeon"]\n')

    settings = load(file, env={})

    assert settings.providers["pigeon"].config.loft == "barn"
    file.write_text('[providers.pigeon]\n[channels.email]\nproviders = ["pigeon"]\n')
    with pytest.raises(SettingsError, match="of kind pigeon, which cannot send email"):
        load(file, env={})


def test_a_misspelt_kind_is_likened_to_those_of_other_packages(install):
    install("flock")

    with pytest.raises(UnknownKind, match="did you mean 'pigeon'"):
        adapter_class("pidgeon")


def test_a_package_that_cannot_be_imported_is_a_fault_of_the_settings(install, tmp_path):
    """It names the package and the reason, so that somebody can mend it."""
    install("flock", "import a_library_that_is_not_there")

    fault = fault_of(tmp_path, "pigeon")

    assert "providers.bird.kind" in fault
    assert "the package flock 1.2 (flock_adapter:Pigeon) cannot be used" in fault
    assert "a_library_that_is_not_there" in fault


def test_a_broken_package_costs_only_who_uses_its_kind(install, tmp_path):
    install("flock", "raise RuntimeError('at import')")
    file = tmp_path / "settings.toml"
    file.write_text("")

    assert load(file, env={}).providers["outbox"].kind == "outbox"


@pytest.mark.parametrize(
    ("old", "new", "flaw"),
    [
        ('= "pigeon"', '= "dove"', "its `kind` must be 'pigeon'"),
        ('frozenset({"sms"})', '{"sms"}', "its `channels` must be a frozenset"),
        ('{"sms"}', '{"smoke"}', "of some of email, sms"),
        ("Config = PigeonConfig", "Config = dict", "its `Config` must be a subclass"),
        ("async def probe(self): return Health", "wings = Health", "it has no method `probe`"),
        ("async def send", "def send", "its `send` must be `async def`"),
        ("Config = P", "is_blocking = True; Config = P", "its `open` must be a plain method"),
        ("max_concurrent, clock", "speed", "it is not made as AdapterClass"),
    ],
)
def test_a_class_that_is_no_adapter_is_told_apart_at_start(install, tmp_path, old, new, flaw):
    """Not at the first message, when nobody looks."""
    assert GOOD.count(old) == 1, "or nothing is broken"
    install("flock", GOOD.replace(old, new))

    assert flaw in fault_of(tmp_path, "pigeon")


def test_what_is_no_class_is_no_adapter(install):
    install("flock", "Pigeon = 1")

    with pytest.raises(UnusableKind, match="it is no class"):
        adapter_class("pigeon")


def test_a_kind_that_two_packages_bring_is_nobodys(install, tmp_path):
    """Which one was meant is not for us to guess."""
    install("flock")
    install("swarm")

    fault = fault_of(tmp_path, "pigeon")

    assert "claimed more than once, by flock 1.2 and swarm 1.2" in fault


def test_no_package_takes_the_place_of_a_built_in_kind(install, tmp_path):
    """It would be given the credentials of another."""
    install("flock", kind="smtp")

    assert "'smtp' is built in, and flock 1.2 claims it, too" in fault_of(tmp_path, "smtp")
