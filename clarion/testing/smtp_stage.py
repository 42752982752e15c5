"""At which stage of a session a client meets each fault of a mail server."""

from __future__ import annotations

from dataclasses import replace

from clarion.testing.fault import Fault, FaultKind

STAGES = (
    "greeting", "EHLO", "STARTTLS", "AUTH", "NOOP", "RSET", "MAIL", "RCPT", "DATA", "content",
    "END",
)  # fmt: skip
"""Where something can go wrong; "content" is the middle of the mail, "END" the final dot."""

ERRORS: dict[int, tuple[str, int, str]] = {
    400: ("END", 554, "5.6.0 Malformed message"),
    401: ("MAIL", 535, "5.7.8 Authentication credentials invalid"),
    403: ("MAIL", 550, "5.7.1 Sender not allowed"),
    404: ("RCPT", 550, "5.1.1 No such user"),
    413: ("END", 552, "5.3.4 Message too big"),
    429: ("END", 454, "4.7.0 Throttling failure: maximum sending rate exceeded"),
    500: ("END", 451, "4.3.0 Internal error"),
    503: ("MAIL", 421, "4.3.2 Service shutting down"),
}
"""Where a mail server says what HTTP says by a status, and how."""

_BEFORE_CONTENT = frozenset({FaultKind.HANG, FaultKind.RESET})


def at_stage(stage: str, fault: Fault) -> Fault:
    """Return the fault as it is met at another of the `STAGES`."""
    if stage not in STAGES:
        raise ValueError(f"there is no stage {stage!r}; there are {', '.join(STAGES)}")
    return replace(fault, field=stage)


def stage_of(fault: Fault) -> str:
    """Return the stage at which a client meets a fault."""
    if fault.field is not None:
        return fault.field
    if fault.kind is FaultKind.ERROR:
        return ERRORS.get(fault.status, ERRORS[500])[0]
    if fault.kind is FaultKind.REDIRECT:
        return "RCPT"
    return "DATA" if fault.kind in _BEFORE_CONTENT and not fault.accepts else "END"
