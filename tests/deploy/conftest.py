"""`deploy/`, read: the Dockerfile as instructions, everything else as documents."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Dockerfile:
    """The instructions of a Dockerfile, in order, each as its word and the text behind it."""

    instructions: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
        lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
        return cls([(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line])

    def all(self, word: str) -> list[str]:
        return [text for name, text in self.instructions if name == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (each.split("=", 1) for text in self.all("ENV") for each in shlex.split(text))
        return dict(pairs)

    @property
    def command(self) -> list[str]:
        return [*json.loads(self.last("ENTRYPOINT")), *json.loads(self.last("CMD"))]

    @property
    def health_check(self) -> tuple[dict[str, str], list[str]]:
        """Its options, and its command."""
        options, command = self.last("HEALTHCHECK").split(" CMD ")
        return dict(re.findall(r"--([\w-]+)=(\S+)", options)), json.loads(command)


class Deploy:
    """The files of `deploy/`."""

    directory = ROOT / "deploy"

    @property
    def dockerfile(self) -> Dockerfile:
        return Dockerfile.read(self.directory / "Dockerfile")

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def documents(self, name: str) -> list[Any]:
        return list(yaml.safe_load_all(self.text(name)))

    def document(self, name: str) -> Any:
        (found,) = self.documents(name)
        return found

    def object(self, name: str, kind: str) -> Any:
        """The one Kubernetes object of a kind."""
        (found,) = (each for each in self.documents(name) if each["kind"] == kind)
        return found


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    return Deploy()
