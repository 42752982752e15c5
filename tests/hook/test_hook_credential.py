"""Who may call a hook: the published test vectors, and everything that is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from multidict import CIMultiDict

from clarion.hook.credential import (
    GithubSignature,
    StandardSignature,
    StripeSignature,
    Token,
    credential_of,
)
from clarion.providers.webhook_signature import secret_keys

NOW = 1_614_265_330.0
TOKEN = "a-token-of-some-length"
STRIPE_SECRET = "whsec_test_secret_of_an_endpoint"


def refusal(credential, headers, body=b"{}", now=NOW):
    return credential.refusal(CIMultiDict(headers), body, now)


def basic(name, password):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic("any", TOKEN), basic("", TOKEN)]
)
def test_a_token_travels_as_bearer_or_as_a_password(header):
    """Alertmanager and Grafana can send both."""
    assert refusal(Token(TOKEN), {"authorization": header}) is None


@pytest.mark.parametrize(
    "header",
    [
        "", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
        f"Token {TOKEN}",
        basic(TOKEN, ""), "Basic %%%", "Basic " + base64.b64encode(b"\xff").decode(),
        "Bearer caf\u00e9", "Bearer \udcff",
    ],
)  # fmt: skip
def test_another_token_is_refused(header):
    """Whatever stands there."""
    assert refusal(Token(TOKEN), {"Authorization": header})


def test_githubs_published_example_is_valid():
    """docs.github.com: Testing the webhook payload validation."""
    credential = GithubSignature("It's a Secret to Everybody")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    good = {"x-hub-signature-256": f"sha256={digest}"}

    assert refusal(credential, good, b"Hello, World!") is None
    assert refusal(credential, good, b"Hello, World?") == "another signature"
    assert refusal(credential, {}, b"Hello, World!") == "no signature"
    assert refusal(credential, {"X-Hub-Signature-256": digest}, b"Hello, World!")
    assert refusal(credential, {"X-Hub-Signature": f"sha256={digest}"}, b"Hello, World!")
    assert refusal(GithubSignature("another secret of it"), good, b"Hello, World!")


def test_the_example_of_standard_webhooks_is_valid():
    """The vector of the specification's reference libraries."""
    keys = secret_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    credential = StandardSignature(keys)
    body = b'{"test": 2432232314}'
    good = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1a,bm9uZQ== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    assert refusal(credential, good, body) is None
    assert refusal(credential, good, body, now=NOW + 299) is None
    assert refusal(credential, good, body, now=NOW - 299) is None
    assert "signed 301 s ago" in refusal(credential, good, body, now=NOW + 301)
    assert "signed -301 s ago" in refusal(credential, good, body, now=NOW - 301)
    assert refusal(credential, good, body + b" ") == "another signature"
    assert refusal(credential, {**good, "Webhook-Id": "msg_other"}, body) == "another signature"
    for time in ("1614265331", "", "x", "1e9", "-1", "9" * 30, "١٦١٤٢٦٥٣٣٠", " 1614265330"):
        assert refusal(credential, {**good, "Webhook-Timestamp": time}, body), time
    for name in good:
        assert refusal(credential, {**good, name: ""}, body)
        assert refusal(credential, {**good, name: "\udcff"}, body)


def test_of_two_secrets_either_signs():
    """While one replaces the other."""
    old, new = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
    both = StandardSignature(secret_keys(f"{old} {new}"))
    for secret in (old, new):
        (key,) = secret_keys(secret)
        digest = base64.b64encode(hmac.digest(key, b"id.1614265330.{}", "sha256")).decode()
        headers = {
            "webhook-id": "id", "webhook-timestamp": "1614265330",
            "webhook-signature": f"v1,{digest}",
        }  # fmt: skip
        assert refusal(both, headers) is None


def stripe_header(body, time=NOW, secret=STRIPE_SECRET, prefix=""):
    digest = hmac.new(secret.encode(), f"{time:.0f}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={time:.0f},{prefix}v1={digest},v0=6ffbb59b2300aae63f272406"}


def test_stripes_signature_is_over_its_time_and_the_body():
    """docs.stripe.com: verify webhook signatures manually."""
    credential, body = StripeSignature(STRIPE_SECRET), b'{"id": "evt_1"}'
    good = stripe_header(body)

    assert refusal(credential, good, body) is None
    assert refusal(credential, stripe_header(body, prefix=f"v1={'0' * 64}, "), body) is None
    assert refusal(credential, good, b'{"id": "evt_2"}') == "another signature"
    assert "signed 301 s ago" in refusal(credential, good, body, now=NOW + 301)
    assert refusal(credential, stripe_header(body, secret="another secret"), body)
    later = good["Stripe-Signature"].replace("t=1614265330", "t=1614265400")
    assert refusal(credential, {"Stripe-Signature": later}, body) == "another signature"
    digest = good["Stripe-Signature"].partition("v1=")[2].partition(",")[0]
    for header in ("", "t=", "v1=x", f"v1={digest}", "t=1614265330", f"t=1614265330,v0={digest}",
                   "t=\udcff,v1=\udcff", ",,,=,="):  # fmt: skip
        assert refusal(credential, {"Stripe-Signature": header}, body), header


@pytest.mark.parametrize(
    ("token", "secret", "scheme"),
    [("short", "", "standard"), ("", "short", "github"), ("", "short", "stripe"),
     ("", "no-whsec-secret-at-all", "standard"), ("", "whsec_c2hvcnQ=", "standard")],
)  # fmt: skip
def test_what_can_be_guessed_is_no_credential(token, secret, scheme):
    """Nor what is no secret of its scheme; the text does not repeat it."""
    with pytest.raises(ValueError, match=r".") as raised:
        credential_of(token, secret, scheme)

    assert (token or secret.removeprefix("whsec_")) not in str(raised.value)


def test_a_credential_does_not_show_itself():
    """Not in a log, not in a traceback."""
    for credential in (Token(TOKEN), GithubSignature(TOKEN), StripeSignature(TOKEN)):
        assert TOKEN not in repr(credential)
