"""From what was asked for to a `Draft`: every rule of a request, and all of its faults at once.

A value of null counts as left out. Whatever comes in, the answer is a `Draft` or an
`InvalidNotification`: nothing else escapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

from clarion.domain.address import parse_address
from clarion.domain.header import read_headers
from clarion.domain.instant import parse_instant
from clarion.domain.notification import Channel, Content, Delivery, Draft, Priority
from clarion.domain.text import (
    Walk,
    line_fault,
    pointer_to,
    shown,
    size_bytes,
    text_fault,
    type_name,
)
from clarion.errors import Fault, InvalidNotification

FIELDS = (
    "channel", "to", "subject", "text", "html", "data", "priority", "send_at", "expires_at",
    "delivery", "tenant", "reference", "metadata", "headers",
)  # fmt: skip
"""What a request may hold."""

MAX_NAME = 200
"""Characters of `tenant` and `reference` (the contract)."""
MAX_KEY = 255
MAX_SUBJECT = 998
"""RFC 5322 section 2.1.1: the characters of a line."""
MAX_FAULTS = 100
"""Faults reported of one request at most, so that a bad one cannot cost a long answer."""

_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    Channel.EMAIL: (("text", "html"), "an e-mail needs text or html"),
    Channel.WEBHOOK: (("text", "data"), "a webhook needs text or data"),
}

Choice = TypeVar("Choice", bound=Enum)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a request is measured by."""

    channels: frozenset[str]
    """The configured channels."""
    max_body_bytes: int = 1_000_000
    """Bound of `text`, `html` and `data` together, in bytes of UTF-8."""
    max_metadata_bytes: int = 16_384
    max_ahead_s: float = 366 * 86_400.0
    """How far ahead `send_at` may lie, and `expires_at` behind it, in seconds."""


