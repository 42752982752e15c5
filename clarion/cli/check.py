"""`clarion check`: would it start, and would its providers take a message? In plain words.

Nothing is sent and no server is needed. A database that is not there yet is not created; one that
is there is opened as the server opens it, which brings its schema up to date. What is tried stands
in `check_storage` and `check_provider`.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clarion.cli.finding import Finding, show_findings
from clarion.cli.option import ExitCode, Json, SettingsFile, guarded, output
from clarion.cli.wording import counted

if TYPE_CHECKING:
    from clarion.settings import Settings


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
    import asyncio

    from clarion.settings import load

    out = output(context, as_json)
    loaded = load(settings)
    with out.busy("trying everything that a server depends on"):
        found = asyncio.run(examine(loaded, with_recount=recount))
    findings = [_tell_settings(settings, loaded), *found]
    is_fine = all(finding.ok for finding in findings)
    if out.is_json:
        out.document({"ok": is_fine, "checks": [each.document() for each in findings]})
    else:
        show_findings(out, findings)
    if not is_fine:
        raise typer.Exit(ExitCode.NO)


async def examine(settings: Settings, *, with_recount: bool = False) -> list[Finding]:
    """Try everything that a server would depend on, and return what was found, in that order."""
    import asyncio

    from clarion.cli import check_provider, check_redis, check_storage

    storage, is_running = await asyncio.to_thread(check_storage.try_storage, settings)
    findings = [storage, check_storage.try_disk(settings)]
    if with_recount and storage.ok:
        findings.append(await asyncio.to_thread(check_storage.recount_all, settings))
    if settings.redis.url:
        findings.append(await check_redis.try_redis(settings))
    server, names = settings.server, list(settings.providers)
    findings.append(try_port(server.host, server.port, is_running=is_running))
    findings += check_provider.try_kinds()
    tries = [check_provider.try_provider(name, settings) for name in names]
    findings += await asyncio.gather(*tries)
    receipts = [check_provider.try_receipts(name, settings) for name in names]
    findings += [each for each in receipts if each is not None]
    return [*findings, *(_tell_hook(name, settings) for name in settings.hooks)]


# --- settings --------------------------------------------------------------------------------


def _tell_settings(path: Path | None, settings: Settings) -> Finding:
    from clarion.settings import DEFAULT_FILE

    file = settings.base_dir / (path or DEFAULT_FILE).name
    what = ", ".join(
        counted(len(found), word)
        for found, word in (
            (settings.channels, "channel"), (settings.providers, "provider"),
            (settings.hooks, "hook"),
        )
        if found
    )  # fmt: skip
    told = str(file) if file.exists() else f"no {file}, so defaults"
    return Finding("settings", True, f"{told}: {what}")


def _tell_hook(name: str, settings: Settings) -> Finding:
    # Credential and templates were tried with the settings: a fault there is exit code 2.
    url = settings.server.public_url.rstrip("/")
    return Finding(f"hook {name}", True, f"taken at {url}/hooks/{name}; its templates are right")


# --- the port --------------------------------------------------------------------------------


def try_port(host: str, port: int, *, is_running: bool) -> Finding:
    """Try to listen where the server would."""
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
