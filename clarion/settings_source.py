"""Where settings come from, and how their faults are told: TOML, environment, secrets.

Keys in faults are written as in the file: `providers.mail.breaker.timeout`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clarion.errors import Fault

T = TypeVar("T", bound=BaseModel)

_PREFIX = "CLARION_"
_MAX_SECRET_CHARS = 64_000
_MAX_DEPTH = 8
"""No key lies deeper; what does is refused as unknown, without being walked."""


class Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.unresolved: set[str] = set()
        """Keys whose secret was not found: what else is wrong with them only follows from it."""

    def add(self, key: str, detail: str) -> None:
        """Note one fault of one key."""
        self.found.append(Fault(detail, key))


def near(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?", or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        # str(): the repr of a StrEnum is its source, not its word.
        return f"; did you mean {str(close[0])!r}?"
    return f"; there are {', '.join(known)}" if known else ""


def document_of(
    file: Path, *, is_required: bool, env: Mapping[str, str] | None, faults: Faults
) -> dict[str, Any]:
    """Return the tables of the file with the environment laid over them and secrets looked up."""
    variables = os.environ if env is None else env
    document = _read(file, is_required=is_required, faults=faults)
    for name in sorted(variables):
        if name.startswith(_PREFIX) and "__" in name:
            _overlay(document, name, variables[name], faults)
    secrets = _Secrets(file.resolve().parent, variables, faults)
    resolved: dict[str, Any] = secrets.look_up(document, "")
    return resolved


def _read(file: Path, *, is_required: bool, faults: Faults) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if is_required:
            faults.add(str(file), "there is no such file; name another with --settings")
    except (OSError, UnicodeDecodeError) as error:
        faults.add(str(file), f"cannot be read: {error}")
    except (ValueError, RecursionError) as error:
        # tomllib lets Python's own limits through: huge integers, deep nesting.
        faults.add(str(file), f"is not valid TOML: {error}")
    return {}


def _overlay(document: dict[str, Any], name: str, text: str, faults: Faults) -> None:
    *tables, key = name.removeprefix(_PREFIX).split("__")
    place = document
    for table in tables:
        place = place.setdefault(_spelling(table, place), {})
        if not isinstance(place, dict):
            faults.add(name, "this environment variable goes into something that is no table")
            return
    place[_spelling(key, place)] = _value(text)


def _spelling(name: str, known: Mapping[str, Any]) -> str:
    """Return the key as the file spells it: environment names know neither case nor hyphens."""
    return next((key for key in known if _plain(key) == _plain(name)), name.lower())


def _plain(key: str) -> str:
    return key.casefold().replace("-", "_")


def _value(text: str) -> Any:
    """Return a list or a table as what it says, and everything else as the text that it is.

    The tables turn text into numbers where numbers belong; a key made of digits stays a text.
    """
    if text.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return tomllib.loads(f"value = {text.strip()}")["value"]
    return text


class _Secrets:
    """Replaces "env:NAME" and "file:PATH" by what they stand for."""

    def __init__(self, base_dir: Path, env: Mapping[str, str], faults: Faults) -> None:
        self._base_dir = base_dir
        self._env = env
        self._faults = faults

    def look_up(self, value: Any, key: str, depth: int = 0) -> Any:
        """Return the value with everything inside it looked up."""
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            return {
                name: self.look_up(each, f"{key}.{name}".lstrip("."), depth + 1)
                for name, each in value.items()
            }
        if not isinstance(value, str):
            return value
        kind, _, name = value.partition(":")
        match kind:
            case "env":
                return self._in_environment(name, key)
            case "file":
                return self._in_file(self._base_dir / name, key)
            case _:
                return value

    def _in_environment(self, name: str, key: str) -> str:
        found = self._env.get(name, "")
        if not found:
            what = "is empty" if name in self._env else "is not set"
            self._miss(key, f"the environment variable {name} {what}")
        return found

    def _in_file(self, file: Path, key: str) -> str:
        try:
            with file.open(encoding="utf-8") as opened:
                found = opened.read(_MAX_SECRET_CHARS).strip()
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
            self._miss(key, f"the file {file} cannot be read: {error}")
            return ""
        if not found:
            self._miss(key, f"the file {file} is empty")
        return found

    def _miss(self, key: str, detail: str) -> None:
        self._faults.add(key, detail)
        self._faults.unresolved.add(key)


def faults_of(
    model: type[T] | Any,
    table: Any,
    path: str,
    faults: Faults,
    *,
    also_known: Collection[str] = (),
) -> T | None:
    """Check a table against its model; note every fault and return None if there is one."""
    try:
        checked: T = model.model_validate(table)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            location = [str(part) for part in each["loc"]]
            key = ".".join([path, *location])
            if key in faults.unresolved:
                continue
            faults.add(key, _words(each, model, location, also_known))
        return None
    return checked


def _words(
    error: Any, model: type[BaseModel], location: Sequence[str], also_known: Collection[str]
) -> str:
    message: str = error["msg"]
    match error["type"]:
        case "extra_forbidden":
            known = sorted({*_keys(model, location), *(also_known if len(location) == 1 else ())})
            return f"there is no such key{near(location[-1], known)}"
        case "missing":
            return "is missing"
        case "model_type" | "dict_type":
            return "must be a table"
        case _:
            return message.removeprefix("Value error, ").replace("Input should", "should")


def _keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys that the table at `location` knows."""
    for part in location[:-1]:
        inner = next(
            (
                field.annotation
                for name, field in model.model_fields.items()
                if part in (name, field.alias)
            ),
            None,
        )
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
