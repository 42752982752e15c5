"""Where a webhook may go: to public addresses alone, judged where a connection is made.

A URL comes from whoever may send, and its name may lead anywhere, now or a moment later. So names
are not judged. The resolver drops the addresses that are not public, and no socket is made for one:
the second sees what the first cannot (addresses written in the URL), whatever spelling led there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

Lookup = Callable[..., list[Any]]
"""`socket.getaddrinfo`, or what stands for it."""

NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        # RFC 6890 and its registry
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24",
        # multicast, reserved, broadcast
        "224.0.0.0/4", "240.0.0.0/4",
        # Azure's agent answers each of its machines under this public address
        "168.63.129.16/32",
        # protocol assignments (Teredo among them), documentation, and 6to4, which holds any IPv4
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
"""`ipaddress.is_global` is no substitute: it lets multicast, 6to4 and NAT64 through on 3.11."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is public. Loopback, unique local and link-local addresses lie outside, and so
do mapped and compatible IPv4 and the NAT64 prefixes, which would lead to any IPv4 address."""

BLOCKED_PORTS = frozenset(
    {
        1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
        102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389,
        427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636,
        989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665,
        6666, 6667, 6668, 6669, 6679, 6697, 10080,
    }
)  # fmt: skip
"""Ports of other protocols, which a request could speak to by accident: the list of browsers
(https://fetch.spec.whatwg.org/#port-blocking)."""


class BlockedAddress(OSError):
    """A name or a URL leads to an address that is not public; does not say to which."""

    def __init__(self) -> None:
        super().__init__("the address is not public")


def is_public(address: str) -> bool:
    """Whether an address may be called by whoever may send."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in NOT_PUBLIC)


def url_fault(url: str) -> str | None:
    """Say why a URL cannot be called, whoever its host is; None when it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the URL cannot be read"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the address is no http or https URL"
    if "@" in parts.netloc or "\\" in url:
        return "the URL holds credentials or a backslash"
    if "[" in parts.netloc and not _is_global_form(parts.hostname):
        return "the URL's host is no IPv6 address that can be called from everywhere"
    if port in BLOCKED_PORTS:
        return f"port {port} belongs to another protocol than HTTP"
    return None


def _is_global_form(host: str) -> bool:
    """Whether it is an IPv6 address without a zone, which means something on one machine alone."""
    try:
        return "%" not in host and ip_address(host).version == 6
    except ValueError:
        return False


def was_blocked(error: BaseException) -> bool:
    """Whether a request broke because its host is not public."""
    return isinstance(getattr(error, "os_error", error), BlockedAddress)


class Guard:
    """Makes connections of one provider; with `allow_private` to every address.

    Names are looked up in threads of `executor`, so that a name that hangs takes none of the
    threads that other providers resolve with.
    """

    def __init__(self, executor: Executor, lookup: Lookup, *, allow_private: bool) -> None:
        self.resolver: AbstractResolver = _Resolver(executor, lookup, self.may_call)
        self._allow_private = allow_private

    def may_call(self, address: str) -> bool:
        """Whether a connection to this address may be made."""
        return self._allow_private or is_public(address)

    def connector(self, max_concurrent: int) -> aiohttp.TCPConnector:
        """Make a connector whose every connection is checked, and serves one request.

        Hosts that nobody knows close idle connections when they please, and a request written to
        one of those would come to UNKNOWN for nothing. Idle ones would not be bounded, either.
        """
        return aiohttp.TCPConnector(
            limit=max_concurrent,
            resolver=self.resolver,
            socket_factory=self._socket,
            force_close=True,
        )

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.may_call(str(address[0])):
            raise BlockedAddress
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


class _Resolver(AbstractResolver):
    """Looks names up and drops the addresses that may not be called."""

    def __init__(self, executor: Executor, lookup: Lookup, may_call: Callable[[str], bool]) -> None:
        self._executor = executor
        self._lookup = lookup
        self._may_call = may_call

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name; BlockedAddress where none may be called."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, self._look_up, host, port, family)
        allowed = [each for each in found if self._may_call(each["host"])]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if not allowed:
            raise BlockedAddress
        return allowed

    def _look_up(self, host: str, port: int, family: int) -> list[ResolveResult]:
        try:
            infos = self._lookup(
                host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
            )
        except UnicodeError as error:
            # Labels that are empty or too long do not get as far as DNS.
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from error
        return [_result(host, port, info) for info in infos]

    async def close(self) -> None:
        """Do nothing: the executor belongs to the adapter."""


def _result(host: str, port: int, info: Any) -> ResolveResult:
    family, _, protocol, _, address = info
    return ResolveResult(
        hostname=host, host=str(address[0]), port=port, family=family, proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )  # fmt: skip
