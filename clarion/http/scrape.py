"""`/metrics`: what Prometheus scrapes."""

from __future__ import annotations

from aiohttp import web

from clarion.http.front import FRONT


async def metrics(request: web.Request) -> web.Response:
    """Refresh the gauges and show all metrics, as OpenMetrics where that is asked for."""
    front = request.app[FRONT]
    await front.gauges.refresh()
    body, content_type = front.metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
