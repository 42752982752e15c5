"""The image, without a container engine: its Dockerfile carried out below a directory of the test.

Both stages share that directory, as if it were `/`. What the image runs, runs as the image's user,
who may write where the volume is and nowhere else; that needs root, and is skipped by others.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from clarion.testing.clarion_process import free_port

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef" * 4
START_S, BUILD_S = 60, 500

pytestmark = pytest.mark.timeout(BUILD_S + 2 * START_S)


class Image:
    """What the Dockerfile makes, below `root`."""

    def __init__(self, root: Path, dockerfile, interpreter: str) -> None:
        self.root = root
        self.port = free_port()
        self._dockerfile = dockerfile
        self._bin = root / "usr/local/bin"
        self._bin.mkdir(parents=True)
        # Not a link: venv would take the link's directory for the home of Python.
        python = self._bin / "python"
        python.write_text(f'#!/bin/sh\nexec "{interpreter}" "$@"\n')
        python.chmod(0o755)

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def here(self, text: str) -> str:
        """Return a text of the image with its paths, and its port, as they are here."""
        moved = re.sub(r"(?<![\w.])/(src|opt|etc|var)(?=/|\b)", rf"{self.root}/\1", text)
        return moved.replace("8080", str(self.port))

    def build(self) -> None:
        directory = "/"
        for word, text in self._dockerfile.instructions:
            match word:
                case "WORKDIR":
                    directory = text
                    self.path(directory).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(text, directory)
                case "RUN":
                    self._run_at_build(text, directory)

    def _copy(self, text: str, directory: str) -> None:
        *sources, target = (each for each in text.split() if not each.startswith("--from="))
        if "--from=" in text:
            assert all(self.path(each).exists() for each in sources), text
            return
        for source in sources:
            found = ROOT / source
            place = self.path(os.path.normpath(Path(directory, target)))
            place = place / found.name if target.endswith("/") or target == "." else place
            if found.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, place, ignore=ignored)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(found.read_text())
        settings = self.path("/etc/clarion/settings.toml")
        if settings.exists() and str(self.root) not in settings.read_text():
            moved = settings.read_text().replace("/var/lib", f"{self.root}/var/lib")
            settings.write_text(moved)

    def _run_at_build(self, text: str, directory: str) -> None:
        command = self.here(re.sub(r"--mount=\S+ ", "", text))
        if os.geteuid() != 0:
            command = re.sub(r"-o \d+ -g \d+ ", "", command)
        subprocess.run(
            ["sh", "-ec", command], cwd=self.path(directory), check=True, timeout=BUILD_S,
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"},
        )  # fmt: skip

    # --- what runs in it -------------------------------------------------------------------

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """What a container has: the image's variables, the given ones, nothing of this process."""
        own = {name: self.here(value) for name, value in self._dockerfile.environment.items()}
        own["PATH"] = own["PATH"].replace("$PATH", f"{self._bin}:/usr/bin:/bin")
        return {**own, "CLARION_URL": f"http://127.0.0.1:{self.port}", **given}

    def start(
        self, command: Sequence[str], given: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        environment = self.environment({"CLARION_API_KEY": KEY} if given is None else given)
        user = self._dockerfile.last("USER").split(":")[0]
        # Python may lie where only root can look; reading is all that the capability allows.
        as_user = (
            "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
        )  # fmt: skip
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, command
        return subprocess.Popen(
            [*(as_user if os.geteuid() == 0 else ()), program, *map(self.here, command[1:])],
            cwd=self.path(self._dockerfile.last("WORKDIR")), env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(
        self, command: Sequence[str], given: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it printed."""
        with self.start(command, given) as process:
            output, _ = process.communicate(timeout=START_S)
        return process.returncode, output

    def is_healthy(self) -> bool:
        return self.run(self._dockerfile.health_check[1])[0] == 0

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """Run what the image runs, from its first good health check on."""
        with self.start(self._dockerfile.command) as process:
            try:
                deadline = time.monotonic() + START_S
                while not self.is_healthy():
                    assert process.poll() is None, process.communicate()[0]
                    assert time.monotonic() < deadline, "it does not become healthy"
                yield process
            finally:
                process.kill()

    def files(self) -> dict[str, float]:
        """Everything outside of the volume, with the time of its last change."""
        volume = self.path(self._dockerfile.last("VOLUME"))
        return {
            str(each): each.lstat().st_mtime
            for each in self.root.rglob("*")
            if not each.is_relative_to(volume) and "__pycache__" not in each.parts
        }


@pytest.fixture(scope="module")
def image(deploy) -> Iterator[Image]:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("no setpriv: install util-linux")
    # Not `tmp_path`: that is root's alone, and `access()` heeds no capability.
    with tempfile.TemporaryDirectory(prefix="clarion-image-") as root:
        Path(root).chmod(0o755)
        built = Image(Path(root), deploy.dockerfile, sys._base_executable)
        built.build()
        yield built


def test_the_image_has_every_file_of_the_package(image):
    """Templates, static files and migrations are no Python files, and the wheel needs them, too."""
    (installed,) = image.path("/opt/clarion/lib").glob("python*/site-packages/clarion")

    def files(package: Path) -> set[Path]:
        found = (each.relative_to(package) for each in package.rglob("*") if each.is_file())
        return {each for each in found if "__pycache__" not in each.parts}

    assert files(installed) == files(ROOT / "clarion")


def test_the_settings_of_the_image_pass_the_check(image):
    """Without an argument: the working directory is where the settings are."""
    code, output = image.run(["clarion", "check"])

    assert code == 0, output


def test_the_image_does_not_start_without_a_key(image):
    """It listens to everybody, so that it needs one; and it says which variable is missing."""
    code, output = image.run(["clarion", "serve"], given={})

    assert code == 2
    assert "CLARION_API_KEY" in output


def test_the_image_serves_stops_in_time_and_starts_again(image, deploy):
    """Healthy, a notification delivered, metrics for Prometheus, SIGTERM, and all of it is kept."""
    send = ["clarion", "send", "--channel", "sms", "--to", "+15005550006", "--text", "x", "--wait"]
    before = image.files()

    with image.serving() as first:
        code, output = image.run(send)
        assert code == 0, output
        assert scraped(image) == 200
        assert scraped(image, key="wrong") == 401
        first.send_signal(signal.SIGTERM)
        ended = first.wait(grace_s(deploy))
        assert not image.is_healthy()
    with image.serving():
        code, listed = image.run(["clarion", "list", "--json"])

    assert ended == 0
    assert code == 0
    assert "+15005550006" in listed
    assert image.files() == before


def grace_s(deploy) -> float:
    """Return what Docker leaves between SIGTERM and SIGKILL."""
    grace = yaml.safe_load(deploy.text("compose.yaml"))["services"]["clarion"]["stop_grace_period"]
    return float(grace.removesuffix("s"))


def scraped(image: Image, key: str = KEY) -> int:
    """Ask for the metrics as Prometheus does; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", image.port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()
