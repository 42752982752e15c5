"""What `clarion check` tries of the database and the disk that it is on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clarion.cli.finding import Finding
from clarion.errors import ClarionError, StorageUnavailable, StoreLocked

if TYPE_CHECKING:
    from clarion.settings import Settings
    from clarion.storage.recount import Difference

_LET_IT: Final = (
    "let the user that runs Clarion write there, bring back a copy of the file that is whole, or"
    " name another with storage.url"
)

_LET_US: Final = (
    "start the database server, or mend storage.url, the user's rights or the network between"
)

LEAST_FREE_BYTES: Final = 256 * 1024 * 1024
"""Some hundred thousand notifications, and the journal that is written before the file."""
_GIGABYTE: Final = 1_000_000_000


def try_storage(settings: Settings) -> tuple[Finding, bool]:
    """Return what was found, and whether another process, most likely a server, has it."""
    from clarion import blueprint
    from clarion.storage.backend import name_of, open_store

    url, path = blueprint.store_url(settings), blueprint.store_path(settings)
    if path is not None and not path.exists():
        return _try_directory(path), False
    name = name_of(url)
    try:
        open_store(url).try_out()
    except StoreLocked:
        return Finding("storage", True, f"{name} is in use, most likely by a running Clarion"), True
    except StorageUnavailable as error:
        fix = _LET_IT if path is not None else _LET_US
        return Finding("storage", False, str(error), fix), False
    except ClarionError as error:
        # Of another version: the sentence goes on to what can be done.
        detail, _, fix = str(error).partition("; ")
        return Finding("storage", False, detail, fix or _LET_IT), False
    except Exception as error:
        # The database's own errors, whose type is storage's secret.
        fix = "make room, or mend the disk" if path is not None else _LET_US
        return Finding("storage", False, _why_storage(error), fix), False
    return Finding("storage", True, f"{name} can be read and written"), False


def _try_directory(path: Path) -> Finding:
    directory = _existing(path.parent)
    if os.access(directory, os.W_OK | os.X_OK):
        return Finding("storage", True, f"{path} will be created at the first start")
    return Finding(
        "storage",
        False,
        f"{path} does not exist and cannot be created: {directory} may not be written",
        _LET_IT,
    )


def _why_storage(error: Exception) -> str:
    from clarion.storage.failure import storage_failure

    return storage_failure(error) or f"{type(error).__name__}: {error}"


def recount_all(settings: Settings) -> Finding:
    """Compare the counts with every stored row."""
    from clarion import blueprint
    from clarion.storage import backend

    path = blueprint.store_path(settings)
    if path is not None and not path.exists():
        return Finding("counts", True, "nothing is stored yet")
    try:
        differences = backend.recount_all(blueprint.store_url(settings))
    except Exception as error:
        # The database's own errors, whose type is storage's secret.
        fix = "see what is said of the storage; a copy of it can be compared elsewhere"
        return Finding("counts", False, f"cannot be compared: {_why_storage(error)}", fix)
    return _judge(differences)


def _judge(differences: Sequence[Difference]) -> Finding:
    if not differences:
        return Finding("counts", True, "they agree with the rows, and with what retention removed")
    told = "; ".join(
        f"{each.channel} {each.status}: {each.counted} counted, {each.found} found"
        for each in differences
    )
    return Finding("counts", False, told, "keep a copy of the database and report this")


def try_disk(settings: Settings) -> Finding:
    """Tell how much room there is beside the database; a server's disk is not ours to see."""
    from clarion import blueprint

    path = blueprint.store_path(settings)
    directory = _existing(settings.base_dir if path is None else path.parent)
    free = shutil.disk_usage(directory).free
    told = f"{free / _GIGABYTE:,.1f} GB free in {directory}"
    if free >= LEAST_FREE_BYTES:
        return Finding("disk", True, told)
    fix = "make room: on a full disk nothing is accepted, though nothing is lost"
    return Finding("disk", False, told, fix)


def _existing(directory: Path) -> Path:
    while not directory.exists():
        directory = directory.parent
    return directory
