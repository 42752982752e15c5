"""Helpers for tests of Clarion and of what is built on it: clocks, fakes, look-alike providers.

`ManualClock` and `ScriptedProvider` serve tests inside one process; `SendGridLookalike`,
`TwilioLookalike`, `SmtpLookalike` and `WebhookLookalike` are real servers on loopback that answer
by the published contracts and misbehave on demand (`Fault`); `ClarionProcess` runs the whole
service as a process of its own, to be killed. `ProviderConformance` holds the tests that an adapter
of your own has to pass. `python -m clarion.testing sendgrid` starts a look-alike for other
processes.
"""

from __future__ import annotations

from clarion.actors.runtime import Crash
from clarion.testing.blocking import BlockingProvider
from clarion.testing.certificate import CertificateAuthority
from clarion.testing.clarion_process import ClarionProcess, DyingProcess, free_port
from clarion.testing.client import ClarionClient
from clarion.testing.clock import ManualClock
from clarion.testing.conformance import ProviderConformance
from clarion.testing.fault import FAULTS, Fault, FaultKind, fault_named
from clarion.testing.ledger import Ledger, SeenRequest, read_ledger
from clarion.testing.lookalike import Lookalike
from clarion.testing.reply import Reply
from clarion.testing.scripted import ScriptedProvider, Sent, Step
from clarion.testing.sendgrid import SendGridLookalike
from clarion.testing.settings_file import settings_toml, toml_of
from clarion.testing.smtp import SmtpLookalike, at_stage
from clarion.testing.steerable import Steerable
from clarion.testing.twilio import TwilioLookalike
from clarion.testing.webhook import WebhookLookalike

__all__ = [
    "FAULTS",
    "BlockingProvider",
    "CertificateAuthority",
    "ClarionClient",
    "ClarionProcess",
    "Crash",
    "DyingProcess",
    "Fault",
    "FaultKind",
    "Ledger",
    "Lookalike",
    "ManualClock",
    "ProviderConformance",
    "Reply",
    "ScriptedProvider",
    "SeenRequest",
    "SendGridLookalike",
    "Sent",
    "SmtpLookalike",
    "Steerable",
    "Step",
    "TwilioLookalike",
    "WebhookLookalike",
    "at_stage",
    "fault_named",
    "free_port",
    "read_ledger",
    "settings_toml",
    "toml_of",
]
