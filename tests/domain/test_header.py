"""Headers that a request may add."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.header import RESERVED, is_reserved, read_headers


def read(value: Any) -> tuple[dict[str, str], list[tuple[str, str]]]:
    faults: list[tuple[str, str]] = []
    headers = read_headers(value, "/headers", lambda detail, at: faults.append((at, detail)))
    return headers, faults


def test_ordinary_headers_pass_as_they_are() -> None:
    """Threads, list handling and the sender's own marks are nobody's routing."""
    wanted = {
        "List-Unsubscribe": "<https://example.com/u>, <mailto:u@example.com>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "In-Reply-To": "<1@example.com>",
        "References": "<1@example.com>",
        "X-Campaign": "spring ü",
        "Precedence": "bulk",
        "X-Empty": "",
    }

    assert read(wanted) == (wanted, [])


@pytest.mark.parametrize(
    "name",
    ["From", "TO", "cc", "Bcc", "Reply-To", "Sender", "Return-Path", "Resent-To", "Resent-Bcc",
     "Subject", "Content-Type", "Content-Transfer-Encoding", "MIME-Version", "Message-ID", "Date",
     "Received", "DKIM-Signature", "ARC-Seal", "X-SG-EID", "x-smtpapi", "X-Mailgun-Variables",
     "Host", "Transfer-Encoding", "Connection", "webhook-signature", "Webhook-Id", "svix-id",
     "Disposition-Notification-To", "X-Original-To", "Proxy-Authorization", "X-Forwarded-For"],
)  # fmt: skip
def test_a_header_that_names_who_what_or_how_is_refused(name: str) -> None:
    """Those are built from the settings and from `to`, never from a header."""
    headers, ((pointer, detail),) = read({name: "evil@example.com"})

    assert headers == {}
    assert pointer == f"/headers/{name}"
    assert "alone" in detail


@pytest.mark.parametrize(
    "name",
    ["", "X A", "X:A", "X\r\nBcc", "X\n", "\tX", "X\x00", "X\x7f", "Ü", "X\ud800", "Bcc ", " Bcc",
     "Bcc:", "X(y)", "X" * 77],
)  # fmt: skip
def test_a_name_is_a_token(name: str) -> None:
    """A blank or a colon in a name would be read as another header."""
    headers, faults = read({name: "x"})

    assert headers == {}
    assert len(faults) == 1


@pytest.mark.parametrize(
    "value",
    ["a\r\nBcc: evil@example.com", "a\n b", "a\rb", "\x00", "\x0b", "\x0c", "\x85", "\u2028",
     "\u2029", "\ud800", "x" * 999, 5, True, None, ["x"], {"x": "y"}],
)  # fmt: skip
def test_a_value_is_one_line_of_text(value: object) -> None:
    """Everything that some library takes for the end of a line is refused."""
    headers, faults = read({"X-A": value})

    assert headers == {}
    assert len(faults) == 1


@pytest.mark.parametrize("value", [[], "X: y", 5, True, [["X", "y"]]])
def test_headers_are_an_object(value: object) -> None:
    """One fault, at the field itself."""
    ((pointer, detail),) = read(value)[1]

    assert pointer == "/headers"
    assert "object" in detail


def test_a_name_cannot_come_twice_in_other_letters() -> None:
    """Which of the two would count is anybody's guess."""
    assert [pointer for pointer, _ in read({"X-A": "1", "x-a": "2"})[1]] == ["/headers/x-a"]


def test_the_number_of_headers_is_bounded() -> None:
    """50 pass, 51 do not."""
    assert read({f"X-{n}": "" for n in range(50)})[1] == []
    assert len(read({f"X-{n}": "" for n in range(51)})[1]) == 1


def test_every_fault_is_told_at_once() -> None:
    """One round of corrections is enough."""
    _, faults = read({"Bcc": "x", "X-A": "a\nb", "a b": "", "X-Fine": "fine"})

    assert [pointer for pointer, _ in faults] == ["/headers/Bcc", "/headers/X-A", "/headers/a b"]


@given(st.dictionaries(
    st.text(st.characters(), max_size=20) | st.sampled_from(sorted(RESERVED)),
    st.text(st.characters(), max_size=40) | st.sampled_from(["a\r\nBcc: x", "\u2028", "\n"]),
))  # fmt: skip
def test_no_injection_passes(value: dict[str, str]) -> None:
    """Written down as mail or HTTP does, what passes has exactly the headers that it shows."""
    headers, _ = read(value)

    wire = "\r\n".join(f"{name}: {text}" for name, text in headers.items())
    lines = wire.splitlines()
    assert len(lines) == len(headers)
    for line, name in zip(lines, headers, strict=True):
        assert line.partition(":")[0] == name
        assert not is_reserved(name)
