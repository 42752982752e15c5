"""The pages at `/`: what an operator looks at, and does.

Each page is a list of parts, every one a template of its own. A browser with scripts gets the parts
that change over an event stream from the page's own address (`live`); one without loads the page
anew. What changes something is a form (`steering`, `dead_letters`), answered with a redirect to the
page that shows what came of it, so every page works without a script.
"""

from __future__ import annotations

from aiohttp import web

from clarion.http.dashboard import dead_letters, overview, steering, story
from clarion.http.dashboard.drawing import add_drawing
from clarion.http.dashboard.live import add_live


def add_dashboard(app: web.Application) -> None:
    """Add the pages and what they are drawn with; the app has its `Front` under `FRONT`."""
    add_drawing(app)
    add_live(app)
    for module in (overview, story, dead_letters, steering):
        module.add(app)


__all__ = ["add_dashboard"]
