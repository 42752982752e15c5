"""From a request to a draft: every rule, and every fault at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clarion.domain.instant import rfc3339
from clarion.domain.notification import Delivery, Draft, Priority
from clarion.domain.submission import FIELDS, MAX_FAULTS, Rules, draft_from, fingerprint
from clarion.errors import InvalidNotification

NOW = 1_800_000_000.0
DAY_S = 86_400.0
RULES = Rules(channels=frozenset({"email", "sms", "webhook", "push", "chat"}))
MAIL = {"channel": "email", "to": "ada@example.com", "subject": "Hi", "text": "Hello"}


def draft(fields: Any = MAIL, rules: Rules = RULES, **kwargs: Any) -> Draft:
    return draft_from(fields, rules, now=NOW, **kwargs)


def faults(fields: Any, rules: Rules = RULES, **kwargs: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidNotification) as caught:
        draft(fields, rules, **kwargs)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def pointers(fields: Any, rules: Rules = RULES, **kwargs: Any) -> list[str]:
    return [pointer for pointer, _ in faults(fields, rules, **kwargs)]


# --- what passes -----------------------------------------------------------------------------


def test_a_full_request_becomes_a_draft() -> None:
    """Every field of the contract arrives where it belongs."""
    fields = {
        **MAIL,
        "html": "<p>Hello</p>",
        "data": {"a": [1]},
        "priority": "critical",
        "send_at": rfc3339(NOW + 60),
        "expires_at": rfc3339(NOW + 120),
        "delivery": "at_most_once",
        "tenant": "acme",
        "reference": "order-1",
        "metadata": {"b": "c"},
        "headers": {"X-A": "1"},
    }

    found = draft(fields, idempotency_key="key-1", correlation_id="trace-1")

    content = found.content
    assert set(fields) == set(FIELDS)
    assert (content.to, content.subject, content.text, content.html, content.data) == (
        "ada@example.com", "Hi", "Hello", "<p>Hello</p>", {"a": [1]},
    )  # fmt: skip
    assert content.headers == {"X-A": "1"}
    assert (found.channel, found.priority, found.delivery) == (
        "email", Priority.CRITICAL, Delivery.AT_MOST_ONCE,
    )  # fmt: skip
    assert (found.send_at, found.expires_at) == (NOW + 60, NOW + 120)
    assert (found.tenant, found.reference, found.metadata) == ("acme", "order-1", {"b": "c"})
    assert (found.idempotency_key, found.correlation_id) == ("key-1", "trace-1")


def test_what_is_left_out_has_its_default() -> None:
    """null is the same as left out."""
    plain = draft()
    assert draft(MAIL | dict.fromkeys(set(FIELDS) - set(MAIL))) == plain
    assert (plain.priority, plain.delivery, plain.metadata) == (Priority.NORMAL, None, {})
    assert (plain.send_at, plain.expires_at, plain.fingerprint) == (None, None, "")


def test_an_empty_tenant_or_reference_is_none() -> None:
    """Otherwise there would be two scopes that look the same."""
    found = draft({**MAIL, "tenant": "", "reference": ""})

    assert (found.tenant, found.reference) == (None, None)


def test_in_process_values_are_taken_too() -> None:
    """A Python caller has enumerations and aware datetimes at hand."""
    at = datetime.fromtimestamp(NOW + 60, UTC)

    found = draft(
        {**MAIL, "priority": Priority.HIGH, "delivery": Delivery.AT_MOST_ONCE, "send_at": at}
    )

    assert (found.priority, found.delivery) == (Priority.HIGH, Delivery.AT_MOST_ONCE)
    assert found.send_at == NOW + 60


def test_an_address_is_stored_as_it_is_sent() -> None:
    """The domain is in its wire form, so that searching finds what was sent."""
    assert draft({**MAIL, "to": "ada@bücher.example"}).content.to == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "email", "to": "ada@example.com", "html": "<p>"},
        {"channel": "sms", "to": "+14155550123", "text": "Hi"},
        {"channel": "webhook", "to": "https://example.com/x", "text": "Hi"},
        {"channel": "webhook", "to": "https://example.com/x", "data": {}},
        {"channel": "push", "to": "token", "text": "Hi"},
        {"channel": "chat", "to": "#room", "text": "Hi"},
    ],
)
def test_each_channel_needs_one_thing_to_send(fields: dict[str, Any]) -> None:
    """And it fails without that thing."""
    draft(fields)

    bare = {name: fields[name] for name in ("channel", "to")}
    ((pointer, detail),) = faults(bare)
    assert pointer == "/text"
    assert "nothing to send" in detail


# --- what does not ---------------------------------------------------------------------------


def test_all_faults_come_at_once() -> None:
    """A caller corrects once, not nine times."""
    bad = {
        "channel": "fax", "to": 5, "subject": "a\nb", "text": "\x00", "priority": "urgent",
        "send_at": "tomorrow", "delivery": True, "tenant": "x" * 201, "metadata": [], "sujbect": 1,
        "headers": {"Bcc": "x"}, "data": {"a": float("nan")}, "html": 7, "reference": {},
        "expires_at": "2030-01-01T00:00:00",
    }  # fmt: skip

    found = pointers(bad)

    assert sorted(found) == [
        "/channel", "/data/a", "/delivery", "/expires_at", "/headers/Bcc", "/html", "/metadata",
        "/priority", "/reference", "/send_at", "/subject", "/sujbect", "/tenant", "/text", "/to",
    ]  # fmt: skip


def test_the_contracts_example_has_exactly_two_faults() -> None:
    """A wrong address and an unknown field, each with its place."""
    assert pointers({**MAIL, "to": "nobody", "surprise": 1}) == ["/surprise", "/to"]


def test_an_empty_request_names_what_is_missing() -> None:
    """Nothing else is guessed about it."""
    assert faults({}) == [("/channel", "channel is missing"), ("/to", "to is missing")]


@pytest.mark.parametrize("fields", [None, [], "x", 5, True, [["channel", "email"]]])
def test_what_is_no_object_is_one_fault(fields: object) -> None:
    """The pointer "" is the whole body."""
    assert pointers(fields) == [""]


def test_an_unknown_field_is_answered_with_the_one_that_is_meant() -> None:
    """Typing errors are the usual reason."""
    ((_, detail),) = faults({**MAIL, "sujbect": "Hi"})
    assert "did you mean subject?" in detail

    ((_, detail),) = faults({**MAIL, "idempotency_key": "k"})
    assert "Idempotency-Key" in detail


def test_an_unconfigured_channel_is_answered_with_those_that_are() -> None:
    """The caller may not have written the settings."""
    ((pointer, detail),) = faults({**MAIL, "channel": "emial"}, Rules(frozenset({"email", "sms"})))

    assert pointer == "/channel"
    assert "did you mean email?" in detail
    assert "email, sms" in detail
    assert pointers(MAIL, Rules(frozenset({"sms"}))) == ["/channel"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("to", None), ("to", []), ("to", ["ada@example.com"]), ("to", True),
        ("subject", 5), ("subject", "a\r\nBcc: x"), ("subject", "a\x00"), ("subject", "a\u2028b"),
        ("subject", "x" * 999), ("subject", "\ud800"),
        ("text", 5), ("text", ["x"]), ("text", "\x00"), ("text", "\x1b"), ("text", "\ud800"),
        ("html", {}), ("html", "\x00"),
        ("data", []), ("data", "x"), ("data", {"a": float("inf")}), ("data", {"a": "\x00"}),
        ("priority", 1), ("priority", True), ("priority", "HIGH"), ("priority", []),
        ("delivery", "once"), ("delivery", 1), ("delivery", {}),
        ("send_at", NOW), ("send_at", True), ("send_at", "2030-01-01"), ("send_at", {}),
        ("expires_at", "2030-01-01T00:00:00"), ("expires_at", 5),
        ("tenant", 5), ("tenant", "x" * 201), ("tenant", "a\nb"), ("tenant", False),
        ("reference", 5), ("reference", "x" * 201), ("reference", "\ud800"),
        ("metadata", []), ("metadata", "x"), ("metadata", 5), ("metadata", {"a": "x" * 17_000}),
        ("headers", []), ("headers", {"X": 1}),
    ],
)  # fmt: skip
def test_one_wrong_field_is_one_fault(name: str, value: object) -> None:
    """Its pointer starts with the field and its sentence does not speak Python."""
    ((pointer, detail),) = faults({**MAIL, name: value})

    assert pointer.split("/")[1] == name
    assert "<class" not in detail
    assert detail


def test_lengths_are_inclusive() -> None:
    """200 characters of tenant and reference are the contract."""
    found = draft({**MAIL, "tenant": "t" * 200, "reference": "r" * 200, "subject": "s" * 998})

    assert (found.tenant, found.reference) == ("t" * 200, "r" * 200)


def test_the_body_is_bounded() -> None:
    """text and html count together, in bytes."""
    rules = Rules(channels=frozenset({"email"}), max_body_bytes=10)

    draft({**MAIL, "text": "x" * 10}, rules)
    assert pointers({**MAIL, "text": "x" * 11}, rules) == ["/text"]
    assert pointers({**MAIL, "text": "ü" * 6}, rules) == ["/text"]
    assert pointers({**MAIL, "text": "x" * 6, "html": "x" * 5}, rules) == ["/html"]
    assert pointers({**MAIL, "data": {"a": "x" * 11}}, rules) == ["/data"]


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
def test_blank_text_is_nothing_to_send(blank: str) -> None:
    """Providers refuse it, so it is refused here."""
    assert pointers({"channel": "sms", "to": "+14155550123", "text": blank}) == ["/text"]
    draft({**MAIL, "text": blank, "html": "<p>Hi"})


@pytest.mark.parametrize(
    ("send_in_s", "expires_in_s", "places"),
    [
        (None, 1, []),
        (None, 0, ["/expires_at"]),
        (None, -1, ["/expires_at"]),
        (60, 61, []),
        (60, 60, ["/expires_at"]),
        (60, 59, ["/expires_at"]),
        (-60, 1, []),
        (-60, -30, ["/expires_at"]),
        (366 * DAY_S, None, []),
        (366 * DAY_S + 1, None, ["/send_at"]),
        (None, 366 * DAY_S, []),
        (None, 366 * DAY_S + 1, ["/expires_at"]),
        (DAY_S, 367 * DAY_S, []),
        (DAY_S, 367 * DAY_S + 1, ["/expires_at"]),
    ],
)
def test_times_lie_in_order_and_not_too_far_ahead(
    send_in_s: float | None, expires_in_s: float | None, places: list[str]
) -> None:
    """`expires_at` after now and after `send_at`; a `send_at` of the past means now."""
    fields: dict[str, Any] = dict(MAIL)
    if send_in_s is not None:
        fields["send_at"] = rfc3339(NOW + send_in_s)
    if expires_in_s is not None:
        fields["expires_at"] = rfc3339(NOW + expires_in_s)

    if places:
        assert pointers(fields) == places
    else:
        draft(fields)


@pytest.mark.parametrize("key", ["k", "ü", "x" * 255])
def test_an_idempotency_key_is_any_line(key: str) -> None:
    """255 characters at most, and the body's fingerprint goes with it."""
    found = draft(idempotency_key=key)

    assert (found.idempotency_key, found.fingerprint) == (key, fingerprint(MAIL))


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\nb", "\ud800", 5, True, []])
def test_other_keys_are_refused(key: Any) -> None:
    """A key that cannot be stored cannot keep its promise."""
    assert pointers(MAIL, idempotency_key=key) == ["/idempotency_key"]


