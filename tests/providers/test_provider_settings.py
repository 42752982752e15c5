"""Every kind brings its own settings: strict, explained, and silent about secrets."""

from __future__ import annotations

import base64
import inspect
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr, ValidationError

from clarion.errors import NotFound
from clarion.providers.registry import KINDS, UnknownKind, adapter_class

SENDGRID = {"api_key": "SG.secret", "from_address": "clarion@example.com"}
TWILIO = {
    "account_sid": "AC" + "0" * 32, "auth_token": "top-secret", "from_number": "+15005550006",
}  # fmt: skip
SMTP = {
    "host": "smtp.example.com", "username": "clarion", "password": "top-secret",
    "from_address": "clarion@example.com",
}  # fmt: skip
MINIMAL: dict[str, dict[str, Any]] = {
    "outbox": {}, "sendgrid": SENDGRID, "smtp": SMTP, "twilio": TWILIO, "webhook": {},
}  # fmt: skip
SERVICE = "MG" + "a" * 32


def public_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_says_what_it_is(kind: str) -> None:
    """Its name, its channels, its settings, and a sentence for each of these."""
    found = adapter_class(kind)

    assert found.kind == kind
    assert found.channels
    assert found.Config(**MINIMAL[kind])
    for name, field in found.Config.model_fields.items():
        assert field.description, name
        assert not field.is_required(), f"{name} has no default, so its absence says nothing"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_all_kinds_are_made_the_same_way(kind: str) -> None:
    """The composition root knows one constructor."""
    parameters = inspect.signature(adapter_class(kind)).parameters

    assert list(parameters) == [
        "name", "config", "max_concurrent", "clock", "public_url", "base_dir", "executor",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_unknown_key_is_refused(kind: str) -> None:
    """A misspelt key must not be silently without effect."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        adapter_class(kind).Config(**{**MINIMAL[kind], "surprise": 1})


def test_an_unknown_kind_names_the_likely_one() -> None:
    """A typing error is answered with what was meant."""
    with pytest.raises(UnknownKind, match="did you mean 'sendgrid'"):
        adapter_class("sendgird")
    with pytest.raises(NotFound, match="there are outbox, sendgrid, smtp, twilio"):
        adapter_class("pigeon")


def test_a_secret_never_shows() -> None:
    """Neither printed nor dumped."""
    for kind in ("sendgrid", "smtp", "twilio"):
        config = adapter_class(kind).Config(**MINIMAL[kind])

        shown = repr(config) + str(config) + str(config.model_dump()) + config.model_dump_json()

        assert "secret" not in shown.lower().replace("secretstr", "")
        assert any(isinstance(value, SecretStr) for _, value in config)


@pytest.mark.parametrize(
    ("kind", "table", "advice"),
    [
        ("sendgrid", {**SENDGRID, "api_key": ""}, "mail.send"),
        ("sendgrid", {**SENDGRID, "api_key": "SG.x\r\nX-Evil: 1"}, "printable"),
        ("sendgrid", {**SENDGRID, "api_key": "SG.x "}, "blanks"),
        ("sendgrid", {**SENDGRID, "from_address": ""}, "sender"),
        ("sendgrid", {**SENDGRID, "from_address": "Clarion <c@example.com>"}, "bare address"),
        ("sendgrid", {**SENDGRID, "from_name": "a\r\nb"}, "one line"),
        ("sendgrid", {**SENDGRID, "base_url": "api.sendgrid.com"}, "must be a URL"),
        ("sendgrid", {**SENDGRID, "base_url": "ftp://api.sendgrid.com"}, "must be a URL"),
        ("sendgrid", {**SENDGRID, "base_url": "http://api.sendgrid.com"}, "use https"),
        ("sendgrid", {**SENDGRID, "base_url": "http://8.8.8.8"}, "use https"),
        ("sendgrid", {**SENDGRID, "base_url": "https://a:b@c.example"}, "no credentials"),
        ("sendgrid", {**SENDGRID, "base_url": "https://c.example/?a=b"}, "query"),
        ("sendgrid", {**SENDGRID, "event_public_key": "nonsense"}, "verification key"),
        ("sendgrid", {**SENDGRID, "event_public_key": "aGVsbG8="}, "verification key"),
        ("twilio", {**TWILIO, "account_sid": ""}, "starts with AC"),
        ("twilio", {**TWILIO, "account_sid": "AC1/../x"}, "starts with AC"),
        ("twilio", {**TWILIO, "auth_token": ""}, "auth token"),
        ("twilio", {**TWILIO, "from_number": "0664 123"}, "write the sender"),
        ("twilio", {**TWILIO, "messaging_service_sid": SERVICE}, "one of"),
        ("twilio", {**TWILIO, "from_number": ""}, "one of"),
        ("twilio", {**TWILIO, "from_number": "", "messaging_service_sid": "MG1"}, "MG and 32"),
        ("outbox", {"from_address": "nobody"}, "bare address"),
        ("smtp", {**SMTP, "host": ""}, "name of the mail server"),
        ("smtp", {**SMTP, "host": "smtp.example.com\r\n"}, "name of the mail server"),
        ("smtp", {**SMTP, "host": "smtp://smtp.example.com"}, "name of the mail server"),
        ("smtp", {**SMTP, "port": 65536}, "less than or equal to 65535"),
        ("smtp", {**SMTP, "security": "ssl"}, "'starttls', 'tls' or 'none'"),
        ("smtp", {**SMTP, "security": "none"}, "show the password"),
        ("smtp", {**SMTP, "security": "none", "host": "10.0.0.1"}, "show the password"),
        ("smtp", {**SMTP, "password": ""}, "or neither"),
        ("smtp", {**SMTP, "username": ""}, "or neither"),
        ("smtp", {**SMTP, "password": "x\n"}, "blanks"),
        ("smtp", {**SMTP, "username": "a\r\nb"}, "one line"),
        ("smtp", {**SMTP, "from_address": ""}, "sender"),
        ("smtp", {**SMTP, "from_address": "grüße@example.com"}, "ASCII"),
    ],
)
def test_a_wrong_setting_is_answered_with_what_to_do(
    kind: str, table: dict[str, Any], advice: str
) -> None:
    """The message helps whoever reads it at start."""
    with pytest.raises(ValidationError, match=advice):
        adapter_class(kind).Config(**table)


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("sendgrid", {**SENDGRID, "base_url": "http://127.0.0.1:9000/"}),
        ("sendgrid", {**SENDGRID, "base_url": "http://lookalike:9000"}),
        ("sendgrid", {**SENDGRID, "base_url": "http://[::1]:9000"}),
        ("sendgrid", {**SENDGRID, "base_url": "https://api.eu.sendgrid.com"}),
        ("sendgrid", {**SENDGRID, "event_public_key": public_key()}),
        ("sendgrid", {**SENDGRID, "from_name": "Grüße & Co"}),
        ("smtp", {**SMTP, "security": "none", "host": "127.0.0.1"}),
        ("smtp", {**SMTP, "security": "none", "host": "localhost"}),
        ("smtp", {**SMTP, "security": "none", "host": "::1"}),
        ("smtp", {**SMTP, "security": "none", "username": "", "password": ""}),
        ("smtp", {**SMTP, "password": "pass wörd"}),
        ("twilio", {**TWILIO, "from_number": "Clarion"}),
        ("twilio", {**TWILIO, "from_number": "12345"}),
        ("twilio", {**TWILIO, "from_number": "", "messaging_service_sid": SERVICE}),
    ],
)
def test_what_the_contract_allows_is_taken(kind: str, table: dict[str, Any]) -> None:
    """Look-alikes on private hosts included."""
    config = adapter_class(kind).Config(**table)

    assert not str(getattr(config, "base_url", "")).endswith("/")


def test_several_faults_are_told_at_once() -> None:
    """Nobody mends a file fault by fault."""
    with pytest.raises(ValidationError) as raised:
        adapter_class("sendgrid").Config(base_url="x", surprise=1)

    places = {error["loc"][0] for error in raised.value.errors()}
    assert places == {"api_key", "from_address", "base_url", "surprise"}
