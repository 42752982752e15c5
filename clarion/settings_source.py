"""Where settings come from, and how their faults are told: TOML, environment, secrets.

Keys in faults are written as in the file: `providers.mail.breaker.timeout`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clarion.errors import Fault

T = TypeVar("T", bound=BaseModel)

_PREFIX = "CLARION_"
_MAX_SECRET = 64_000


class Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, key: str, detail: str) -> None:
        """Note one fault of one key."""
        self.found.append(Fault(detail, key))


def near(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?", or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def document_of(
    file: Path, *, is_required: bool, env: Mapping[str, str] | None, faults: Faults
) -> dict[str, Any]:
    """Return the tables of the file with the environment laid over them and secrets looked up."""
    variables = os.environ if env is None else env
    document = _read(file, is_required=is_required, faults=faults)
    for name in sorted(variables):
        if name.startswith(_PREFIX) and "__" in name:
            _overlay(document, name, variables[name], faults)
    resolved: dict[str, Any] = _look_up(document, "", file.resolve().parent, variables, faults)
    return resolved


def _read(file: Path, *, is_required: bool, faults: Faults) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if is_required:
            faults.add(str(file), "there is no such file; name another with --settings")
    except (OSError, UnicodeDecodeError) as error:
        faults.add(str(file), f"cannot be read: {error}")
    except tomllib.TOMLDecodeError as error:
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
    """Return the key as the file spells it: environment names know no case."""
    return next((key for key in known if key.casefold() == name.casefold()), name.lower())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _look_up(value: Any, key: str, base_dir: Path, env: Mapping[str, str], faults: Faults) -> Any:
    """Replace "env:NAME" and "file:PATH" by what they stand for."""
    if isinstance(value, dict):
        return {
            name: _look_up(each, f"{key}.{name}".lstrip("."), base_dir, env, faults)
            for name, each in value.items()
        }
    if not isinstance(value, str):
        return value
    kind, _, name = value.partition(":")
    if kind == "env":
        if name not in env:
            faults.add(key, f"the environment variable {name} is not set")
        return env.get(name, "")
    if kind == "file":
        return _secret_in(base_dir / name, key, faults)
    return value


def _secret_in(file: Path, key: str, faults: Faults) -> str:
    try:
        return file.read_text("utf-8")[:_MAX_SECRET].strip()
    except (OSError, UnicodeDecodeError) as error:
        faults.add(key, f"the file {file} cannot be read: {error}")
        return ""


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
            faults.add(key, _words(each, model, location, also_known))
        return None
    return checked


def _words(
    error: Any, model: type[BaseModel], location: Sequence[str], also_known: Collection[str]
) -> str:
    if error["type"] == "extra_forbidden":
        known = sorted({*_keys(model, location), *(also_known if len(location) == 1 else ())})
        return f"there is no such key{near(location[-1], known)}"
    if error["type"] == "missing":
        return "is missing"
    message: str = error["msg"]
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
