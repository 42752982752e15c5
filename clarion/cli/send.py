"""`clarion send`: one notification, and with `--wait` what became of it; or a file of them.

What a file holds and how it goes over the wire is in `notification_file` and `bulk`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

import typer

from clarion.cli.client import Server, ServerProblem, ServerUnreachable, is_passing
from clarion.cli.file_send import FileOptions, send_file
from clarion.cli.option import (
    CHANNELS,
    ZONED,
    ExitCode,
    Json,
    Url,
    guarded,
    output,
    server,
    words,
)
from clarion.cli.output import Output
from clarion.cli.status import show_outcome
from clarion.domain.notification import Delivery, Status
from clarion.policies.clock import Clock, SystemClock

REACHED: Final = frozenset({Status.SENT, Status.DELIVERED})
POLL_S: Final = 0.1
POLL_MAX_S: Final = 2.0


ToChannel = Annotated[
    str | None,
    typer.Option(
        metavar="CHANNEL", help="email, sms, webhook …, as configured.", autocompletion=CHANNELS
    ),
]
Recipient = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="One bare e-mail address, phone number (+15005550006) or URL."
    ),
]
Subject = Annotated[str | None, typer.Option(metavar="TEXT", help="For e-mail.")]
Text = Annotated[str | None, typer.Option(metavar="TEXT", help="The text; - reads standard input.")]
Html = Annotated[str | None, typer.Option(metavar="HTML", help="The HTML; - reads standard input.")]
Data = Annotated[
    str | None, typer.Option(metavar="JSON", help="A JSON object: the content of a webhook.")
]
Metadata = Annotated[
    str | None, typer.Option(metavar="JSON", help="A JSON object: notes of your own.")
]
Headers = Annotated[
    str | None, typer.Option(metavar="JSON", help="A JSON object: headers to send along.")
]
Urgency = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="critical, high, normal (if it is left out) or low.",
        autocompletion=words("critical", "high", "normal", "low"),
    ),
]
SendAt = Annotated[str | None, typer.Option(metavar="TIME", help=f"Not before. {ZONED}")]
ExpiresAt = Annotated[str | None, typer.Option(metavar="TIME", help=f"Not after. {ZONED}")]
Promise = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="at_least_once or at_most_once (if it is left out: defaults.delivery).",
        autocompletion=words(*Delivery),
    ),
]
Tenant = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose it is; tenants share fairly.")
]
Reference = Annotated[str | None, typer.Option(metavar="NAME", help="Your own name for it.")]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Sent twice under one key, it goes out once; with --from: another key, sent anew.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Send each line of a CSV file with a header, or of NDJSON; - is standard input. The"
        " other options are what lines do not say. Run again, it sends nothing twice.",
    ),
]
Losses = Annotated[
    Path | None,
    typer.Option("--rejected", metavar="FILE", help="With --from: write rejected lines here."),
]
Patience = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="With --from: how long to wait for a busy server.", min=0),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until its status is final.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long --wait waits.", min=0)]


@guarded
def send(
    context: typer.Context,
    channel: ToChannel = None,
    to: Recipient = None,
    subject: Subject = None,
    text: Text = None,
    html: Html = None,
    data: Data = None,
    metadata: Metadata = None,
    headers: Headers = None,
    priority: Urgency = None,
    send_at: SendAt = None,
    expires_at: ExpiresAt = None,
    delivery: Promise = None,
    tenant: Tenant = None,
    reference: Reference = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    source: Source = None,
    rejected: Losses = None,
    patience: Patience = 60.0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Send one notification, or with --from a file. With --wait: 0 when it was sent, 1 if not."""
    out, there = output(context, as_json), server(context, url)
    _require_numbers(timeout=timeout, patience=patience)
    _require_sense(context, source)
    body = {
        "channel": channel,
        "to": to,
        "subject": subject,
        "text": _text(text),
        "html": _text(html),
        "data": _object("--data", data),
        "metadata": _object("--metadata", metadata),
        "headers": _object("--headers", headers),
        "priority": priority,
        "send_at": send_at,
        "expires_at": expires_at,
        "delivery": delivery,
        "tenant": tenant,
        "reference": reference,
    }
    given = {name: value for name, value in body.items() if value is not None}
    if source is None:
        _send_one(out, there, given, idempotency_key, wait_s=timeout if wait else None)
    else:
        send_file(out, there, FileOptions(source, given, patience, idempotency_key or "", rejected))


