"""The front door: an engine behind HTTP, until the process is told to stop.

::

    start: the engine (see `app`) · listen
    stop:  drain the engine, which HTTP goes on telling about · stop listening · the engine
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from clarion import blueprint
from clarion.app import Engine, Surroundings, running
from clarion.errors import Fault, SettingsError, StorageUnavailable, StoreLocked
from clarion.http.app import make_app
from clarion.http.connection import Runner
from clarion.http.front import Front
from clarion.settings import Settings

log = structlog.get_logger(__name__)

YOUNG_OBJECTS = 50_000
"""Objects made before the collector looks for cycles among them (Python's own default: 700)."""


async def serve(settings: Settings, surroundings: Surroundings | None = None) -> int:
    """Serve HTTP until SIGTERM or SIGINT; return the exit code of the process."""
    ended = asyncio.Event()
    _heed_signals(ended.set)
    try:
        around = replace(surroundings or Surroundings(), is_given_up=ended.is_set)
        return await _serve_until(ended, settings, around)
    except (StorageUnavailable, StoreLocked):
        if not ended.is_set():
            raise
        log.info("stopped", why="told to while it waited for its store")
        return 0


async def _serve_until(ended: asyncio.Event, settings: Settings, around: Surroundings) -> int:
    async with running(settings, around) as engine, _listening(engine) as url:
        _look_for_cycles_rarely()
        engine.nodes.listens_at(url)
        log.info("serving", url=url, pid=os.getpid())
        await _first(ended, engine.failed)
        log.info("stopping", drain_s=settings.server.drain)
    return 1 if engine.failed.is_set() else 0


def _look_for_cycles_rarely() -> None:
    """Let the collector pass over what lives as long as the process, and seldom look at the rest.

    A notification makes hundreds of objects and hardly a cycle; at the default, looking for them is
    a sixth of the CPU time. The process is ours alone: `clarion.start()` leaves its host as it is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def _heed_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def heed(_number: int, _frame: object) -> None:
        with suppress(RuntimeError):  # The loop is closed: the end is near already.
            loop.call_soon_threadsafe(stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        # Not the loop's: at its end it would let the second of two signals kill the process.
        signal.signal(number, heed)


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _front(engine: Engine) -> Front:
    server = engine.settings.server
    public = urlsplit(server.public_url.lower())
    return Front(
        service=engine.service,
        metrics=engine.metrics,
        gauges=engine.gauges,
        clock=engine.clock,
        api_key=server.api_key.get_secret_value(),
        max_body_bytes=server.max_body,
        is_started=lambda: engine.is_started,
        is_draining=lambda: engine.is_draining,
        version=version("clarion"),
        hosts=frozenset({public.hostname} if public.hostname else ()),
        public_origin=f"{public.scheme}://{public.netloc}" if public.netloc else "",
        hooks={name: table.hook(name) for name, table in engine.settings.hooks.items()},
        receipt_readers=blueprint.receipt_readers(engine.settings),
        new_id=engine.new_id,
    )


@asynccontextmanager
async def _listening(engine: Engine) -> AsyncIterator[str]:
    """Serve HTTP inside the block; gives the URL, with the real port where 0 was asked for."""
    server = engine.settings.server
    runner = Runner(make_app(_front(engine)))
    await runner.setup()
    try:
        await web.TCPSite(runner, server.host, server.port).start()
    except OSError as error:
        await runner.cleanup()
        # asyncio's own words repeat the address.
        code = error.errno or 0
        why = os.strerror(code).lower() if code > 0 else str(error)
        detail = f"cannot listen on {server.host}:{server.port}: {why}"
        raise SettingsError([Fault(detail, "server.port")]) from error
    try:
        yield _url(server.host, runner.addresses[0][1])
    finally:
        await engine.drain()
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
