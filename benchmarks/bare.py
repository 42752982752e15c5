"""The ceiling: the least that accepts durably and delivers, in one process, with no feature.

aiohttp in, one fsynced SQLite group commit on a thread, 202, aiohttp out. No validation, no
order, no retry, no record of the end: what Clarion does beyond this is what its ratio costs.

Run alone: `python -m benchmarks.bare --sink http://127.0.0.1:9000 --database /tmp/bare.db`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks import loop, mail

Item = tuple[str, str, "asyncio.Future[None]"]


class GroupCommit:
    """One thread that commits what gathered while the last commit was on its way to the disk."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE bare (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
        self._inbox: list[Item] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def write(self, id: str, body: str) -> None:
        """Return once the row is durable."""
        durable = self._loop.create_future()
        with self._changed:
            self._inbox.append((id, body, durable))
            self._changed.notify()
        await durable

    def close(self) -> None:
        """Commit what is left and stop."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while batch := self._take():
            self._connection.execute("BEGIN IMMEDIATE")
            rows = [(id, body) for id, body, _ in batch]
            self._connection.executemany("INSERT INTO bare VALUES (?, ?)", rows)
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, batch)

    def _take(self) -> list[Item]:
        with self._changed:
            while not self._inbox and not self._is_closing:
                self._changed.wait()
            batch, self._inbox = self._inbox, []
            return batch


def _resolve(batch: list[Item]) -> None:
    for *_, durable in batch:
        if not durable.done():
            durable.set_result(None)


class Pipeline:
    """Accepts, makes durable, delivers; `slots` deliveries at a time."""

    def __init__(self, commit: GroupCommit, session: aiohttp.ClientSession, sink: str) -> None:
        self._commit = commit
        self._session = session
        self._url = f"{sink}{mail.PATH}"
        self._accepted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._numbers = itertools.count(1)

    async def accept(self, request: web.Request) -> web.Response:
        """Answer 202 once the notification is durable."""
        text = await request.text()
        body = json.loads(text)
        id = f"{next(self._numbers):026d}"
        await self._commit.write(id, text)
        self._accepted.put_nowait(body)
        answer = {"id": id, "channel": body["channel"], "status": "queued"}
        return web.json_response(answer, status=202)

    async def deliver(self) -> None:
        """Be one slot: send one after the other."""
        while True:
            body = await self._accepted.get()
            sent = mail.from_notification(body)
            async with self._session.post(self._url, json=sent) as response:
                await response.read()


async def serve(sink: str, database: Path, slots: int) -> None:
    """Listen on a loopback port of the kernel's choice until told to stop."""
    commit = GroupCommit(database)
    connector = aiohttp.TCPConnector(limit=slots)
    async with aiohttp.ClientSession(connector=connector) as session:
        pipeline = Pipeline(commit, session, sink)
        senders = [asyncio.create_task(pipeline.deliver()) for _ in range(slots)]
        app = web.Application()
        app.router.add_post("/v1/notifications", pipeline.accept)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        loop.announce(runner.addresses[0][1])
        await loop.until_told_to_stop()
        for sender in senders:
            sender.cancel()
        await runner.cleanup()
    commit.close()


def main() -> None:
    """Run the bare pipeline as a program."""
    parser = argparse.ArgumentParser(description="the least that accepts durably and delivers")
    parser.add_argument("--sink", required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=32)
    asked = parser.parse_args()
    loop.run(serve(asked.sink, asked.database, asked.slots))


if __name__ == "__main__":
    main()
