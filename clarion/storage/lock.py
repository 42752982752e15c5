"""The lock beside the database: one process owns the file, a second one is turned away.

The lock lives in a file of its own. Opening and closing the database file itself would drop the
locks that SQLite holds on it for the whole process (POSIX record locks belong to the process).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from clarion.errors import StoreLocked


class FileLock:
    """An exclusive lock that the kernel frees when its process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise `StoreLocked`; never waits."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreLocked(_refusal(self._path, owner)) from error
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, since removing it would race with a new owner."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _refusal(path: Path, owner: str) -> str:
    database = str(path).removesuffix(".lock")
    process = f"process {owner}" if owner else "another process"
    return (
        f"the database {database} is in use by {process};"
        " stop it first, or give this one another storage.url"
    )
