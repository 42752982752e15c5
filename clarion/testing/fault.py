"""The ways in which a look-alike server can misbehave, as data.

A `Fault` says what goes wrong; `misbehaviour` does it on the wire. The vocabulary is closed, and
every fault can also be named from another process (`fault_named`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    """What a misbehaving server does with a request."""

    ERROR = "error"
    """Answers `status` in the provider's own shape."""
    HTML = "html"
    """Answers `status` with the HTML page of some proxy."""
    HANG = "hang"
    """Never answers; ends when the client gives up or the server stops."""
    RESET = "reset"
    """Resets the connection instead of answering."""
    TRUNCATED = "truncated"
    """Answers success with half a JSON document, correctly framed."""
    CUT_OFF = "cut_off"
    """Answers success, announces more bytes than it sends, and closes."""
    NO_CONTENT = "no_content"
    """Answers 204 where another success is due."""
    REDIRECT = "redirect"
    """Answers 301 to `location`."""
    DRIP = "drip"
    """Answers success one byte in every `interval_s`."""
    HUGE = "huge"
    """Answers `status` with a body of `size_bytes`."""
    KEEPALIVE_CLOSE = "keepalive_close"
    """Answers as it should, then closes the connection without having announced it."""
    SLOW = "slow"
    """Answers as it should, after `interval_s`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave; made by the class methods, each named after what a client meets."""

    kind: FaultKind
    accepts: bool = False
    """Whether the message is taken (and counted) all the same."""
    status: int = 0
    code: int | None = None
    """The provider's own error code; None for the one that belongs to `status`."""
    message: str | None = None
    field: str | None = None
    retry_after: str | None = None
    """The Retry-After header, verbatim; None leaves it out."""
    location: str = ""
    interval_s: float = 0.0
    size_bytes: int = 0

    @classmethod
    def error(
        cls,
        status: int = 500,
        *,
        code: int | None = None,
        message: str | None = None,
        field: str | None = None,
        accepts: bool = False,
    ) -> Fault:
        """Answer `status` in the provider's own shape; with `accepts`, having taken the message."""
        return cls(FaultKind.ERROR, accepts, status, code, message, field)

    @classmethod
    def unavailable(cls) -> Fault:
        """Answer 503 in the provider's own shape."""
        return cls.error(503)

    @classmethod
    def unauthorized(cls) -> Fault:
        """Answer 401 as to a wrong key."""
        return cls.error(401)

    @classmethod
    def throttled(cls, retry_after: float | str | datetime | None = None) -> Fault:
        """Answer 429; `retry_after` is seconds (absurd and negative ones too), or an HTTP date.

        Text goes out verbatim, None leaves the header out.
        """
        return cls(FaultKind.ERROR, status=429, retry_after=_header_of(retry_after))

    @classmethod
    def html(cls, status: int = 502, *, accepts: bool = False) -> Fault:
        """Answer `status` with a proxy's HTML page."""
        return cls(FaultKind.HTML, accepts, status)

    @classmethod
    def hang(cls) -> Fault:
        """Take nothing and never answer."""
        return cls(FaultKind.HANG)

    @classmethod
    def accept_then_hang(cls) -> Fault:
        """Take the message and never answer."""
        return cls(FaultKind.HANG, accepts=True)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection before the body is read."""
        return cls(FaultKind.RESET)

    @classmethod
    def accept_then_reset(cls) -> Fault:
        """Take the message and reset the connection."""
        return cls(FaultKind.RESET, accepts=True)

    @classmethod
    def truncated(cls) -> Fault:
        """Take the message and answer success with half a JSON document."""
        return cls(FaultKind.TRUNCATED, accepts=True)

    @classmethod
    def cut_off(cls) -> Fault:
        """Take the message and close in the middle of the answer."""
        return cls(FaultKind.CUT_OFF, accepts=True)

    @classmethod
    def no_content(cls) -> Fault:
        """Take the message and answer 204."""
        return cls(FaultKind.NO_CONTENT, accepts=True, status=204)

    @classmethod
    def redirect(cls, location: str = "http://169.254.169.254/latest/meta-data/") -> Fault:
        """Answer 301 to a private address (the default: a cloud's metadata service)."""
        return cls(FaultKind.REDIRECT, status=301, location=location)

    @classmethod
    def drip(cls, interval_s: float = 1.0) -> Fault:
        """Take the message and answer one byte in every `interval_s`."""
        return cls(FaultKind.DRIP, accepts=True, interval_s=interval_s)

    @classmethod
    def huge(cls, size_bytes: int = 10_000_000, status: int = 500) -> Fault:
        """Answer an error with a body of `size_bytes`."""
        return cls(FaultKind.HUGE, status=status, size_bytes=size_bytes)

    @classmethod
    def keepalive_close(cls) -> Fault:
        """Take the message, answer, and close the idle connection without a word."""
        return cls(FaultKind.KEEPALIVE_CLOSE, accepts=True)

    @classmethod
    def slow(cls, delay_s: float) -> Fault:
        """Take the message at once and answer after `delay_s`."""
        return cls(FaultKind.SLOW, accepts=True, interval_s=delay_s)


FAULTS: dict[str, Callable[..., Fault]] = {
    name: getattr(Fault, name)
    for name in (
        "error", "unavailable", "unauthorized", "throttled", "html", "hang", "accept_then_hang",
        "reset", "accept_then_reset", "truncated", "cut_off", "no_content", "redirect", "drip",
        "huge", "keepalive_close", "slow",
    )
}  # fmt: skip
"""Every fault by the name of the class method that makes it."""


def fault_named(name: str, arguments: Mapping[str, Any] | None = None) -> Fault:
    """Make the fault `name` with keyword `arguments`; ValueError says what is wrong with them."""
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    try:
        return FAULTS[name](**(arguments or {}))
    except TypeError as error:
        raise ValueError(f"the fault {name!r} cannot be made: {error}") from error


def _header_of(retry_after: float | str | datetime | None) -> str | None:
    match retry_after:
        case datetime():
            return format_datetime(retry_after.astimezone(UTC), usegmt=True)
        case None:
            return None
        case _:
            return str(retry_after)
