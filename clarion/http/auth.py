"""Who may ask: the bearer key, and while there is none what a browser could be tricked into.

With `server.api_key` set, everything but `OPEN` needs `Authorization: Bearer KEY`. A browser adds
no such header for a foreign page, so nothing else has to be checked.

Without a key the server listens on loopback only, which every page in a browser on this machine
can reach too. It is kept from asking in three ways:

- *DNS rebinding*: a page at evil.example whose name turns into 127.0.0.1 is of the same origin as
  we are, to its browser. Its requests still name evil.example as their host: refused.
- *Requests across sites*: a form or `fetch` of another page may send, though not read the answer.
  Its browser says so (`Origin`, `Sec-Fetch-Site`): refused for everything that changes something.
  Another port of localhost is another origin too.
- Bodies have to be `application/json` (see `body`), which a page may not send elsewhere unasked.

What only reads is answered: without CORS headers, which we never send, no foreign page sees it.
"""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from clarion.http.front import Front
from clarion.http.problem import FORBIDDEN, UNAUTHORIZED, HttpRefusal

OPEN = frozenset({"/livez", "/readyz"})
"""Paths that need no key: probes of an orchestrator that hold none. They tell a status only."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="clarion"'}


def authorize(request: web.BaseRequest, front: Front) -> None:
    """Let a request pass, or raise HttpRefusal."""
    if request.path in OPEN:
        return
    if front.api_key:
        _check_key(request.headers.get("Authorization", ""), front.api_key)
    else:
        host = request.headers.get("Host")
        _check_host(host, front.hosts)
        if request.method not in _SAFE:
            _check_origin(request, host or "")


def _check_key(header: str, key: str) -> None:
    scheme, _, given = header.partition(" ")
    if not header:
        detail = "Send the header `Authorization: Bearer KEY`, with the key of server.api_key"
        raise HttpRefusal(UNAUTHORIZED, detail, headers=_CHALLENGE)
    is_right = hmac.compare_digest(_bytes(given.strip()), _bytes(key))
    if scheme.lower() != "bearer" or not is_right:
        detail = "The key in the Authorization header is not the one of server.api_key"
        raise HttpRefusal(UNAUTHORIZED, detail, headers=_CHALLENGE)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _check_host(host: str | None, hosts: frozenset[str]) -> None:
    # None: HTTP/1.0, as probes of some balancers speak it; every browser names a host.
    if host is None or is_own_host(host, hosts):
        return
    raise HttpRefusal(
        FORBIDDEN,
        "The Host header names neither this machine (localhost, 127.0.0.1) nor the host of"
        " server.public_url; without server.api_key nothing else is answered",
    )


@lru_cache(maxsize=256)
def is_own_host(host: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header, with or without a port, names loopback or one of `hosts`."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name in hosts:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_origin(request: web.BaseRequest, host: str) -> None:
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    is_same = origin is None or _netloc(origin) == host.lower()
    if not is_same or site not in ("none", "same-origin"):
        raise HttpRefusal(
            FORBIDDEN,
            "A page of another origin asks for this through a browser; without server.api_key"
            " only Clarion's own pages and programs may",
        )


def _netloc(origin: str) -> str | None:
    """Return host and port of an origin, None for "null" and what is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