def test_a_correlation_id_that_cannot_be_stored_is_refused() -> None:
    """It travels with the row."""
    assert pointers(MAIL, correlation_id="\ud800") == ["/correlation_id"]


def test_the_number_of_faults_is_bounded() -> None:
    """A bad body of a megabyte gets an answer of some kilobytes."""
    assert len(faults({f"field{n}": n for n in range(100_000)})) == MAX_FAULTS
    assert len(faults({**MAIL, "data": {"a": [float("nan")] * 10_000}})) == MAX_FAULTS


def test_a_draft_shares_nothing_with_the_request() -> None:
    """What the caller changes after the accept is not what was accepted."""
    fields: dict[str, Any] = {**MAIL, "data": {"a": []}, "metadata": {"b": []}, "headers": {}}
    found = draft(fields)

    fields["data"]["a"].append(1)
    fields["metadata"]["b"].append(1)
    fields["headers"]["X-A"] = "1"

    assert found.content.data == {"a": []}
    assert found.metadata == {"b": []}
    assert found.content.headers == {}


# --- fingerprints ----------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(fields: dict[str, Any], random: Any) -> None:
    """A client may write its JSON in any order when it repeats a request."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            random.shuffle(names)
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    assert fingerprint(shuffled(fields)) == fingerprint(fields)


@pytest.mark.parametrize(
    "other",
    [{"text": "Hello "}, {"metadata": {}}, {"tenant": "1"}, {"data": {"a": 1}},
     {"data": {"a": "1"}}, {"data": {"a": True}}, {"data": {"a": [1, 2]}}, {"data": {"a": [2, 1]}}],
)  # fmt: skip
def test_another_body_has_another_fingerprint(other: dict[str, Any]) -> None:
    """1, "1" and true are three values, and the order of an array counts."""
    assert fingerprint({**MAIL, **other}) != fingerprint(MAIL)
    assert fingerprint({**MAIL, "data": {"a": 1}}) != fingerprint({**MAIL, "data": {"a": True}})


# --- properties ------------------------------------------------------------------------------

strange = json_values | st.binary() | st.dates() | st.just(10**5000) | st.tuples(st.integers())
near = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["email", "sms", "webhook", "chat", "fax", ""]) | strange,
        "to": st.sampled_from(
            ["ada@example.com", "+14155550123", "https://example.com", "a@b.c\r\nBcc: x"]
        )
        | strange,
        "priority": st.sampled_from(["high", "HIGH"]) | strange,
        "delivery": st.sampled_from(["at_most_once"]) | strange,
        "send_at": st.datetimes().map(str)
        | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
        | strange,
        "expires_at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | strange,
        "headers": st.dictionaries(st.text(st.characters()), strange, max_size=3) | strange,
        **dict.fromkeys(
            ("subject", "text", "html", "data", "tenant", "reference", "metadata"), strange
        ),
    },
)


@given(near | st.dictionaries(st.text() | st.integers(), strange, max_size=4) | strange, strange)
@example({"channel": "email", "to": "a@" + "ü" * 250, "text": "x"}, None)
@example({"to": "x", 5: 1, None: 2, ("a",): 3}, None)
def test_whatever_comes_in_is_a_draft_or_says_what_is_wrong(fields: Any, key: Any) -> None:
    """No other exception, and a draft can be stored as it is."""
    try:
        found = draft(fields, idempotency_key=key)
    except InvalidNotification as error:
        assert error.faults
        for fault in error.faults:
            json.dumps([fault.detail, fault.pointer], ensure_ascii=False).encode()
        return

    content = found.content
    stored = [
        content.to, content.subject, content.text, content.html, content.data, content.headers,
        found.tenant, found.reference, found.metadata, found.idempotency_key, found.fingerprint,
    ]  # fmt: skip
    json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()
    assert found.channel in RULES.channels
    assert not set(content.subject or "") & set("\r\n\x00")
    assert not set(content.to) & set("\r\n\x00 <>,")