def draft_from(
    fields: Mapping[str, Any],
    rules: Rules,
    *,
    now: float,
    idempotency_key: str | None = None,
    correlation_id: str = "",
) -> Draft:
    """Return the draft that `fields` (a JSON object) ask for; `now` is epoch seconds.

    Raises InvalidNotification with every fault (`MAX_FAULTS` at most).
    """
    if not isinstance(fields, Mapping):
        raise InvalidNotification([Fault("a notification is a JSON object", "")])
    form = _Form(rules, now)
    form.read(fields)
    form.check_together()
    if idempotency_key is not None:
        form.check_key(idempotency_key)
    if correlation_id:
        form.check_correlation(correlation_id)
    if form.faults:
        raise InvalidNotification(form.faults)
    return form.draft(
        idempotency_key,
        # Only a key that returns is ever compared.
        "" if idempotency_key is None else fingerprint(fields),
        correlation_id,
    )


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return a hash of the body, whatever the order of its keys; one of bodies that are valid."""
    text = json.dumps(dict(fields), sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


# --- single fields: each reader takes a value that is not null, and raises ValueError --------


def _string(value: object) -> str:
    if type(value) is str:
        return value
    if isinstance(value, str):
        # A subclass (an enumeration, say) becomes plain.
        return str.__str__(value)
    raise ValueError(f"must be a string, not {type_name(value)}")


def _line(max_length: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _string(value)
        fault = line_fault(text, max_length)
        if fault is not None:
            raise ValueError(fault)
        return text

    return read


def _body(value: object) -> str:
    text = _string(value)
    fault = text_fault(text)
    if fault is not None:
        raise ValueError(fault)
    return text


def _choice(choices: Mapping[str, Choice]) -> Callable[[object], Choice]:
    def read(value: object) -> Choice:
        for choice in choices.values():
            if value is choice:
                return choice
        found = choices.get(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return found

    return read


_READERS: dict[str, Callable[[object], Any]] = {
    "channel": _string,
    "to": _string,
    "subject": _line(MAX_SUBJECT),
    "text": _body,
    "html": _body,
    "priority": _choice({priority.label: priority for priority in Priority}),
    "send_at": parse_instant,
    "expires_at": parse_instant,
    "delivery": _choice({delivery.value: delivery for delivery in Delivery}),
    "tenant": _line(MAX_NAME),
    "reference": _line(MAX_NAME),
}
_read_key = _line(MAX_KEY)
_TREES = frozenset({"data", "metadata", "headers"})


def fault_of_text(name: str, text: str, channel: str = "") -> str | None:
    """Say what is wrong with the text of one field by itself; None where nothing is.

    An address is looked at where its channel is known.
    """
    try:
        value = _READERS[name](text)
        if name == "to" and channel:
            parse_address(channel, value)
    except ValueError as error:
        return str(error)
    return None


class _Form:
    """The fields of one request: first each for itself, then what they mean together."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.faults: list[Fault] = []
        self._rules = rules
        self._now = now
        self._values: dict[str, Any] = {}
        self._spoilt: set[str] = set()
        """Fields that are there and wrong; nothing else is said about them."""

    def _report(self, detail: str, pointer: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(detail, pointer))

    def _report_field(self, name: str, detail: str) -> None:
        self._spoilt.add(name)
        self._report(f"{name} {detail}", f"/{name}")

    # --- each for itself -------------------------------------------------------------------

    def read(self, fields: Mapping[str, Any]) -> None:
        """Read all fields; what is wrong is left out and reported."""
        for name, value in fields.items():
            reader = _READERS.get(name)
            if reader is None:
                self._read_other(name, value)
            elif value is not None:
                try:
                    self._values[name] = reader(value)
                except ValueError as error:
                    self._report_field(name, str(error))
            if len(self.faults) >= MAX_FAULTS:
                return

    def _read_other(self, name: str, value: object) -> None:
        if name not in _TREES:
            self._report(_unknown_field(name), pointer_to("", name))
        elif isinstance(value, Mapping):
            self._values[name] = self._tree(name, value)
        elif value is not None:
            self._report_field(name, f"must be an object, not {type_name(value)}")

    def _tree(self, name: str, value: Mapping[Any, Any]) -> dict[str, Any]:
        if name == "headers":
            return read_headers(value, "/headers", self._report)
        is_body = name == "data"
        limit = self._rules.max_body_bytes if is_body else self._rules.max_metadata_bytes
        copied: dict[str, Any] = Walk(limit, self._report).copy(value, f"/{name}")
        return copied

    # --- together --------------------------------------------------------------------------

    def check_together(self) -> None:
        """Check what depends on more than one field."""
        self._check_channel()
        self._check_address()
        self._check_size()
        if "send_at" in self._values or "expires_at" in self._values:
            self._check_times()

    def _is_missing(self, name: str) -> bool:
        if name in self._values:
            return False
        if name not in self._spoilt:
            self._report_field(name, "is missing")
        return True

    def _check_channel(self) -> None:
        if self._is_missing("channel"):
            return
        channel, channels = self._values["channel"], self._rules.channels
        if channel in channels:
            self._check_needs(channel)
            return
        self._report(
            f"the channel {shown(channel)} is not configured{_did_you_mean(channel, channels)};"
            f" configured: {', '.join(sorted(channels))}",
            "/channel",
        )

    def _check_needs(self, channel: str) -> None:
        names, detail = _NEEDS.get(channel) or (("text",), f"{channel} needs text")
        for name in names:
            if name in self._spoilt or _is_something(self._values.get(name)):
                return
        self._report(f"nothing to send: {detail}", f"/{names[0]}")

    def _check_address(self) -> None:
        if self._is_missing("to"):
            return
        try:
            address = parse_address(self._values.get("channel", ""), self._values["to"])
        except ValueError as error:
            self._report_field("to", str(error))
        else:
            self._values["to"] = address

    def _check_size(self) -> None:
        text, html = self._values.get("text", ""), self._values.get("html", "")
        limit = self._rules.max_body_bytes
        size = size_bytes(text) + size_bytes(html)
        if size > limit:
            name = "html" if html else "text"
            self._report_field(
                name, f"makes the message {size:,} bytes large; {limit:,} bytes are the most"
            )

    def _check_times(self) -> None:
        send_at, expires_at = self._values.get("send_at"), self._values.get("expires_at")
        limit_s = self._rules.max_ahead_s
        too_far = f"lies more than {limit_s / 86_400:g} days ahead"
        start_at = self._now if send_at is None else max(self._now, send_at)
        if start_at > self._now + limit_s:
            self._report_field("send_at", too_far)
        if expires_at is None:
            return
        if expires_at <= self._now:
            self._report_field("expires_at", "must lie after now")
        elif expires_at <= start_at:
            self._report_field("expires_at", "must lie after send_at")
        elif expires_at > start_at + limit_s:
            self._report_field("expires_at", too_far)

    def check_key(self, key: object) -> None:
        """Check the idempotency key, which comes from a header or from an item of a batch."""
        try:
            fault = None if _read_key(key).strip() else "is empty"
        except ValueError as error:
            fault = str(error)
        if fault is not None:
            self._report(f"the idempotency key {fault}", "/idempotency_key")

    def check_correlation(self, correlation_id: str) -> None:
        """Check the id that joins log lines; it is stored too."""
        fault = line_fault(correlation_id, MAX_NAME)
        if fault is not None:
            self._report(f"the correlation id {fault}", "/correlation_id")

    def draft(self, key: str | None, fingerprint: str, correlation_id: str) -> Draft:
        """Return the draft of a form without faults."""
        value = self._values.get
        return Draft(
            channel=self._values["channel"],
            content=Content(
                self._values["to"], value("subject"), value("text"), value("html"),
                value("data"), value("headers"),
            ),
            priority=value("priority", Priority.NORMAL),
            send_at=value("send_at"),
            expires_at=value("expires_at"),
            delivery=value("delivery"),
            tenant=value("tenant") or None,
            reference=value("reference") or None,
            metadata=value("metadata") or {},
            idempotency_key=key,
            fingerprint=fingerprint,
            correlation_id=correlation_id,
        )  # fmt: skip


def _is_something(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None


def _unknown_field(name: object) -> str:
    if name == "idempotency_key":
        return "idempotency_key belongs to items of a batch; else send an Idempotency-Key header"
    return f"there is no field {shown(name)}{_did_you_mean(name, FIELDS)}"


def _did_you_mean(name: object, known: Iterable[str]) -> str:
    if not isinstance(name, str) or len(name) > 40:
        return ""
    close: list[str] = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
