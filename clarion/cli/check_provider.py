"""What `clarion check` tries of providers: their kinds, their accounts, and their receipts."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from clarion.cli.finding import Finding
from clarion.errors import ClarionError

if TYPE_CHECKING:
    from clarion.providers.base import Adapter
    from clarion.settings import ProviderSettings, Settings

CLOSE_TIMEOUT_S: Final = 5.0


def try_kinds() -> list[Finding]:
    """Load every kind that an installed package brings, used or not."""
    from clarion.providers.registry import adapter_class, brought

    findings = []
    for kind in brought():
        try:
            adapter_class(kind)
        except ClarionError as error:
            fix = "repair the package, upgrade it, or uninstall it"
            findings.append(Finding(f"kind {kind}", False, str(error), fix))
        else:
            findings.append(Finding(f"kind {kind}", True, "it can be loaded"))
    return findings


async def try_provider(name: str, settings: Settings) -> Finding:
    """Open a provider and ask how it is, without sending anything."""
    from clarion import blueprint
    from clarion.policies.clock import SystemClock

    provider, what = settings.providers[name], f"provider {name}"
    if not provider.enabled:
        return Finding(what, True, "disabled in the settings, so it was not tried")
    if not any(name in channel.providers for channel in settings.channels.values()):
        return Finding(what, True, "no channel uses it, so it was not tried")
    try:
        adapter = blueprint.adapter_maker(name, settings, SystemClock())()
        return await _probe(what, name, adapter, provider.timeout)
    except TimeoutError:
        detail = f"no answer within {provider.timeout:g} s"
        return Finding(what, False, detail, _fix(name, is_misconfigured=False))
    except Exception as error:
        # Whatever an adapter does wrong, the others are still to be tried.
        return Finding(what, False, _why(error), _fix(name, is_misconfigured=True))


async def _probe(what: str, name: str, adapter: Adapter, timeout_s: float) -> Finding:
    try:
        async with asyncio.timeout(timeout_s):
            await adapter.open()
            health = await adapter.probe()
    finally:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await adapter.close()
    if health.is_healthy:
        return Finding(what, True, health.detail or "it answers")
    fix = _fix(name, is_misconfigured=health.is_misconfigured)
    return Finding(what, False, health.detail or "it is not well", fix)


def _why(error: Exception) -> str:
    from clarion.telemetry.mask import mask_text

    return mask_text(f"{type(error).__name__}: {error}")


def _fix(name: str, *, is_misconfigured: bool) -> str:
    if is_misconfigured:
        return f"correct [providers.{name}] in the settings, or the account itself"
    return "see whether this machine reaches it, and whether the provider has an outage"


# --- receipts --------------------------------------------------------------------------------


def try_receipts(name: str, settings: Settings) -> Finding | None:
    """Tell whether a provider's reports would be understood; None where there are none."""
    from clarion.providers.registry import receipt_reader

    provider = settings.providers[name]
    reader = receipt_reader(
        provider.kind, name, provider.config, public_url=settings.server.public_url
    )
    if reader is None or not is_used(name, settings):
        return None
    what = f"receipts {name}"
    hindrance = getattr(reader, "hindrance", "")
    if _asks_for_none(provider):
        return Finding(what, True, "none are asked for, as the settings say")
    if hindrance:
        detail = f"{hindrance}, so nothing is known after a message was taken"
        return Finding(what, True, detail, f"docs/providers/{provider.kind}.md says how to set it")
    url = settings.server.public_url.rstrip("/")
    if url and _is_here_only(url):
        detail = f"server.public_url is {url}, where no provider reaches this server"
        return Finding(what, True, detail, "set it to the address that the world knows")
    return Finding(what, True, f"taken at {url}/callbacks/{name}, and verified")


def is_used(name: str, settings: Settings) -> bool:
    """Say whether a route has this provider, and it is switched on."""
    is_routed = any(name in channel.providers for channel in settings.channels.values())
    return is_routed and settings.providers[name].enabled


def _asks_for_none(provider: ProviderSettings) -> bool:
    return getattr(provider.config, "status_callback", True) is False


def _is_here_only(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
