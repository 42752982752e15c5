"""Which database a URL names, and what is wrong with one that names none."""

from __future__ import annotations

from pathlib import Path

SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")


def is_postgresql(url: str) -> bool:
    """Say whether the URL names a PostgreSQL database."""
    return url.startswith(_POSTGRESQL)


def sqlite_path(url: str) -> Path | None:
    """Return the file that a URL names; None where it is no SQLite URL."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def url_fault(url: str) -> str | None:
    """Say what is wrong with the URL of a store, without the URL: it may hold a password."""
    if is_postgresql(url):
        return _postgresql_fault(url)
    path = url.removeprefix(SQLITE)
    if path == url or path in ("", ":memory:") or not path.isprintable():
        return (
            "names no database that Clarion can use; write sqlite:///clarion.db (relative to this"
            " file), sqlite:////var/lib/clarion.db (absolute) or postgresql://user@host/name"
        )
    return None


def _postgresql_fault(url: str) -> str | None:
    try:
        import psycopg
    except ImportError:
        return "PostgreSQL needs a driver that is not installed: pip install 'clarion[postgres]'"
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # libpq quotes what it does not understand, a password among it.
        told, _, _ = " ".join(str(error).split()).partition('"')
        return f"cannot be read as a PostgreSQL URL: {told.strip(' :')}"
    # A password with such a sign is read as part of them, and would be told as their name.
    if any("@" in str(parts.get(name, "")) for name in ("host", "port", "dbname")):
        return "has an @, / or other sign in user or password that has to be written as %40, %2F …"
    return None
