"""Who may ask: the bearer key, and while there is none what a browser could be tricked into.

With `server.api_key` set, everything but `OPEN` needs `Authorization: Bearer KEY`, and what is in
`OWN_CREDENTIALS` the credentials that its handler asks for instead: who may call a hook may do
nothing else, and who holds the key may not speak for the sender of a hook, or for a provider. A
browser adds no such header for a foreign page, so nothing else has to be checked. For the pages a
browser may log in by HTTP Basic, with the key as password (the name is free); those credentials it
does add for foreign pages, so what changes something is then checked as it is without a key.

Without a key the server listens on loopback only, which every page in a browser on this machine
can reach too. It is kept from asking in three ways:

- *DNS rebinding*: a page at evil.example whose name turns into 127.0.0.1 is of the same origin as
  we are, to its browser. Its requests still name evil.example as their host: refused.
- *Requests across sites*: a form or `fetch` of another page may send, though not read the answer.
  Its browser says so (`Origin`, `Sec-Fetch-Site`): refused for everything that changes something.
  Another port of localhost is another origin too.
- Bodies have to be `application/json` (see `body`), which a page may not send elsewhere unasked.
  Forms of our own pages are the exception: their browser has to say that they are (`is_own_page`).

What only reads is answered: without CORS headers, which we never send, no foreign page sees it.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from clarion.http.front import Front
from clarion.http.problem import FORBIDDEN, UNAUTHORIZED, HttpRefusal

OPEN = frozenset({"/livez", "/readyz"})
"""Paths that need no key: probes of an orchestrator that hold none. They tell a status only."""

OWN_CREDENTIALS = {"/hooks/{name}": "hook", "/callbacks/{provider}": "signature"}
"""Routes whose handlers check credentials of their own, instead of the key; and their kind."""

MAX_USER = 64
"""Characters of a login's name that are kept."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FOR_PROGRAMS = {"WWW-Authenticate": 'Bearer realm="clarion"'}
_FOR_BROWSERS = {"WWW-Authenticate": 'Basic realm="clarion", charset="UTF-8"'}


def authorize(request: web.Request, front: Front) -> None:
    """Let a request pass, or raise HttpRefusal."""
    if request.path in OPEN:
        return
    host = request.headers.get("Host")
    if front.api_key:
        if _route(request) in OWN_CREDENTIALS:
            return
        is_browser = _check_key(request, front.api_key)
    else:
        is_browser = True
        _check_host(host, front.hosts)
    if is_browser and request.method not in _SAFE:
        _check_origin(request, host or "", front.public_origin)


def _route(request: web.Request) -> str:
    """Return the route that was matched, not the path: the two cannot be played off."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def _check_key(request: web.BaseRequest, key: str) -> bool:
    """Raise HttpRefusal unless the key is there; return whether a browser may have added it."""
    header = request.headers.get("Authorization", "")
    # One of them only: browsers read one challenge of a header, and ask for no bearer key.
    is_page = "text/html" in request.headers.get("Accept", "")
    challenge = _FOR_BROWSERS if is_page else _FOR_PROGRAMS
    if not header:
        detail = "Send the header `Authorization: Bearer KEY`, with the key of server.api_key"
        raise HttpRefusal(UNAUTHORIZED, detail, headers=challenge)
    scheme, _, given = header.partition(" ")
    is_basic = scheme.lower() == "basic"
    if is_basic:
        given = _credentials(given)[1]
    is_right = hmac.compare_digest(_bytes(given.strip()), _bytes(key))
    if not is_right or not (is_basic or scheme.lower() == "bearer"):
        detail = "The key in the Authorization header is not the one of server.api_key"
        raise HttpRefusal(UNAUTHORIZED, detail, headers=challenge)
    return is_basic


def _credentials(encoded: str) -> tuple[str, str]:
    """Return name and password of a Basic login."""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password


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


def _check_origin(request: web.BaseRequest, host: str, public: str) -> None:
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    is_same = origin is None or _is_same(origin, host, public)
    if not is_same or site not in ("none", "same-origin"):
        raise HttpRefusal(
            FORBIDDEN,
            "A page of another origin asks for this through a browser; only Clarion's own pages"
            " and programs may. Behind a proxy, let it pass the Host header on, or set"
            " server.public_url",
        )


def is_own_page(request: web.BaseRequest, public: str) -> bool:
    """Whether a browser says that it asks for a page of ours; what says nothing does not."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    if origin is None:
        return site == "same-origin"
    is_same = _is_same(origin, request.headers.get("Host", ""), public)
    return is_same and site in (None, "same-origin")


def _is_same(origin: str, host: str, public: str) -> bool:
    """Whether an origin is this server's: by its Host header, or as `public` says (may be "")."""
    try:
        netloc = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    # "null", and what is no origin at all, has none.
    return bool(netloc) and (netloc == host.lower() or origin.lower() == public)


def user_of(request: web.BaseRequest) -> str:
    """Return the name that a browser's login gave, in printable characters; "" where there is none.

    It was never checked: with one key for all, it is only what people say of themselves.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    name = _credentials(given)[0].strip()
    return "".join(c for c in name if c.isprintable())[:MAX_USER]
