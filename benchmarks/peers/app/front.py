"""The web front of a peer: accepts a notification, enqueues it, answers 202.

Run in the peer's environment: `python -m benchmarks.peers.app.front MODULE --port 8080`. The
module gives `producer()`, a context whose value enqueues a notification.
"""

from __future__ import annotations

import argparse
import importlib

from aiohttp import web

from benchmarks import loop


async def serve(module_name: str, port: int) -> None:
    """Listen on the loopback port until told to stop."""
    module = importlib.import_module(module_name)
    async with module.producer() as enqueue:

        async def accept(request: web.Request) -> web.Response:
            notification = await request.json()
            await enqueue(notification)
            answer = {"channel": notification["channel"], "status": "queued"}
            return web.json_response(answer, status=202)

        app = web.Application()
        app.router.add_post("/v1/notifications", accept)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await loop.until_told_to_stop()
        await runner.cleanup()


def main() -> None:
    """Run the front as a program."""
    parser = argparse.ArgumentParser(description="the web front of a peer")
    parser.add_argument("module")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    loop.run(serve(asked.module, asked.port))


if __name__ == "__main__":
    main()
