"""What `clarion check` found out about one thing, and how it is shown."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from clarion.cli.output import Output, make_console
from clarion.cli.wording import clean, counted

_STYLES: Final = {"ok": "green", "note": "yellow", "FAIL": "bold red"}
_MAX_WIDTH: Final = 110
"""Sentences over the whole of a wide window are hard to read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried, whether it works, what was seen, and what to do about it.

    With a `fix` although it is `ok`, it is something to know of, which may be meant.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""

    @property
    def word(self) -> str:
        """How it came out."""
        if not self.ok:
            return "FAIL"
        return "note" if self.fix else "ok"

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def show_findings(out: Output, findings: Sequence[Finding]) -> None:
    """Print a line for each, and the number of those that do not work."""
    name_width = max(len(each.name) for each in findings)
    for each in findings:
        _show(each, name_width)
    failed = sum(not each.ok for each in findings)
    if failed:
        out.note(f"{counted(len(findings), 'thing')} tried, {failed:,} of them failed")
    else:
        out.note("everything works")


def _show(finding: Finding, name_width: int) -> None:
    from rich.text import Text

    margin = " " * (len("FAIL") + 2 + name_width + 2)
    told, *more = _folded(finding.detail, margin)
    if finding.fix:
        more += _folded(f"> {finding.fix}", margin)
    word = (f"{finding.word:<4}", _STYLES[finding.word])
    console = make_console()
    console.print(
        Text.assemble(word, f"  {finding.name:<{name_width}}  {clean(told)}"), soft_wrap=True
    )
    for line in more:
        console.print(Text(margin + clean(line)), soft_wrap=True)


def _folded(text: str, margin: str) -> list[str]:
    if not sys.stdout.isatty():
        return [" ".join(text.split())]
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH) - len(margin)
    return textwrap.wrap(text, max(width, 20), break_on_hyphens=False) or [""]
