"""A request without a complete answer comes to UNKNOWN once it was out, to TRANSIENT before."""

from __future__ import annotations

import socket
import ssl

import aiohttp
import pytest

from clarion.domain.notification import Content
from clarion.domain.outcome import Outcome
from clarion.providers.base import Wire, answer_for_exception, flaw_in_headers


def caused(outer: BaseException, cause: BaseException) -> BaseException:
    outer.__cause__ = cause
    return outer


def dns_error() -> aiohttp.ClientConnectorDNSError:
    key = aiohttp.client_reqrep.ConnectionKey("nowhere", 443, True, True, None, None, None)
    return aiohttp.ClientConnectorDNSError(key, socket.gaierror(-2, "Name or service not known"))


BREAKS = [
    (TimeoutError(), "timeout"),
    (ConnectionRefusedError(111, "refused"), "connect_failed"),
    (OSError(113, "No route to host"), "connect_failed"),
    (socket.gaierror(-2, "Name or service not known"), "dns_failed"),
    (dns_error(), "dns_failed"),
    (ssl.SSLCertVerificationError("bad certificate"), "tls_failed"),
    (ConnectionResetError(104, "reset"), "connection_lost"),
    (BrokenPipeError(32, "pipe"), "connection_lost"),
    (EOFError(), "connection_lost"),
    (aiohttp.ServerDisconnectedError(), "no_answer"),
    (aiohttp.ClientPayloadError("cut"), "no_answer"),
    (caused(aiohttp.ClientOSError(None, "x"), ConnectionResetError()), "connection_lost"),
]


@pytest.mark.parametrize(("error", "reason"), BREAKS)
def test_before_the_wire_nothing_can_have_been_accepted(error: Exception, reason: str) -> None:
    """Connecting failed: TRANSIENT, surely not accepted, whatever broke."""
    answer = answer_for_exception(error, Wire())

    assert (answer.outcome, answer.reason) == (Outcome.TRANSIENT, reason)
    assert answer.surely_not_accepted
    assert "nothing was sent" in answer.detail


@pytest.mark.parametrize(("error", "reason"), BREAKS)
def test_after_the_wire_the_provider_may_have_it(error: Exception, reason: str) -> None:
    """The request was out: UNKNOWN, whatever broke."""
    answer = answer_for_exception(error, Wire(is_written=True))

    assert (answer.outcome, answer.reason) == (Outcome.UNKNOWN, reason)
    assert not answer.surely_not_accepted


def test_the_detail_quotes_no_exception() -> None:
    """Exceptions hold URLs and addresses; plain words replace them."""
    answer = answer_for_exception(OSError(5, "to ada@example.com with key SG.secret"), Wire())

    assert "ada" not in answer.detail
    assert "SG." not in answer.detail


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    """Two exceptions that name each other as cause do not hang the loop."""
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert answer_for_exception(first, Wire()).reason == "no_answer"


@pytest.mark.parametrize("breaker", ["\r", "\n", "\x00", "\x7f", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("place", ["to", "subject", "name", "value"])
def test_no_line_break_gets_into_a_header(breaker: str, place: str) -> None:
    """Every place that becomes a header refuses what ends a line, in Unicode too."""
    bad = f"a{breaker}Bcc: evil@example.com"
    content = {
        "to": Content(bad),
        "subject": Content("ada@example.com", bad),
        "name": Content("ada@example.com", headers={bad: "x"}),
        "value": Content("ada@example.com", headers={"X-A": bad}),
    }[place]

    answer = flaw_in_headers(content)

    assert answer is not None
    assert (answer.outcome, answer.surely_not_accepted) == (Outcome.PERMANENT, True)


def test_lines_in_the_body_are_no_flaw() -> None:
    """Texts have lines; addresses, subjects and headers have one."""
    content = Content("ada@example.com", "Hé", "a\r\nb", headers={"X-A": "b c"})

    assert flaw_in_headers(content) is None
