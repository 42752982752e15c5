"""The kinds of providers that there are; an adapter's module is imported when it is first named.

What a kind needs of the settings is its `Config`; how it is made and driven is `AdapterClass` and
`base.Adapter`. Other packages bring kinds of their own by entry points of the group
`clarion.providers`: the entry point's name is the kind, its object the adapter's class.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from clarion.domain.notification import Channel
from clarion.errors import ClarionError, NotFound
from clarion.policies.clock import Clock
from clarion.providers.base import Adapter
from clarion.providers.callback import ReceiptReader
from clarion.providers.setting import AdapterConfig

KINDS: Mapping[str, str] = {
    "outbox": "clarion.providers.outbox:Outbox",
    "sendgrid": "clarion.providers.sendgrid:SendGrid",
    "smtp": "clarion.providers.smtp:Smtp",
    "twilio": "clarion.providers.twilio:Twilio",
    "webhook": "clarion.providers.webhook:Webhook",
}
"""Where the adapter of each kind that is built in is: module and class."""

GROUP = "clarion.providers"
"""The group of entry points by which other packages bring kinds."""

_METHODS = ("open", "send", "probe", "close")


class AdapterClass(Protocol):
    """What is known of an adapter before it is made."""

    kind: ClassVar[str]
    channels: ClassVar[frozenset[str]]
    Config: ClassVar[type[AdapterConfig]]

    def __call__(
        self,
        name: str,
        config: Any,
        *,
        max_concurrent: int,
        clock: Clock,
        public_url: str = "",
        base_dir: Path = ...,
        executor: Executor | None = None,
    ) -> Adapter:
        """Make an adapter from a validated `Config`; nothing is opened yet.

        `base_dir` is where relative paths of the settings count from; what runs in threads goes
        through `executor`, or through threads of its own without one.
        """
        ...


class UnknownKind(NotFound):
    """No provider is of this kind; the message names the likely one."""

    def __init__(self, kind: str) -> None:
        super().__init__("provider kind", kind)
        known = sorted({*KINDS, *brought()})
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        self.args = (f"there is no provider kind {kind!r}; {hint}",)


class UnusableKind(ClarionError):
    """A package brings this kind, but not so that it can be used; the message names both."""


def receipt_reader(
    kind: str, name: str, config: AdapterConfig, *, public_url: str
) -> ReceiptReader | None:
    """Return what reads the callbacks of a provider; None where its kind reports nothing later."""
    make = getattr(adapter_class(kind), "receipts", None)
    if make is None:
        return None
    return cast(ReceiptReader, make(name, config, public_url=public_url))


def adapter_class(kind: str) -> AdapterClass:
    """Return the adapter class of a kind. Raises: UnknownKind, UnusableKind."""
    packages = brought().get(kind, ())
    if kind in KINDS and not packages:
        module, _, name = KINDS[kind].partition(":")
        return cast(AdapterClass, getattr(import_module(module), name))
    if not packages:
        raise UnknownKind(kind)
    if kind in KINDS or len(packages) > 1:
        raise UnusableKind(_tell_clash(kind, packages))
    return _load(kind, packages[0])


@cache
def brought() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the kinds that installed packages bring, each with whoever claims it.

    Looked up once: what is installed later needs a restart.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for each in sorted(entry_points(group=GROUP), key=lambda each: (each.name, _package(each))):
        found[each.name] = (*found.get(each.name, ()), each)
    return found


def flaws_of(kind: str, found: object) -> list[str]:
    """Say in which ways an object is no adapter class for `kind`; nothing where it is one."""
    if not inspect.isclass(found):
        return ["it is no class"]
    return [*_flaws_of_attributes(kind, found), *_flaws_of_methods(found)]


def _load(kind: str, entry: EntryPoint) -> AdapterClass:
    origin = f"the kind {kind!r} of the package {_package(entry)} ({entry.value}) cannot be used"
    try:
        found = entry.load()
    except Exception as error:  # the boundary to code of others, whose import may do anything
        raise UnusableKind(f"{origin}: {type(error).__name__}: {error}") from error
    flaws = flaws_of(kind, found)
    if flaws:
        raise UnusableKind(f"{origin}: {'; '.join(flaws)}")
    return cast(AdapterClass, found)


def _flaws_of_attributes(kind: str, found: type) -> Iterator[str]:
    if getattr(found, "kind", None) != kind:
        yield f"its `kind` must be {kind!r}"
    channels = getattr(found, "channels", None)
    if not isinstance(channels, frozenset) or not channels or not channels <= set(Channel):
        yield f"its `channels` must be a frozenset of some of {', '.join(Channel)}"
    config = getattr(found, "Config", None)
    if not (inspect.isclass(config) and issubclass(config, AdapterConfig)):
        yield "its `Config` must be a subclass of clarion.providers.setting.AdapterConfig"
    try:
        inspect.signature(found).bind(
            "name", None, max_concurrent=1, clock=None, public_url="", base_dir=None, executor=None
        )
    except (TypeError, ValueError) as error:
        yield f"it is not made as AdapterClass in clarion.providers.registry says ({error})"


def _flaws_of_methods(found: type) -> Iterator[str]:
    is_blocking = getattr(found, "is_blocking", False)
    for name in _METHODS:
        method = getattr(found, name, None)
        if not callable(method):
            yield f"it has no method `{name}`"
        elif inspect.iscoroutinefunction(method) == bool(is_blocking):
            wanted = "a plain method, as `is_blocking` says" if is_blocking else "`async def`"
            yield f"its `{name}` must be {wanted}"


def _tell_clash(kind: str, packages: tuple[EntryPoint, ...]) -> str:
    names = " and ".join(dict.fromkeys(_package(each) for each in packages))
    if kind in KINDS:
        return f"the kind {kind!r} is built in, and {names} claims it, too: uninstall that package"
    return f"the kind {kind!r} is claimed more than once, by {names}: uninstall all but one"


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
