"""The reference of the command line, written from the commands themselves: `make reference`.

What stands in docs/cli.md below the mark comes from here, word for word what `--help` says. The
guide above it is written by hand. A test fails where the page is not what this would write.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from clarion.cli.command import app

MARK: Final = (
    "<!-- Below this line `make reference` writes what the commands say of themselves. -->"
)


_OF_TYPER: Final = {
    "install_completion": "Set up completion of commands, options and names for your shell.",
    "show_completion": "Print what --install-completion would set up.",
}
"""Options whose help is typer's own, which may change with its version."""


def main() -> int:
    """Write the reference into the page that is named; 1 where it has no mark."""
    page = Path(sys.argv[1])
    text = page.read_text(encoding="utf-8")
    if MARK not in text:
        sys.stderr.write(f"{page} has no line {MARK}\n")
        return 1
    page.write_text(with_reference(text), encoding="utf-8")
    return 0


def with_reference(page: str) -> str:
    """Return a page with everything below its mark written anew."""
    guide, _, _ = page.partition(MARK)
    return f"{guide}{MARK}\n\n" + "\n".join(_lines())


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, by its full name, as help orders them."""
    root = typer.main.get_command(app)
    yield "clarion", root
    yield from _inside("clarion", root)


def _inside(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for word, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from _inside(f"{name} {word}", each)
        else:
            yield f"{name} {word}", each


def _lines() -> Iterator[str]:
    for name, command in commands():
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        yield f"## {name}\n"
        yield f"{_escaped(inspect.cleandoc(command.help))}\n"
        yield f"`{' '.join([name, *map(_usage, arguments), '[OPTIONS]'])}`\n"
        yield "| | meaning |"
        yield "|---|---|"
        yield from (f"| `{_usage(each)}` | {_meaning(each)} |" for each in arguments)
        yield from (f"| {_spelling(each)} | {_meaning(each)} |" for each in options)
        yield "| `-h`, `--help` | Show help and exit. |\n"


def _usage(argument: Any) -> str:
    dots = "…" if argument.nargs == -1 else ""
    return f"{argument.metavar}{dots}" if argument.required else f"[{argument.metavar}{dots}]"


def _spelling(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or 'WORD'}"
    return ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))


def _meaning(parameter: Any) -> str:
    told = _OF_TYPER.get(parameter.name) or inspect.cleandoc(parameter.help or "")
    told = _escaped(told).replace("\n", " ")
    has_default = isinstance(parameter.default, str | int | float) and not isinstance(
        parameter.default, bool
    )
    return f"{told} Default: {parameter.default}." if has_default else told


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
