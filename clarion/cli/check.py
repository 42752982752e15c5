"""`clarion check`: would it start, and would its providers take a message? In plain words.

Nothing is sent and no server is needed. A database that is not there yet is not created; one that
is there is opened as the server opens it, which brings its schema up to date.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarion.cli.option import ExitCode, Json, SettingsFile, guarded, output
from clarion.cli.output import Output
from clarion.errors import ClarionError, StoreLocked

if TYPE_CHECKING:
    from clarion.providers.base import Adapter
    from clarion.settings import Settings
    from clarion.storage.recount import Difference

CLOSE_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried, whether it works, what was seen, and what to do where it does not."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


@guarded
def check(
    context: typer.Context,
    settings: SettingsFile = None,
    recount: Annotated[
        bool, typer.Option("--recount", help="Compare the counts with every stored row.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate the settings, try every dependency, and say what is wrong and what to do."""
    from clarion.settings import load

    out = output(context, as_json)
    loaded = load(settings)
    findings = asyncio.run(examine(loaded, with_recount=recount))
    is_fine = all(finding.ok for finding in findings)
    if out.is_json:
        out.document({"ok": is_fine, "checks": [asdict(finding) for finding in findings]})
    else:
        _show(out, findings)
    if not is_fine:
        raise typer.Exit(ExitCode.NO)


def _show(out: Output, findings: Sequence[Finding]) -> None:
    for finding in findings:
        out.line(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
        if finding.fix:
            out.line(f"      {finding.fix}")
    failed = sum(not finding.ok for finding in findings)
    out.note("everything works" if not failed else f"{failed} of {len(findings)} do not work")


async def examine(settings: Settings, *, with_recount: bool = False) -> list[Finding]:
    """Try the storage, the port and every provider, and return what was found, in that order."""
    storage, is_running = await asyncio.to_thread(_try_storage, settings)
    findings = [storage]
    if with_recount and storage.ok:
        findings.append(await asyncio.to_thread(_recount, settings))
    findings.append(_try_port(settings.server.host, settings.server.port, is_running=is_running))
    tries = [_try_provider(name, settings) for name in settings.providers]
    return [*findings, *await asyncio.gather(*tries)]


# --- storage ---------------------------------------------------------------------------------


def _try_storage(settings: Settings) -> tuple[Finding, bool]:
    """Return what was found, and whether another process, most likely a server, has the file."""
    from clarion import blueprint
    from clarion.storage.store import open_store

    try:
        store = open_store(blueprint.store_url(settings))
        path = blueprint.store_path(settings)
        if not path.exists():
            return _try_directory(path), False
        try:
            store.open()
            store.probe()
        finally:
            store.close()
    except StoreLocked:
        return Finding("storage", True, f"{path} is in use, most likely by a running Clarion"), True
    except ClarionError as error:
        return Finding("storage", False, str(error)), False
    except Exception as error:
        # SQLite's own errors, whose type is storage's secret.
        return Finding("storage", False, _why_storage(error), "make room, or mend the disk"), False
    return Finding("storage", True, f"{path} can be read and written"), False


def _try_directory(path: Path) -> Finding:
    directory = path.parent
    while not directory.exists():
        directory = directory.parent
    if os.access(directory, os.W_OK | os.X_OK):
        return Finding("storage", True, f"{path} will be created at the first start")
    return Finding(
        "storage",
        False,
        f"{path} does not exist and cannot be created: {directory} may not be written",
        "let the user that runs Clarion write there, or change storage.url",
    )


def _why_storage(error: Exception) -> str:
    from clarion.storage.store import storage_failure

    return storage_failure(error) or f"{type(error).__name__}: {error}"


def _recount(settings: Settings) -> Finding:
    from clarion import blueprint
    from clarion.storage.connection import connect_reader
    from clarion.storage.recount import recount

    path = blueprint.store_path(settings)
    if not path.exists():
        return Finding("counts", True, "nothing is stored yet")
    try:
        connection = connect_reader(path)
        try:
            differences = recount(connection)
        finally:
            connection.close()
    except Exception as error:
        # SQLite's own errors, whose type is storage's secret.
        return Finding("counts", False, f"cannot be compared: {_why_storage(error)}")
    return _judge(differences)


def _judge(differences: Sequence[Difference]) -> Finding:
    # Purges remove rows and leave the counts, so only what nothing explains is wrong.
    wrong = [each for each in differences if each.found > each.counted or _is_live(each.status)]
    if not wrong:
        purged = f"; {len(differences)} higher, as a purge leaves them" if differences else ""
        return Finding("counts", True, f"they agree with the rows{purged}")
    told = "; ".join(
        f"{each.channel} {each.status}: {each.counted} counted, {each.found} found"
        for each in wrong
    )
    return Finding("counts", False, told, "keep a copy of the database and report this")


def _is_live(status: str) -> bool:
    from clarion.domain.notification import LIVE

    return status in LIVE


# --- the port --------------------------------------------------------------------------------


def _try_port(host: str, port: int, *, is_running: bool) -> Finding:
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            # Two sockets may be bound under SO_REUSEADDR; only one may listen.
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and is_running:
            return Finding("http", True, f"{where} is in use, most likely by a running Clarion")
        why = (error.strerror or str(error)).lower()
        fix = "stop what listens there, or change server.host or server.port"
        return Finding("http", False, f"cannot listen on {where}: {why}", fix)
    return Finding("http", True, f"{where} is free")


# --- providers -------------------------------------------------------------------------------


async def _try_provider(name: str, settings: Settings) -> Finding:
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
