"""Schemathesis, an independent judge, holds a real server to the document that it gives out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clarion.http.endpoint import ENDPOINTS
from clarion.testing import ClarionProcess

EXAMPLES = int(os.environ.get("CLARION_FUZZ_EXAMPLES", "6"))
"""Cases that are drawn for each operation, beside the many hundreds that the schemas call for."""
SEED = 1
KEY, HOOK_TOKEN = "k" * 32, "t" * 32

CHECKS = Path(__file__).with_name("schemathesis.toml")
SETTINGS = f"""
server.api_key = "{KEY}"
[providers.outbox]
[channels.email]
providers = ["outbox"]
[channels.sms]
providers = ["outbox"]
[channels.push]
providers = ["outbox"]
[channels.chat]
providers = ["outbox"]
[channels.webhook]
providers = ["outbox"]
[hooks.alerts]
token = "{HOOK_TOKEN}"
[hooks.alerts.notification]
channel = "email"
to = "oncall@example.com"
text = "{{{{ payload }}}}"
"""

CANNOT_BE_SENT = {"POST /callbacks/{provider}", "POST /v1/notifications/{id}/resolve"}
"""What only a provider can sign, and what only an unknown outcome has need of."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(120 + 10 * EXAMPLES)
async def test_the_server_keeps_to_its_document_whatever_is_sent(tmp_path):
    """No 500, no hang, no answer that is not described, nothing taken that is forbidden.

    All checks of schemathesis, in all its phases; `CLARION_FUZZ_EXAMPLES` makes it longer. Memory
    does not follow what is sent, and what was accepted is counted to the end.
    """
    (tmp_path / "settings.toml").write_text(SETTINGS)
    async with ClarionProcess(tmp_path, api_key=KEY) as clarion:
        before_kb = resident_kb(clarion.pid)

        report = judge(clarion.url, tmp_path)

        assert resident_kb(clarion.pid) < 3 * before_kb
        stats = await clarion.client.stats()
        assert '"level": "error"' not in clarion.log
        assert await clarion.terminate() == 0

    assert report["complete"]
    assert report["operations"]["tested"] == len(ENDPOINTS) - 1  # less the document itself
    assert {each["status"] for each in report["phases"].values()} == {"success"}
    assert report["test_cases"]["generated"] > 25 * len(ENDPOINTS)
    assert stats["accepted"] == sum(stats["by_status"].values()) > 0
    assert out_of_reach(report) <= CANNOT_BE_SENT


def judge(url: str, directory: Path) -> Any:
    """Let schemathesis loose on a server, and return its report; fails with what it says."""
    report = directory / "report.json"
    found = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "--no-color", "--config-file", CHECKS,
            "run", f"{url}/openapi.json", "--seed", str(SEED), "--max-examples", str(EXAMPLES),
            "--report-json-path", report,
        ],
        cwd=directory, capture_output=True, text=True, check=False,
        env={**os.environ, "CLARION_KEY": KEY, "CLARION_HOOK_TOKEN": HOOK_TOKEN},
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(report.read_text())


def out_of_reach(report: Any) -> set[str]:
    """Return the operations whose bodies were refused each time: what is behind was not tried."""
    return {
        operation
        for operation, phases in report["valid_rates"].items()
        if not any(phase["accepted"] + phase["conflicts"] for phase in phases.values())
    }


def resident_kb(pid: int) -> int:
    """Return the memory that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])
