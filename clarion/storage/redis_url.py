"""Which Redis server a URL names, what is wrong with one that names none, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix")
_OURS = {
    "socket_timeout", "socket_connect_timeout", "retry_on_timeout", "protocol", "decode_responses",
    "max_connections", "health_check_interval", "timeout", "client_name",
}  # fmt: skip
"""What Clarion decides itself: a URL that sets it is meant for something else."""
_THEIRS = {
    "db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs",
    "ssl_check_hostname",
}  # fmt: skip


def url_fault(url: str) -> str | None:
    """Say what is wrong with the URL of a Redis server, without the URL: it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return (
            "names no Redis server; write redis://host:6379/0, rediss://user:password@host (TLS)"
            " or unix:///run/redis.sock?db=0"
        )
    try:
        port = parts.port
    except ValueError:
        # Its own words quote what is there instead, which may be a password.
        return "has no number as its port; an @, / or # in the password is written as %40, %2F, %23"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return _place_fault(parts.scheme, parts.hostname, parts.path, port) or _query_fault(query)


def _place_fault(scheme: str, host: str | None, path: str, port: int | None) -> str | None:
    if scheme == "unix":
        return None if path else "names no socket; write unix:///run/redis.sock?db=0"
    if not host or port == 0:
        return f"names no host; write {scheme}://host:6379/0"
    number = path.strip("/")
    if number and not (number.isascii() and number.isdigit()):
        return "ends with the number of a database, such as /0"
    return None


def _query_fault(query: Mapping[str, str]) -> str | None:
    if ours := sorted(query.keys() & _OURS):
        return f"sets {', '.join(ours)}, which Clarion decides itself; leave it out"
    if unknown := sorted(query.keys() - _THEIRS):
        known = ", ".join(sorted(_THEIRS))
        return f"sets {', '.join(unknown)}, which means nothing here; there are {known}"
    if not query.get("db", "0").isdigit():
        return "has no number as its db"
    return None


def shown(url: str) -> str:
    """Return the URL as people may see it: where the server is, without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"Redis at {parts.path}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"Redis at {host}:{parts.port or 6379}"
