"""What the errors of Redis mean, in plain words."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from redis import exceptions

_BY_CODE = {
    "OOM": "it is out of memory (maxmemory)",
    "MISCONF": "it cannot save to its disk and takes no writes",
    "LOADING": "it is loading its data",
    "READONLY": "it is a replica and takes no writes",
    "BUSY": "a script has kept it busy for seconds",
    "MASTERDOWN": "it is a replica that has lost its master",
    "NOREPLICAS": "too few of its replicas are there, so it takes no writes",
    "CLUSTERDOWN": "its cluster is down",
    "MOVED": "it is part of a cluster, and not the part that has our keys",
    "NOAUTH": "it asks for a password; write one into redis.url",
    "WRONGPASS": "it refuses the user or the password",
    "NOPERM": "its user may not do what Clarion needs (see the operator's manual on ACLs)",
}
"""The first word of an error reply -> its meaning."""
_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.OutOfMemoryError, _BY_CODE["OOM"]),
    (exceptions.BusyLoadingError, _BY_CODE["LOADING"]),
    (exceptions.ReadOnlyError, _BY_CODE["READONLY"]),
    (exceptions.NoPermissionError, _BY_CODE["NOPERM"]),
    (exceptions.AuthenticationError, _BY_CODE["WRONGPASS"]),
    (exceptions.MaxConnectionsError, "it takes no more clients (maxclients)"),
)
"""Errors for which redis-py drops the first word."""


def redis_failure(error: BaseException) -> str:
    """Return the plain reason of an error of Redis or of the way to it."""
    for each in _causes(error):
        for kind, meaning in _BY_TYPE:
            if isinstance(each, kind):
                return meaning
    told = " ".join(str(error).split())
    known = _BY_CODE.get(told.split(" ", 1)[0].lstrip("-"))
    if known is not None:
        return known
    if "max number of clients" in told:
        return "it takes no more clients (maxclients)"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "it does not answer"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return f"it cannot be reached ({_of_system(error) or told or type(error).__name__})"
    return f"it answers {told or type(error).__name__}"


def _of_system(error: BaseException) -> str:
    """Return the words of the operating system below an error, which are shorter; "" for none."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLError):  # An OSError, whose number is no errno.
            return f"TLS: {getattr(each, 'verify_message', '') or each.reason or each}"
        if isinstance(each, socket.gaierror):
            return str(each.strerror).lower()
        if isinstance(each, OSError) and each.errno:
            return os.strerror(each.errno).lower()
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # redis-py wraps what goes wrong while it connects, what the server answered included.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_of_connection(error: BaseException) -> bool:
    """Whether the connection is of no use any more: it broke, or leads to what takes no writes."""
    lost = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError)
    return isinstance(error, (*lost, OSError, TimeoutError, exceptions.InvalidResponse))
