"""The kinds of providers that there are; an adapter's module is imported when it is first named.

What a kind needs of the settings is its `Config`; how it is made and driven is `AdapterClass` and
`base.Adapter`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from clarion.errors import NotFound
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
"""Where the adapter of each kind is: module and class."""


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
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(KINDS))}"
        self.args = (f"there is no provider kind {kind!r}; {hint}",)


def receipt_reader(
    kind: str, name: str, config: AdapterConfig, *, public_url: str
) -> ReceiptReader | None:
    """Return what reads the callbacks of a provider; None where its kind reports nothing later."""
    make = getattr(adapter_class(kind), "receipts", None)
    if make is None:
        return None
    return cast(ReceiptReader, make(name, config, public_url=public_url))


def adapter_class(kind: str) -> AdapterClass:
    """Return the adapter class of a kind; raises UnknownKind."""
    if kind not in KINDS:
        raise UnknownKind(kind)
    module, _, name = KINDS[kind].partition(":")
    return cast(AdapterClass, getattr(import_module(module), name))
