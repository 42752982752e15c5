"""Threads for adapters whose library blocks: one pykka ThreadingActor a slot, one call at a time.

::

    loop:    send ──> a free worker      time limit ──> UNKNOWN, `wire.lingering`
                           │                                  ┊
    thread:                └──> adapter.send ················ returns ──> the worker is free again

A thread cannot be stopped. A call that is cut off goes on in its thread, which may yet send the
message, so it counts as written, and its worker stays taken until the thread returns. Nothing waits
behind a worker that is taken: the Supervisor knows how many are (`Lingering`), and what comes all
the same is answered before the wire. Threads are made when they are first needed, and are daemons:
one that hangs keeps no process alive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import pykka

from clarion.domain.outcome import Answer, Health, Outcome
from clarion.providers.base import Adapter, Outgoing, Wire
from clarion.providers.blocking import BlockingAdapter

T = TypeVar("T")


def on_the_loop(adapter: Adapter | BlockingAdapter, max_concurrent: int) -> Adapter:
    """Return the adapter as the Provider actor needs it: one that blocks gets its threads."""
    if not getattr(adapter, "is_blocking", False):
        return cast(Adapter, adapter)
    return Threaded(cast(BlockingAdapter, adapter), max_concurrent)


@dataclass(frozen=True, slots=True)
class _Work:
    """One call for one worker; `post` tells the loop what it came to."""

    run: Callable[[], Any]
    post: Callable[[Any, Exception | None], None]


class _Worker(pykka.ThreadingActor):
    """One thread; owns nothing, and runs what `Threaded` gives it."""

    use_daemon_thread = True

    def __init__(self, name: str, at_end: Callable[[], None]) -> None:
        super().__init__()
        self._name = name
        self._at_end = at_end

    def on_start(self) -> None:
        """Name the thread after its provider, for whoever looks for what hangs."""
        threading.current_thread().name = self._name

    def on_receive(self, message: _Work) -> None:
        """Run one call, and tell what it came to whatever that is."""
        try:
            result = message.run()
        except Exception as error:  # the thread boundary: whoever waits is told
            message.post(None, error)
        except BaseException as error:  # pykka would stop every actor of the process
            message.post(None, RuntimeError(f"a library wanted to end the process: {error!r}"))
        else:
            message.post(result, None)

    def on_stop(self) -> None:
        """Say that this thread ends."""
        self._at_end()


Worker = pykka.ActorRef[_Worker]


class Threaded:
    """Makes an `Adapter` of a `BlockingAdapter`: at most `max_concurrent` calls, each in a thread.

    One thread more opens the adapter and probes. The last thread to end closes it.
    """

    kind: ClassVar[str] = "threaded"
    channels: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, adapter: BlockingAdapter, max_concurrent: int) -> None:
        self._adapter = adapter
        self._max_concurrent = max_concurrent
        self._name = str(getattr(adapter, "name", adapter.kind))
        self._free: list[Worker] = []
        self._workers: list[Worker] = []
        self._clerk: Worker | None = None
        """Opens and probes; None before `open` and after `close`."""
        self._is_clerk_free = True
        self._calls = 0
        self._living = 0
        self._lock = threading.Lock()
        """Guards `_living`, the one thing that threads change."""
        self._ended: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Threaded({self._adapter!r})"

    async def open(self) -> None:
        """Open the adapter, in a thread."""
        self._ended = asyncio.get_running_loop().create_future()
        self._ended.add_done_callback(_take_note)
        self._clerk = self._start_worker("clerk")
        try:
            await self._on(self._clerk, self._adapter.open)
        except BaseException:
            self._stop_workers()
            raise

    async def send(self, outgoing: Outgoing, wire: Wire) -> Answer:
        """Make one call in a thread of its own; where none is free, nothing is sent."""
        worker = self._free_worker()
        if worker is None:
            detail = f"all {self._max_concurrent} threads of this provider are taken, or hang"
            return Answer(
                Outcome.THROTTLED, "no_free_thread", f"{detail}; nothing was sent",
                surely_not_accepted=True,
            )  # fmt: skip
        seen = Wire()
        returned = self._on(worker, lambda: self._adapter.send(outgoing, seen))
        self._calls += 1
        returned.add_done_callback(lambda _: self._set_free(worker))
        try:
            return await asyncio.shield(returned)
        except asyncio.CancelledError:
            # Even if it had written nothing yet, the thread will go on and write it.
            seen.is_written = True
            wire.lingering = returned
            raise
        finally:
            wire.is_written, wire.is_host_only = seen.is_written, seen.is_host_only

    async def probe(self) -> Health:
        """Probe in a thread of its own; never behind a probe that hangs."""
        if self._clerk is None:
            raise RuntimeError("the adapter is not open")
        if not self._is_clerk_free:
            return Health(False, "the thread of an earlier health probe still hangs")
        self._is_clerk_free = False
        returned = self._on(self._clerk, self._adapter.probe)
        returned.add_done_callback(self._set_clerk_free)
        return await asyncio.shield(returned)

    async def close(self) -> None:
        """End the threads and close the adapter; where a thread hangs, that happens behind it."""
        if self._clerk is None or self._ended is None:
            return
        does_hang = self._calls > 0 or not self._is_clerk_free
        self._stop_workers()
        if not does_hang:
            await asyncio.shield(self._ended)

    def _free_worker(self) -> Worker | None:
        if self._clerk is None:
            raise RuntimeError("the adapter is not open")
        if self._free:
            return self._free.pop()
        if len(self._workers) > self._max_concurrent:  # the clerk is one of them
            return None
        return self._start_worker(str(len(self._workers)))

    def _start_worker(self, title: str) -> Worker:
        with self._lock:
            self._living += 1
        worker = _Worker.start(f"{self._name}-{title}", self._worker_ended)
        self._workers.append(worker)
        return worker

    def _stop_workers(self) -> None:
        self._clerk = None
        for worker in self._workers:
            worker.stop(block=False)

    def _set_free(self, worker: Worker) -> None:
        self._calls -= 1
        self._free.append(worker)

    def _set_clerk_free(self, _returned: asyncio.Future[Health]) -> None:
        self._is_clerk_free = True

    def _on(self, worker: Worker, run: Callable[[], T]) -> asyncio.Future[T]:
        """Run something in a worker's thread; the future is done when that has returned."""
        loop = asyncio.get_running_loop()
        returned: asyncio.Future[T] = loop.create_future()
        worker.tell(_Work(run, _poster(loop, returned)))
        return returned

    def _worker_ended(self) -> None:
        """Close the adapter behind the last call; runs in the thread that ends."""
        with self._lock:
            self._living -= 1
            is_last = self._living == 0
        if not is_last or self._ended is None:
            return
        post = _poster(self._ended.get_loop(), self._ended)
        try:
            self._adapter.close()
        except Exception as error:  # the thread boundary: whoever closes is told
            post(None, error)
        else:
            post(None, None)


def _poster(
    loop: asyncio.AbstractEventLoop, returned: asyncio.Future[Any]
) -> Callable[[Any, Exception | None], None]:
    def post(result: Any, error: Exception | None) -> None:
        # A thread may return long after the loop it was started from is closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, returned, result, error)

    return post


def _settle(returned: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if returned.done():
        return
    if error is None:
        returned.set_result(result)
    else:
        returned.set_exception(error)


def _take_note(ended: asyncio.Future[None]) -> None:
    # Where a thread hung, nobody waits any more for how the closing went.
    if not ended.cancelled():
        ended.exception()
