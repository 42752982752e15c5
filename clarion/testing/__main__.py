"""Run a look-alike provider by itself: `python -m clarion.testing sendgrid --port 9101`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clarion.testing.fast_loop import fast_loop
from clarion.testing.lookalike import Lookalike
from clarion.testing.sendgrid import SendGridLookalike
from clarion.testing.twilio import TwilioLookalike
from clarion.testing.webhook import SECRET, WebhookLookalike


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; prints one line with the URL once it listens."""
    options = _parser().parse_args(arguments)
    # A benchmark's provider must not be what is measured: uvloop halves its cost.
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_serve(_lookalike(options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clarion.testing", description=__doc__)
    parser.add_argument("provider", choices=["sendgrid", "twilio", "webhook"])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ledger", type=Path, help="NDJSON file that gets a line per delivery")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--api-key", default="SG.test", help="the valid SendGrid key")
    parser.add_argument("--account-sid", default="AC" + "0" * 32, help="the valid Twilio account")
    parser.add_argument("--auth-token", default="test-token", help="its token")
    parser.add_argument("--secret", default=SECRET, help='signs webhooks; "" for unsigned ones')
    return parser


def _lookalike(options: argparse.Namespace) -> Lookalike:
    lookalike = _made(options, port=options.port, ledger=options.ledger)
    lookalike.latency_s = options.latency
    return lookalike


def _made(options: argparse.Namespace, **place: Any) -> Lookalike:
    match options.provider:
        case "sendgrid":
            return SendGridLookalike(options.api_key, **place)
        case "twilio":
            return TwilioLookalike(options.account_sid, options.auth_token, **place)
        case _:
            return WebhookLookalike(options.secret, **place)


async def _serve(lookalike: Lookalike) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with lookalike:
        sys.stdout.write(f"{lookalike.provider} look-alike listens on {lookalike.url}\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
