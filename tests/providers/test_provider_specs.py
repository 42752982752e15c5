"""What the adapters send is valid by the providers' own OpenAPI documents.

The documents are not part of the project; without them these tests are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Outgoing, Wire
from clarion.testing import SendGridLookalike, TwilioLookalike

Make = Callable[..., Any]
SPECS = Path(__file__).resolve().parents[3] / "shared" / "specs"
OPERATION = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
MAIL = Outgoing("n1", "email", Content("ada@example.com", "Hi", "hello"), 1, "c1")
SMS = Outgoing("n1", "sms", Content("+15551234567", text="hello"), 1, "c1")


def schema(name: str, *path: str) -> tuple[Draft202012Validator, dict[str, Any]]:
    """Return a validator of one part of a published document, and that part."""
    file = SPECS / name
    if not file.exists():
        pytest.skip(f"the provider's published document {name} is not here")
    document = json.loads(file.read_text())
    part = document
    for step in path:
        part = part[step]
    pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in path)
    return Draft202012Validator({**document, "$ref": f"#/{pointer}"}), part


@pytest.mark.parametrize(
    "content",
    [
        Content("ada@example.com", "Hi", "hello"),
        Content("ada@example.com", None, None, "<p>é</p>"),
        Content("ada@example.com", "Hi", "a", "<p>b</p>", {"x": 1}, {"X-A": "b"}),
    ],
)
async def test_a_mail_is_valid_by_sendgrids_schema(
    sendgrid: SendGridLookalike, make: Make, content: Content
) -> None:
    """Every member known and of its type."""
    validator, part = schema(
        "sendgrid_v3_mail_send.json",
        "components", "requestBodies", "PostMailSend", "content", "application/json", "schema",
    )  # fmt: skip
    adapter = await make(sendgrid.settings(from_name="Clarion"))

    answer = await adapter.send(replace(MAIL, content=content), Wire())

    payload = sendgrid.requests[-1].payload
    assert answer.outcome is Outcome.ACCEPTED
    validator.validate(payload)
    assert set(payload) <= set(part["properties"])
    known = part["properties"]["personalizations"]["items"]["properties"]
    assert set(payload["personalizations"][0]) <= set(known)


@pytest.mark.parametrize(
    "sender", [{"from_number": "+15005550006"},
               {"from_number": "", "messaging_service_sid": "MG" + "a" * 32}],
)  # fmt: skip
async def test_a_message_is_valid_by_twilios_schema(
    twilio: TwilioLookalike, make: Make, sender: dict[str, str]
) -> None:
    """Every parameter known and of its type."""
    validator, part = schema(
        "twilio_api_v2010_create_message.json",
        "paths", OPERATION, "post", "requestBody", "content",
        "application/x-www-form-urlencoded", "schema",
    )  # fmt: skip
    adapter = await make(twilio.settings(**sender))

    answer = await adapter.send(SMS, Wire())

    form = {name: values[0] for name, values in twilio.requests[-1].payload.items()}
    assert answer.outcome is Outcome.ACCEPTED
    validator.validate(form)
    assert set(form) <= set(part["properties"])
