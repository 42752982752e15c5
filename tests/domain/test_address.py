"""One recipient, and no way to smuggle in another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.address import parse_address, recipient_host


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com",
        "Ada.Lovelace+tag@sub.example.co.uk",
        "o'brien!#$%&*/=?^_`{|}~-@example.com",
        "root@localhost",
        "ada@xn--bcher-kva.example",
        "a" * 64 + "@example.com",
        "a@" + ".".join(["b" * 63] * 3) + ".example.com"[: 254 - 2 - 191],
    ],
)
def test_a_bare_address_is_taken_as_it_is(to: str) -> None:
    """What RFC 5322 calls a dot-atom address reaches the provider letter by letter."""
    assert parse_address("email", to) == to


@pytest.mark.parametrize(
    "to",
    [
        "",
        "nobody",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@b@example.com",
        "Ada <ada@example.com>",
        "<ada@example.com>",
        '"ada b"@example.com',
        '"x" <evil@example.com>',
        "ada@example.com, evil@example.com",
        "ada@example.com;evil@example.com",
        "ada@example.com\r\nBcc: evil@example.com",
        "ada@example.com\n",
        "ada\x00@example.com",
        "ada@exa\x7fmple.com",
        "ada(comment)@example.com",
        " ada@example.com",
        "ada@example.com ",
        ".ada@example.com",
        "ada.@example.com",
        "a..b@example.com",
        "ada@.example.com",
        "ada@example.com.",
        "ada@example..com",
        "ada@-example.com",
        "ada@example",
        "ada@[127.0.0.1]",
        "ada@127.0.0.1",
        "ada@exa_mple.com",
        "ädä@example.com",
        "ada@example.com\u2028",
        "ada\ud800@example.com",
        "ada@ex\ud800mple.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + ".".join(["b" * 63] * 4) + ".com",
    ],
)
def test_anything_but_one_bare_address_is_refused(to: str) -> None:
    """A name, a list, a comment, a quote or a control character is no address."""
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_address("email", to)


def test_a_domain_in_another_script_is_stored_in_its_ascii_form() -> None:
    """Providers and DNS know the xn-- form only."""
    assert parse_address("email", "ada@bücher.example") == "ada@xn--bcher-kva.example"
    assert parse_address("email", "ada@bu\u0308cher.example") == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize("domain", ["straße.de", "ｅxample.com", "BÜCHER.de", "example。com"])
def test_a_domain_that_may_mean_another_one_is_refused(domain: str) -> None:
    """Older and newer rules turn these into different domains: nobody guesses here."""
    with pytest.raises(ValueError, match="xn--"):
        parse_address("email", f"ada@{domain}")


def test_a_domain_that_grows_beyond_the_limit_in_ascii_is_refused() -> None:
    """The length that counts is the one on the wire."""
    domain = ".".join(["ü" + "a" * 50] * 4) + ".example"

    with pytest.raises(ValueError, match="xn-- form"):
        parse_address("email", f"{'b' * 30}@{domain}")


@pytest.mark.parametrize("to", ["+14155550123", "+4930123456", "+6834000", "+123456789012345"])
def test_a_phone_number_is_e164(to: str) -> None:
    """A plus, a country code, up to 15 digits."""
    assert parse_address("sms", to) == to


@pytest.mark.parametrize(
    "to",
    ["14155550123", "+0415555012", "+141555", "+1 415 555 0123", "+1234567890123456", "+",
     "+1415555012\n", "+１４１５５５５０１２３", "tel:+14155550123", ""],
)  # fmt: skip
def test_other_ways_to_write_a_phone_number_are_refused(to: str) -> None:
    """What a person can read and a provider cannot is refused at the door."""
    with pytest.raises(ValueError, match=r"E\.164"):
        parse_address("sms", to)


@pytest.mark.parametrize(
    "to",
    ["https://example.com/hook?x=1", "http://localhost:8080/", "http://10.0.0.1/x",
     "https://[2001:db8::1]:8443/hook", "http://my_service/hook"],
)  # fmt: skip
def test_a_webhook_is_an_http_url(to: str) -> None:
    """Whether the host may be called is decided where the call is made."""
    assert parse_address("webhook", to) == to


@pytest.mark.parametrize(
    "to",
    ["ftp://example.com", "example.com/hook", "//example.com", "javascript:alert(1)", "https://",
     "https://user:pass@example.com/", "https://user@example.com/", "https://example.com\\@evil",
     "https://exa mple.com", "https://example.com/\r\nHost: evil", "https://bücher.example/",
     "https://example.com:port/", "https://example.com:99999/", "https://example.com:0/",
     "https://[::1", "https://[127.0.0.1]/", "https://[fe80::1%eth0]/", "https://?x",
     "https://example.com/" + "a" * 2048, "file:///etc/passwd", ""],
)  # fmt: skip
def test_what_is_no_plain_http_url_is_refused(to: str) -> None:
    """No other scheme, no credentials, no host that two readers read in two ways."""
    with pytest.raises(ValueError, match=r"^(is|must|holds) "):
        parse_address("webhook", to)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/hook", "example.com:443"),
        ("HTTPS://EXAMPLE.com.:443/x?y=1", "example.com:443"),
        ("http://example.com", "example.com:80"),
        ("http://example.com:8080/", "example.com:8080"),
        ("https://[2001:DB8::1]:8443/", "2001:db8::1:8443"),
        ("ada@example.com", ""),
        ("https://[::1", ""),
        ("https://example.com:port/", ""),
        ("", ""),
    ],
)
def test_a_url_names_one_host_however_it_is_written(url: str, host: str) -> None:
    """What counts as one host must not depend on capitals, final dots or a port that is usual."""
    assert recipient_host(url) == host


@pytest.mark.parametrize("channel", ["push", "chat"])
def test_a_token_is_one_line_without_blanks_around_it(channel: str) -> None:
    """What a token looks like is the provider's business."""
    for to in ("fcm:abc-123", "x" * 2048, "\u00e9" * 1024):
        assert parse_address(channel, to) == to
    for to in ("", " ", " abc", "a\nb", "a\ud800", "x" * 2049, "\u00e9" * 1025):
        with pytest.raises(ValueError, match=r"^(is|holds) "):
            parse_address(channel, to)


@given(st.text(max_size=300) | st.from_regex(r"[a-z.@<>, \r\n]+", fullmatch=True))
def test_no_accepted_email_can_hold_a_second_one(to: str) -> None:
    """Whatever passes has one @, is ASCII and holds nothing that mail libraries split at."""
    try:
        found = parse_address("email", to)
    except ValueError:
        return

    assert found.isascii()
    assert found.isprintable()
    assert found.count("@") == 1
    assert not set(found) & set(' <>,;:"()[]\\')
    assert len(found) <= 254


@given(
    st.sampled_from(["email", "sms", "webhook", "push", "chat", "else"]),
    st.text(st.characters(), max_size=80),
)
def test_an_address_is_taken_or_a_value_error(channel: str, to: str) -> None:
    """Nothing else escapes, and no fault repeats the address: faults are logged."""
    try:
        found = parse_address(channel, to)
    except ValueError as error:
        assert len(to) < 8 or to not in str(error)
    else:
        found.encode()
        assert "\r" not in found
        assert "\n" not in found