def _require_numbers(**options: float) -> None:
    for name, value in options.items():
        if isnan(value):
            raise typer.BadParameter("write a number of seconds", param_hint=f"--{name}")


def _require_sense(context: typer.Context, source: str | None) -> None:
    """Refuse options that say nothing together, before anything is read or sent."""
    given = context.params
    if source is None:
        for name in ("channel", "to"):
            if given[name] is None:
                raise typer.BadParameter(
                    "say it, or send a file with --from", param_hint=f"--{name}"
                )
        if given["rejected"] is not None:
            raise typer.BadParameter("only with --from", param_hint="--rejected")
        return
    if given["wait"]:
        raise typer.BadParameter("not with --from: see `clarion status`", param_hint="--wait")
    if source == "-" and "-" in (given["text"], given["html"]):
        raise typer.BadParameter("standard input is read once", param_hint="--from")


def _send_one(
    out: Output,
    there: Server,
    body: Mapping[str, Any],
    idempotency_key: str | None,
    *,
    wait_s: float | None,
) -> None:
    headers = {} if idempotency_key is None else {"Idempotency-Key": _header(idempotency_key)}
    accepted: dict[str, Any] = there.post("notifications", body=body, headers=headers)
    if wait_s is None:
        show_outcome(out, accepted)
        return
    out.note(f"accepted as {accepted['id']}")
    try:
        with out.busy("waiting for its final status"):
            final = wait_until_final(there, accepted, timeout_s=wait_s, clock=SystemClock())
    except KeyboardInterrupt:
        out.note(f"it goes on by itself: clarion status {accepted['id']}")
        raise
    show_outcome(out, final)
    if final.get("status") not in REACHED:
        raise typer.Exit(ExitCode.NO)


def wait_until_final(
    there: Server,
    notification: dict[str, Any],
    *,
    timeout_s: float,
    clock: Clock,
    pause: Event | None = None,
) -> dict[str, Any]:
    """Return the notification once its status is final, or as it stands after `timeout_s`.

    A server that is gone for a while is waited for as well: what it accepted, it keeps. Raises
    ServerUnreachable when it is still gone at the end.
    """
    pause = pause or Event()
    deadline = clock.monotonic() + timeout_s
    delay_s = POLL_S
    while True:
        left_s = deadline - clock.monotonic()
        try:
            notification = there.get("notifications", notification["id"])
        except (ServerProblem, ServerUnreachable) as error:
            if left_s <= 0 or not is_passing(error):
                raise
        else:
            if left_s <= 0 or not _is_live(notification):
                return notification
        pause.wait(min(delay_s, left_s) if left_s > 0 else 0)
        delay_s = min(delay_s * 1.5, POLL_MAX_S)


def _is_live(notification: Mapping[str, Any]) -> bool:
    return notification.get("status") in {Status.SCHEDULED, Status.QUEUED, Status.SENDING}


def _text(given: str | None) -> str | None:
    return sys.stdin.read() if given == "-" else given


def _object(option: str, given: str | None) -> dict[str, Any] | None:
    if given is None:
        return None
    try:
        value = json.loads(given)
    except ValueError as error:
        raise typer.BadParameter(f"this is no JSON: {error}", param_hint=option) from error
    if not isinstance(value, dict):
        raise typer.BadParameter("write a JSON object, like '{\"a\": 1}'", param_hint=option)
    return value


def _header(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise typer.BadParameter("printable ASCII only", param_hint="--idempotency-key")
    return key
