"""Bar charts as SVG, light and dark, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
_NAMES = 120
_VALUES = 70
_TOP = 44
_ROW = 26
_BAR = 18
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px }
  .name { text-anchor: end }
  .ours { fill: #0969da } .peer { fill: #8c959f } .ceiling { fill: #d0d7de }
  text.ours { fill: #0969da; font-weight: 600 } text.peer, text.ceiling { fill: #24292f }
  @media (prefers-color-scheme: dark) {
    text, text.peer, text.ceiling { fill: #e6edf3 }
    .ours, text.ours { fill: #58a6ff } .peer { fill: #6e7681 } .ceiling { fill: #30363d }
  }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart."""

    name: str
    value: float
    label: str
    role: str
    """`ours`, `peer` or `ceiling`: how it is coloured."""


def bars(title: str, found: Sequence[Bar]) -> str:
    """Return the chart; the longest bar has the whole width."""
    height = _TOP + _ROW * len(found) + 8
    most = max((bar.value for bar in found), default=0.0) or 1.0
    room = WIDTH - _NAMES - _VALUES
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="24">{escape(title)}</text>',
    ]
    for row, bar in enumerate(found):
        lines += _bar(bar, _TOP + row * _ROW, max(bar.value / most * room, 1.0))
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: Bar, y: int, length: float) -> list[str]:
    baseline = y + _BAR - 4
    behind = f"{_NAMES + length + 8:.1f}"
    return [
        f'<text class="name {bar.role}" x="{_NAMES - 10}" y="{baseline}">{escape(bar.name)}</text>',
        f'<rect class="{bar.role}" x="{_NAMES}" y="{y}" width="{length:.1f}" height="{_BAR}"/>',
        f'<text class="{bar.role}" x="{behind}" y="{baseline}">{escape(bar.label)}</text>',
    ]
