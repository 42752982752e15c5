"""The command line: `clarion serve`, `check`, and what talks to a running server."""

from clarion.cli.command import main

__all__ = ["main"]
