"""Signatures as Standard Webhooks defines them, checked by a second reading of its text."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.providers.webhook_signature import secret_keys, signature

SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def verifies(secret_text: str, id_: str, timestamp: str, body: bytes, signatures: str) -> bool:
    """Verify as a receiver does, by the text of the specification."""
    key = base64.b64decode(secret_text[len("whsec_") :])
    to_sign = id_.encode() + b"." + timestamp.encode() + b"." + body
    expected = hmac.new(key, to_sign, hashlib.sha256).digest()
    versions = [each.split(",", 1) for each in signatures.split(" ")]
    return any(name == "v1" and base64.b64decode(one) == expected for name, one in versions)


def test_the_example_of_the_specification_comes_out() -> None:
    """Byte for byte."""
    assert signature(secret_keys(SPEC_SECRET), *SPEC) == SPEC_SIGNATURE


@given(
    st.binary(min_size=24, max_size=64),
    st.from_regex(r"[0-9A-Z]{26}", fullmatch=True),
    st.integers(0, 2**33),
    st.binary(max_size=500),
)
def test_a_receiver_verifies_whatever_is_signed(
    key: bytes, id_: str, timestamp: int, body: bytes
) -> None:
    """With its own secret, and with no other; the body byte for byte."""
    text = secret(key)

    made = signature(secret_keys(text), id_, timestamp, body)

    assert verifies(text, id_, str(timestamp), body, made)
    assert not verifies(text, id_, str(timestamp), body + b" ", made)
    assert not verifies(text, id_, str(timestamp + 1), body, made)
    assert not verifies(secret(bytes(reversed(key)) + b"x"), id_, str(timestamp), body, made)


def test_during_a_rotation_old_and_new_secrets_both_verify() -> None:
    """A receiver that has either of them finds its signature in the list."""
    old, new = secret(b"o" * 24), secret(b"n" * 32)

    made = signature(secret_keys(f"{new}  {old}"), "id", 1, b"{}")

    assert len(made.split(" ")) == 2
    assert verifies(old, "id", "1", b"{}", made)
    assert verifies(new, "id", "1", b"{}", made)


def test_no_secret_is_no_key() -> None:
    """Messages go unsigned then."""
    assert secret_keys("") == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
        ("whsec_", "0 bytes"),
        ("whsec_not base64!", "base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_w", "base64"),
        (secret(b"x" * 23), "23 bytes"),
        (secret(b"x" * 65), "65 bytes"),
        (f"{SPEC_SECRET} whsec_short", "base64"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(text: str, fault: str) -> None:
    """A settings fault ends up in logs and terminals."""
    with pytest.raises(ValueError, match=fault) as caught:
        secret_keys(text)

    assert "MfKQ" not in str(caught.value)
    assert caught.value.__cause__ is None
