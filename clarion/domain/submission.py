"""From what was asked for to a `Draft`: every rule of a request, and all of its faults at once.

A value of null counts as left out. Whatever comes in, the answer is a `Draft` or an
`InvalidNotification`: nothing else escapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
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

PRIORITIES = {priority.label: priority for priority in Priority}
DELIVERIES = {delivery.value: delivery for delivery in Delivery}

_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    Channel.EMAIL: (("text", "html"), "an e-mail needs text or html"),
    Channel.WEBHOOK: (("text", "data"), "a webhook needs text or data"),
}
_KNOWN = frozenset(FIELDS)

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
    form = _Form(fields, rules, now)
    form.check_names()
    channel = form.channel()
    content = form.content(channel)
    send_at, expires_at = form.instants()
    priority = form.choice("priority", PRIORITIES)
    delivery = form.choice("delivery", DELIVERIES)
    tenant, reference = form.line("tenant", MAX_NAME), form.line("reference", MAX_NAME)
    metadata = form.tree("metadata", rules.max_metadata_bytes)
    form.check_key(idempotency_key)
    form.check_correlation(correlation_id)
    form.raise_faults()
    return Draft(
        channel=channel,
        content=content,
        priority=Priority.NORMAL if priority is None else priority,
        send_at=send_at,
        expires_at=expires_at,
        delivery=delivery,
        tenant=tenant or None,
        reference=reference or None,
        metadata=metadata or {},
        idempotency_key=idempotency_key,
        # Only a key that returns is ever compared.
        fingerprint=fingerprint(fields) if idempotency_key is not None else "",
        correlation_id=correlation_id,
    )


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return a hash of the body, whatever the order of its keys; one of bodies that are valid."""
    text = json.dumps(dict(fields), sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


class _Form:
    """The fields of one request, read one by one; gathers what is wrong with them."""

    def __init__(self, fields: Mapping[str, Any], rules: Rules, now: float) -> None:
        self._fields = fields
        self._rules = rules
        self._now = now
        self._faults: list[Fault] = []
        self._pointers: set[str] = set()

    def report(self, detail: str, pointer: str) -> None:
        self._pointers.add(pointer)
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(Fault(detail, pointer))

    def raise_faults(self) -> None:
        if self._faults:
            raise InvalidNotification(self._faults)

    def _report_field(self, name: str, detail: str) -> None:
        self.report(f"{name} {detail}", f"/{name}")

    # --- kinds of fields -------------------------------------------------------------------

    def _string(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is None or type(value) is str:
            return value
        if isinstance(value, str):
            return str.__str__(value)
        self._report_field(name, f"must be a string, not {type_name(value)}")
        return None

    def line(self, name: str, max_length: int) -> str | None:
        """Read a text of one line."""
        value = self._string(name)
        if value is not None:
            fault = line_fault(value, max_length)
            if fault is not None:
                self._report_field(name, fault)
        return value

    def _body(self, name: str) -> str | None:
        value = self._string(name)
        if value is not None:
            fault = text_fault(value)
            if fault is not None:
                self._report_field(name, fault)
        return value

    def tree(self, name: str, max_bytes: int) -> dict[str, Any] | None:
        """Read an object of any depth that can be stored."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._report_field(name, f"must be an object, not {type_name(value)}")
            return None
        copied: dict[str, Any] = Walk(max_bytes, self.report).copy(value, f"/{name}")
        return copied

    def choice(self, name: str, choices: Mapping[str, Choice]) -> Choice | None:
        """Read one of a few words."""
        value = self._fields.get(name)
        if value is None or (isinstance(value, Enum) and value in choices.values()):
            return value
        found = choices.get(value) if isinstance(value, str) else None
        if found is None:
            self._report_field(name, f"must be one of {', '.join(choices)}")
        return found

    def _instant(self, name: str) -> float | None:
        value = self._fields.get(name)
        if value is None:
            return None
        try:
            return parse_instant(value)
        except ValueError as error:
            self._report_field(name, str(error))
            return None

    # --- the fields ------------------------------------------------------------------------

    def check_names(self) -> None:
        """Report every field that there is not, with the one that may be meant."""
        for name in self._fields:
            if name not in _KNOWN and len(self._faults) < MAX_FAULTS:
                self.report(_unknown_field(name), pointer_to("", name))

    def channel(self) -> str:
        """Read the channel, which has to be configured."""
        value = self._string("channel")
        if value is None:
            self._require("channel")
        elif value not in self._rules.channels:
            configured = ", ".join(sorted(self._rules.channels))
            hint = _did_you_mean(value, self._rules.channels)
            self.report(
                f"the channel {shown(value)} is not configured{hint}; configured: {configured}",
                "/channel",
            )
        return value or ""

    def _require(self, name: str) -> None:
        # A field of a wrong type is there; its fault is reported already.
        if f"/{name}" not in self._pointers:
            self._report_field(name, "is missing")

    def content(self, channel: str) -> Content:
        """Read what is sent, and to whom."""
        to = self._address(channel)
        subject = self.line("subject", MAX_SUBJECT)
        text, html = self._body("text"), self._body("html")
        data = self.tree("data", self._rules.max_body_bytes)
        self._check_size(text, html)
        self._check_needs(channel, {"text": text, "html": html, "data": data})
        headers = self._fields.get("headers")
        if headers is not None:
            headers = read_headers(headers, "/headers", self.report)
        return Content(to, subject, text, html, data, headers)

    def _address(self, channel: str) -> str:
        value = self._string("to")
        if value is None:
            self._require("to")
            return ""
        try:
            return parse_address(channel, value)
        except ValueError as error:
            self._report_field("to", str(error))
            return ""

    def _check_size(self, text: str | None, html: str | None) -> None:
        size = size_bytes(text or "") + size_bytes(html or "")
        if size > self._rules.max_body_bytes:
            name = "text" if html is None else "html"
            limit = f"{self._rules.max_body_bytes:,} bytes are the most"
            self._report_field(name, f"makes the message {size:,} bytes large; {limit}")

    def _check_needs(self, channel: str, given: Mapping[str, object]) -> None:
        if channel not in self._rules.channels:
            return
        names, detail = _NEEDS.get(channel) or (("text",), f"{channel} needs text")
        if any(f"/{name}" in self._pointers for name in names):
            return
        if not any(_is_something(given[name]) for name in names):
            self.report(f"nothing to send: {detail}", f"/{names[0]}")

    def instants(self) -> tuple[float | None, float | None]:
        """Read when to send and when it is too late."""
        send_at, expires_at = self._instant("send_at"), self._instant("expires_at")
        limit_s = self._rules.max_ahead_s
        start_at = self._now if send_at is None else max(self._now, send_at)
        if start_at > self._now + limit_s:
            self._report_field("send_at", f"lies more than {limit_s / 86_400:g} days ahead")
        if expires_at is None:
            return send_at, None
        if expires_at <= self._now:
            self._report_field("expires_at", "must lie after now")
        elif expires_at <= start_at:
            self._report_field("expires_at", "must lie after send_at")
        elif expires_at > start_at + limit_s:
            self._report_field("expires_at", f"lies more than {limit_s / 86_400:g} days ahead")
        return send_at, expires_at

    def check_key(self, key: object) -> None:
        """Check the idempotency key, which comes from a header or from an item of a batch."""
        if key is None:
            return
        if not isinstance(key, str):
            fault: str | None = f"must be a string, not {type_name(key)}"
        else:
            fault = line_fault(key, MAX_KEY) if key.strip() else "is empty"
        if fault is not None:
            self.report(f"the idempotency key {fault}", "/idempotency_key")

    def check_correlation(self, correlation_id: str) -> None:
        """Check the id that joins log lines; it is stored too."""
        fault = line_fault(correlation_id, MAX_NAME)
        if fault is not None:
            self.report(f"the correlation id {fault}", "/correlation_id")


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
