"""What the look-alikes take and say is valid by the providers' own OpenAPI documents.

The documents are not part of the project; without them these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from clarion.testing import Fault, SeenRequest, SendGridLookalike, TwilioLookalike, sendgrid, twilio

SPECS = Path(__file__).resolve().parents[3] / "shared" / "specs"
ACCOUNT = "AC" + "0" * 32
OPERATION = "/2010-04-01/Accounts/{AccountSid}/Messages.json"


def document(name: str) -> dict[str, Any]:
    path = SPECS / name
    if not path.exists():
        pytest.skip(f"the provider's published document {name} is not here")
    found: dict[str, Any] = nullable(json.loads(path.read_text()))
    return found


def nullable(node: Any) -> Any:
    """Turn OpenAPI 3.0's `nullable` into JSON Schema's null type."""
    if isinstance(node, list):
        return [nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {name: nullable(value) for name, value in node.items()}
    if node.get("nullable") is True and "type" in node:
        node["type"] = [node["type"], "null"]
    return node


def validator(name: str, *path: str) -> Draft202012Validator:
    pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    return Draft202012Validator({**document(name), "$ref": f"#/{pointer}"})


@pytest.fixture(scope="module")
def mail_schema() -> Draft202012Validator:
    return validator(
        "sendgrid_v3_mail_send.json",
        "components", "requestBodies", "PostMailSend", "content", "application/json", "schema",
    )  # fmt: skip


@pytest.fixture(scope="module")
def mail_error_schema() -> Draft202012Validator:
    return validator("sendgrid_v3_mail_send.json", "components", "schemas", "ErrorResponse")


@pytest.fixture(scope="module")
def message_form_schema() -> Draft202012Validator:
    return validator(
        "twilio_api_v2010_create_message.json",
        "paths", OPERATION, "post", "requestBody", "content",
        "application/x-www-form-urlencoded", "schema",
    )  # fmt: skip


@pytest.fixture(scope="module")
def message_schema() -> Draft202012Validator:
    return validator(
        "twilio_api_v2010_create_message.json",
        "components", "schemas", "api.v2010.account.message",
    )  # fmt: skip


junk = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.text(max_size=3), st.just([]))
person = st.fixed_dictionaries(
    {"email": st.sampled_from(["a@example.com", "b@example.com", "nobody", 5])},
    optional={"name": st.one_of(st.text(max_size=5), junk)},
)
people = st.one_of(st.lists(person, max_size=3), junk)
personalization = st.fixed_dictionaries(
    {"to": people},
    optional={
        "cc": people,
        "bcc": people,
        "subject": st.one_of(st.text(max_size=5), junk),
        "headers": st.one_of(st.dictionaries(st.just("X-A"), st.text(max_size=3)), junk),
        "substitutions": st.one_of(st.dictionaries(st.text(max_size=3), junk), junk),
        "custom_args": st.one_of(st.dictionaries(st.text(max_size=3), junk), junk),
        "dynamic_template_data": st.one_of(st.dictionaries(st.text(max_size=3), junk), junk),
        "send_at": st.one_of(st.integers(0, 10), junk),
    },
)
part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text/plain", "text/html", ""]), "value": st.one_of(st.text(), junk)}
)
mail = st.fixed_dictionaries(
    {
        "personalizations": st.lists(personalization, max_size=2),
        "from": st.one_of(person, junk),
        "content": st.one_of(st.lists(part, max_size=2), junk),
    },
    optional={
        "subject": st.one_of(st.text(max_size=5), junk),
        "reply_to": st.one_of(person, junk),
        "reply_to_list": people,
        "template_id": junk,
        "categories": st.one_of(st.lists(st.sampled_from(["a", "b", "x" * 256])), junk),
        "custom_args": st.one_of(st.dictionaries(st.text(max_size=3), junk), junk),
        "asm": st.fixed_dictionaries({}, optional={"group_id": junk, "groups_to_display": junk}),
        "ip_pool_name": junk,
        "batch_id": junk,
        "mail_settings": st.dictionaries(
            st.sampled_from(["sandbox_mode", "footer"]), st.dictionaries(st.just("enable"), junk)
        ),
        "tracking_settings": st.dictionaries(
            st.sampled_from(["click_tracking", "ganalytics"]),
            st.dictionaries(st.sampled_from(["enable", "utm_term"]), junk),
        ),
        "attachments": st.lists(
            st.dictionaries(st.sampled_from(["content", "filename", "disposition"]), junk),
            max_size=1,
        ),
        "headers": junk,
    },
)


@settings(deadline=None, max_examples=300)
@given(mail=mail)
def test_mail_that_the_lookalike_takes_is_valid_by_the_schema(
    mail_schema: Draft202012Validator, mail: dict[str, Any]
) -> None:
    """The rules in code are at least as strict as the published schema."""
    flaws = list(sendgrid.flaws_of(mail, 0.0))

    errors = [error.message for error in mail_schema.iter_errors(mail)]

    assert flaws or not errors


def test_the_members_known_are_those_of_the_schema(mail_schema: Draft202012Validator) -> None:
    """No published member is refused as unknown."""
    path = ("components", "requestBodies", "PostMailSend", "content", "application/json", "schema")
    published: Any = mail_schema.schema
    for step in path:
        published = published[step]
    inner = published["properties"]["personalizations"]["items"]["properties"]
    everything = {
        **dict.fromkeys(published["properties"], object()),
        "personalizations": [dict.fromkeys(inner, object())],
    }

    messages = [flaw.message for flaw in sendgrid.flaws_of(everything, 0.0)]

    assert messages
    assert not [message for message in messages if "not allowed" in message]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 429, 500, 503])
def test_sendgrids_errors_are_valid_by_the_schema(
    mail_error_schema: Draft202012Validator, status: int
) -> None:
    """Every error answer has the published shape, but for `help`: an object there, null in life."""
    reply = SendGridLookalike().own_error(Fault.error(status))

    document = json.loads(reply.body)
    assert [error.pop("help") for error in document["errors"]] == [None]
    mail_error_schema.validate(document)

    assert json.loads(reply.body)["errors"]


form = st.fixed_dictionaries(
    {},
    optional={
        "To": st.sampled_from(["+15551234567", "whatsapp:+15551234567", "5", ""]),
        "From": st.sampled_from(["+15005550006", "Clarion", "12345", ""]),
        "Body": st.sampled_from(["hello", "👍" * 71, "", "x" * 1601]),
        "MessagingServiceSid": st.sampled_from(["MG" + "a" * 32, "MG1"]),
        "ContentSid": st.sampled_from(["HX" + "a" * 32, "HX1"]),
        "ApplicationSid": st.sampled_from(["AP" + "a" * 32, "AP1"]),
        "ContentRetention": st.sampled_from(["retain", "no"]),
        "AddressRetention": st.sampled_from(["obfuscate", "no"]),
        "TrafficType": st.sampled_from(["free", "no"]),
        "ScheduleType": st.sampled_from(["fixed", "no"]),
        "RiskCheck": st.sampled_from(["enable", "no"]),
    },
)


@settings(deadline=None, max_examples=300)
@given(form=form)
def test_messages_that_the_lookalike_takes_and_makes_are_valid_by_the_schema(
    message_form_schema: Draft202012Validator,
    message_schema: Draft202012Validator,
    form: dict[str, str],
) -> None:
    """The rules in code are at least as strict as the published schema, and so is the answer."""
    lookalike = TwilioLookalike(ACCOUNT)
    seen = SeenRequest(
        0.0,
        "POST",
        OPERATION.format(AccountSid=ACCOUNT),
        {
            "Authorization": lookalike.authorization,
            "Content-Type": "application/x-www-form-urlencoded",
        },
        is_send=True,
    )
    body = urlencode(form)

    reply = lookalike.answer(seen, body.encode())

    assert reply.status in (201, 400)
    if reply.status == 201:
        message_form_schema.validate(form)
        message_schema.validate(json.loads(reply.body))


def test_the_parameters_known_are_those_of_the_schema(
    message_form_schema: Draft202012Validator,
) -> None:
    """No published parameter is refused as unknown."""
    published: Any = message_form_schema.schema["paths"][OPERATION]["post"]["requestBody"]
    schema = published["content"]["application/x-www-form-urlencoded"]["schema"]
    everything = {name: ["x"] for name in schema["properties"]}

    messages = [message for _, message in twilio.flaws_of(everything)]

    assert messages
    assert not [message for message in messages if "not known" in message]
