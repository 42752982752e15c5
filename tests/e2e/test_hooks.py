"""Inbound hooks end to end: what other systems post becomes e-mail in the outbox, once."""

from __future__ import annotations

import email
import hashlib
import hmac
import json
import re
import time
import tomllib
from email import policy
from pathlib import Path
from typing import Any

import aiohttp

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "hooks.md"
SECRET = "whsec_" + "MTIz" * 8


def payload(name: str) -> bytes:
    return (TESTS / "hook" / "payload" / f"{name}.json").read_bytes()


def configure(house: Any) -> dict[str, str]:
    """Write settings with every example of docs/hooks.md, and return the environment for them."""
    page = PAGE.read_text()
    text = "\n".join(re.findall(r"(?s)<!-- example: \w+ -->\n```toml\n(.*?)```", page))
    house.configure(
        {"outbox": {"kind": "outbox"}}, {"email": ["outbox"]}, hooks=tomllib.loads(text)["hooks"]
    )
    return dict.fromkeys(re.findall(r"env:(\w+)", text), SECRET)


async def call(
    clarion: Any, name: str, body: bytes, *, status: int = 202, **headers: str
) -> dict[str, Any]:
    """Call a hook as its sender would; the answer has to have the status."""
    given = {"Content-Type": "application/json"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{clarion.url}/hooks/{name}", data=body, headers=given) as answer,
    ):
        text = await answer.text()
        assert answer.status == status, text
        return json.loads(text) if text else {}


def hex_digest(signed: bytes) -> str:
    return hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


def as_github(event: str, body: bytes) -> dict[str, str]:
    return {"X_GitHub_Event": event, "X_Hub_Signature_256": f"sha256={hex_digest(body)}"}


def as_stripe(body: bytes, now: float) -> dict[str, str]:
    digest = hex_digest(f"{now:.0f}.".encode() + body)
    return {"Stripe_Signature": f"t={now:.0f},v1={digest}"}


def outbox(house: Any) -> dict[str, Any]:
    """Return the e-mails that were written, by subject."""
    files = (house.directory / "outbox").glob("*.eml")
    mails = [email.message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    found = {mail["Subject"]: mail for mail in mails}
    assert len(found) == len(mails)
    return found


async def test_what_four_systems_post_is_delivered(house):
    """By the settings of the documentation, with the payloads and credentials of each system."""
    clarion = await house.start(env=configure(house))
    token = {"Authorization": f"Bearer {SECRET}"}
    issue, push, ping = (payload(f"github_{name}") for name in ("issues", "push", "ping"))
    stripe = payload("stripe")

    await call(clarion, "alertmanager", payload("alertmanager"), **token)
    await call(clarion, "grafana", payload("grafana"), **token)
    await call(clarion, "github", issue, **as_github("issues", issue))
    await call(clarion, "github", ping, status=204, **as_github("ping", ping))
    await call(clarion, "pushes", push, **as_github("push", push))
    await call(clarion, "stripe", stripe, **as_stripe(stripe, time.time()))
    stats = await clarion.client.wait_drained()

    assert house.ended(stats) == {"sent": 6}
    found = outbox(house)
    assert set(found) == {
        "[FIRING] InstanceDown db-1.example.com:9100",
        "[RESOLVED] InstanceDown web-2.example.com:9100",
        "[FIRING:1] High CPU usage Production (blue eu-1)",
        "octocat/Hello-World#1347: Found a bug in <b>parsing</b>",
        "Hello-World: Accept an empty input",
        "Your payment for invoice B0BE6FA9-0001 failed",
    }
    to_customer = found["Your payment for invoice B0BE6FA9-0001 failed"]
    assert to_customer["To"] == "ada@example.com"
    assert "19.99 EUR" in to_customer.get_content()


async def test_a_repeat_is_delivered_once_even_over_kill_9(house):
    """Senders repeat what they saw no answer to; the key is on disk with the notification."""
    clarion = await house.start(env=configure(house))
    body, token = payload("alertmanager"), {"Authorization": f"Bearer {SECRET}"}
    first = await call(clarion, "alertmanager", body, **token)

    await clarion.kill()
    await clarion.start()
    second = await call(clarion, "alertmanager", body, **token)
    stats = await clarion.client.wait_drained()

    assert [each["id"] for each in second["results"]] == [each["id"] for each in first["results"]]
    assert stats["accepted"] == 2
    assert house.ended(stats) == {"sent": 2}


async def test_who_cannot_show_it_delivers_nothing(house):
    """A tampered body, an old signature, another's token: 403, and the log says why."""
    clarion = await house.start(env=configure(house))
    body = payload("stripe")

    async def refused(name: str, sent: bytes, **headers: str) -> None:
        await call(clarion, name, sent, status=403, **headers)

    tampered = body.replace(b"ada@example.com", b"eve@example.com")
    await refused("stripe", tampered, **as_stripe(body, time.time()))
    await refused("stripe", body, **as_stripe(body, time.time() - 400))
    await refused("stripe", body, Authorization=f"Bearer {SECRET}")
    await refused("github", body, **as_github("issues", body + b" "))
    await refused("alertmanager", payload("alertmanager"), Authorization="Bearer wrong")
    await refused("nope", body, Authorization=f"Bearer {SECRET}")

    assert (await clarion.client.stats())["accepted"] == 0
    assert "signed 400 s ago" in clarion.log or "signed 401 s ago" in clarion.log
    assert clarion.log.count("hook_call_refused") == 5
    assert SECRET not in clarion.log
