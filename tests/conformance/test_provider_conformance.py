"""The kinds that are built in owe what every adapter owes."""

from __future__ import annotations

from clarion.providers.sendgrid import SendGrid
from clarion.providers.smtp import Smtp
from clarion.providers.twilio import Twilio
from clarion.providers.webhook import Webhook
from clarion.testing import (
    Fault,
    ProviderConformance,
    SendGridLookalike,
    SmtpLookalike,
    TwilioLookalike,
    WebhookLookalike,
)


class TestSendGrid(ProviderConformance):
    adapter_class = SendGrid
    refusal = Fault.error(400, field="personalizations.0.to.0.email")
    secrets = (SendGridLookalike().api_key,)

    def server(self):
        return SendGridLookalike()


class TestTwilio(ProviderConformance):
    adapter_class = Twilio
    channel, to = "sms", "+15005550007"
    refusal = Fault.error(400, code=21610)
    secrets = (TwilioLookalike().auth_token,)

    def server(self):
        return TwilioLookalike()


class TestSmtp(ProviderConformance):
    adapter_class = Smtp
    refusal = Fault.error(404)
    secrets = ("top-secret",)

    def server(self):
        return SmtpLookalike("clarion", "top-secret")


class TestWebhook(ProviderConformance):
    adapter_class = Webhook
    channel = "webhook"
    refusal = Fault.error(410)
    has_account = False
    secrets = (WebhookLookalike().secret,)

    def server(self):
        return WebhookLookalike()

    def recipient(self, server):
        return server.hook
