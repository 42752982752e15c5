"""Masked text tells two recipients apart and names neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.telemetry.mask import mask_address, mask_text


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ada@example.com", "a***@example.com"),
        ('"ada lovelace"@example.com', "a***@example.com"),
        ("+15551231234", "+1555***1234"),
        ("+4930123", "+49***23"),
        ("https://user:pass@hooks.example/T0/secret?a=b", "https://***@hooks.example/***"),
        ("https://hooks.example", "https://hooks.example"),
        ("12345", "***"),
        ("", "***"),
    ],
)
def test_an_address_keeps_only_what_tells_it_apart(address: str, masked: str) -> None:
    """The first letter and domain, the ends of a number, the host of a URL."""
    assert mask_address(address) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("The 'To' number +15551234567 is bad.", "The 'To' number +1555***4567 is bad."),
        ("we found [ada@example.com] in to", "we found [a***@example.com] in to"),
        ('from "ada l"@example.com', "from ***@example.com"),
        ("call +1 (555) 123-4567 now", "call +1555***4567 now"),
        ("to=%2B15551234567&x=1", "to=%2B1555***4567&x=1"),
        ("whatsapp:+15551234567", "whatsapp:+1555***4567"),
        ("Authorization: Bearer SG.abc.def", "Authorization: Bearer ***"),
        ("key SG.abcdef.ghi-jk", "key SG.***"),
        ("/Accounts/AC" + "0" * 32 + ".json", "/Accounts/AC***.json"),
        ("sign with whsec_abc+/=", "sign with whsec_***"),
        ("see https://a.example/x?y=z.", "see https://a.example/***"),
    ],
)
def test_a_sentence_loses_its_addresses_and_keys(text: str, masked: str) -> None:
    """Providers quote addresses and paths in their errors; so do exceptions."""
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "code 21610 at 2026-11-24 02:32:08 from 10.0.0.123",
        "connection to 127.0.0.1:8080 refused",
        "HTTP 429 on /2010-04-01/Accounts",
        "n_0123456789abcdef took 1.25 s",
    ],
)
def test_what_names_nobody_stays_readable(text: str) -> None:
    """Codes, dates, hosts, ids and durations are needed to understand an incident."""
    assert mask_text(text) == text


def test_named_secrets_vanish_wherever_they_occur() -> None:
    """A token that looks like no known kind of key is hidden because it was named."""
    assert mask_text("wrong token tok-7 (tok-7)", "tok-7", "") == "wrong token *** (***)"


@given(
    st.from_regex(r"[qrstuvwz]{3,12}", fullmatch=True),
    st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True),
)
def test_no_full_address_survives(local: str, number: str) -> None:
    """Whatever stands around them, the whole local part and the whole number are gone."""
    masked = mask_text(f"<{local}@example.com>, (+{number}) and {number}")

    assert local not in masked
    assert number not in masked
