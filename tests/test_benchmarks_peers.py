"""The comparison with peers measures what it says: with a peer that needs nothing but a folder."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.micro import actor
from benchmarks.micro.case import OURS, Group, awaiting
from benchmarks.micro.case import measure as time_group
from benchmarks.peers import app as applications
from benchmarks.peers import broker, environment, report, sitting, table
from benchmarks.peers.catalogue import RECIPES, Recipe
from benchmarks.peers.command import main
from benchmarks.peers.contestant import NotPrepared
from benchmarks.peers.environment import Environment
from benchmarks.peers.own import Bare, Clarion
from benchmarks.peers.queued import QueuePeer
from benchmarks.peers.run import Run, measure
from benchmarks.peers.scenario import SCENARIOS, Scenario
from benchmarks.peers.sitting import Sitting

FULL = Scenario("full", "as fast as it goes")
FAILING = Scenario("failing", "every fourth call fails", fail_every=4, per_second=100.0)
KILLED = Scenario("killed", "kill -9", latency_ms=20.0, per_second=100.0, kills=True)
SECONDS = 1.0

SPOOL = """
import asyncio, contextlib, json, os, uuid
from pathlib import Path

from benchmarks import loop
from benchmarks.peers.app import work

FOLDER = Path(work.BROKER_URL)

@contextlib.asynccontextmanager
async def producer():
    async def enqueue(notification):
        path = FOLDER / uuid.uuid4().hex
        path.with_suffix(".part").write_text(json.dumps(notification))
        path.with_suffix(".part").rename(path.with_suffix(".json"))
    yield enqueue

async def deliver(path):
    with contextlib.suppress(work.ProviderError):
        await work.deliver(json.loads(path.read_text()))
        path.unlink()

async def serve():
    while True:
        await asyncio.gather(*map(deliver, list(FOLDER.glob("*.json"))[: work.SLOTS]))
        await asyncio.sleep(0.01)

if __name__ == "__main__":
    loop.run(serve())
"""
"""A queue of one file for each notification, deleted once it is delivered."""


class Spool:
    """A broker without a process."""

    environment = Environment("nothing", ())
    versions = ()

    async def start(self, site):
        folder = site.directory / "spool"
        folder.mkdir()
        return str(folder)

    def pids(self):
        return []

    async def stop(self):
        return None


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Return a peer that runs in this environment, by the same code as all of them."""
    (tmp_path / "spool_peer.py").write_text(SPOOL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(broker.BROKERS, "spool", Spool)
    monkeypatch.setattr(Environment, "python", sys.executable)
    return QueuePeer(
        Recipe("spool", (), ("spool_peer",), "files", "spool", 1, application="spool_peer")
    )


@pytest.mark.parametrize("scenario", [FULL, FAILING], ids=lambda each: each.name)
async def test_a_peer_is_measured_from_the_acceptance_to_the_provider(spool, scenario):
    """Everything that the load saw accepted is found at the provider, refused calls included."""
    found = await measure(spool, scenario, SECONDS)

    assert found.accepted > 0
    assert (found.refused, found.undelivered) == (0, 0)
    assert found.delivered == found.accepted
    assert found.cpu_s_per_1000 > 0
    assert found.peak_mb > 0
    assert spool.pids() == []


@pytest.fixture
def no_settling(monkeypatch):
    """Leases are over at once here."""
    monkeypatch.setattr("benchmarks.peers.run.SETTLING_S", 0.0)


async def test_a_killed_worker_is_started_again_and_loses_nothing_here(spool, no_settling):
    """What it had in hand is delivered after the kill; what was out is delivered twice."""
    found = await measure(spool, KILLED, SECONDS)

    assert found.accepted == SECONDS * KILLED.per_second
    assert found.undelivered == 0
    assert found.recovered_s is not None
    assert found.cpu_s_per_1000 is None


async def test_clarion_is_killed_as_a_whole_and_keeps_what_it_accepted(no_settling):
    """Its only process takes the connections of the load with it, but nothing accepted."""
    found = await measure(Clarion(), KILLED, SECONDS)

    assert 0 < found.accepted < SECONDS * KILLED.per_second
    assert found.undelivered == 0


async def test_a_run_that_breaks_ends_its_processes_and_spares_the_others(spool, monkeypatch):
    """A peer whose worker cannot start is told of; the sitting goes on."""
    monkeypatch.setattr("benchmarks.peers.run.WARM_UP_S", 0.5)
    broken = QueuePeer(
        Recipe("broken", (), ("no_such_module",), "-", "spool", 1, application="spool_peer")
    )
    monkeypatch.setattr(QueuePeer, "prepare", lambda self: {"spool": "1"})

    held = await sitting.hold([broken, Bare()], [FULL], seconds=0.3, rounds=1, say=lambda _: None)

    assert "does not deliver" in held.missing["broken, full"]
    assert [run.contestant for run in held.runs] == ["bare"]
    assert broken.pids() == []


def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    """Without a network there is a sentence, not a traceback."""
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(NotPrepared, match=r"no-such-peer could not be installed. Is there a net"):
        Environment("lonely", ("no-such-peer",)).prepare()


def held_sitting() -> Sitting:
    """Return a sitting that was never held, with two runs of everybody."""
    runs = [
        Run(name, scenario.name, 10, 100.0 * n, 1.0, 2.0, 0, 10, 90.0 * n, 3.0, 4.0,
            None if scenario.kills else 0.5, 80.0, 0, 1, 2.5 if scenario.kills else None)
        for n, name in enumerate(("clarion", "rq", "saq", "bare"), 1)
        for scenario in SCENARIOS
    ]  # fmt: skip
    found = {
        "cpu": "a CPU", "cores": 2, "memory_gb": 8.0, "kernel": "6", "python": "3.11",
        "sqlite": "3.40", "load_before": 0.1, "load_after": 0.2, "stolen_share": 0.0,
        "took_s": 60.0,
    }  # fmt: skip
    return Sitting(
        found,
        ["all: quiet."],
        {"rq": {"rq": "1"}},
        {"rq": "forks"},
        4.0,
        1,
        {"arq": "no net\nat all"},
        runs,
    )


def test_a_report_has_each_contestant_in_each_table(tmp_path):
    """Clarion first, the ceiling last, the fastest peers before the slower ones."""
    held = held_sitting()

    path = report.write(held, tmp_path)

    assert held.contestants() == ["clarion", "saq", "rq", "bare"]
    text = path.read_text()
    for scenario in SCENARIOS:
        assert [row[0] for row in table.rows(held, scenario)] == held.contestants()
        assert text.count(f"## {scenario.title[0].upper()}{scenario.title[1:]}\n") == 1
    assert "- arq: no net\n" in text
    heads, found = table.summary(held)
    assert [row[0] for row in found] == held.contestants()
    assert {len(row) for row in found} == {len(heads)}
    assert Sitting.from_json(json.loads((tmp_path / "peers.json").read_text())) == held


def test_charts_are_drawings_with_a_bar_for_each(tmp_path):
    """Well-formed, the longest bar as wide as there is room, a label at each."""
    held = held_sitting()

    report.write(held, tmp_path)

    charts = sorted(tmp_path.glob("*.svg"))
    assert len(charts) == 4
    for path in charts:
        drawing = ET.fromstring(path.read_text())
        bars = drawing.findall("{http://www.w3.org/2000/svg}rect")
        assert [bar.get("class") for bar in bars] == ["ours", "peer", "peer", "ceiling"]
        assert max(float(bar.get("width")) for bar in bars) == 720 - 120 - 70


def test_sittings_are_joined_into_one_report(tmp_path):
    """Some scenarios need a quiet machine, others only time."""
    whole, fast, killed = held_sitting(), held_sitting(), held_sitting()
    fast.runs = [run for run in whole.runs if run.scenario != "killed"]
    killed.runs = [run for run in whole.runs if run.scenario == "killed"]
    killed.conditions = ["killed: noisy."]

    fast.join(killed)

    assert table.measured(fast) == list(SCENARIOS)
    text = report.write(fast, tmp_path).read_text()
    assert "- all: quiet.\n- killed: noisy.\n" in text


def test_a_report_can_be_written_again_from_its_json(tmp_path, capsys):
    """Measured once, told as often as wanted."""
    report.write(held_sitting(), tmp_path)

    assert main(["--report", str(tmp_path / "peers.json"), "--out", str(tmp_path / "again")]) == 0

    assert (tmp_path / "again" / "peers.md").read_text() == (tmp_path / "peers.md").read_text()
    assert SCENARIOS[0].title in capsys.readouterr().out


def test_each_peer_has_an_application_that_gives_a_producer():
    """The catalogue and the modules of `app` name the same peers."""
    folder = Path(applications.__file__).parent

    for recipe in RECIPES:
        tree = ast.parse((folder / f"{recipe.name}.py").read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}
        assert "producer" in defined, recipe.name
        assert recipe.broker in broker.BROKERS

    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("group", actor.GROUPS, ids=lambda group: group.title)
async def test_every_kind_of_actor_does_what_it_is_timed_for(group):
    """Each case runs to its end."""
    found = await time_group(group, count=20, rounds=1)

    assert set(found.us) == {case.library for case in group.cases}
    assert all(us > 0 for us in found.us.values())


async def test_a_case_is_made_anew_for_each_round_and_does_all_its_turns():
    """State of one round must not make the next one faster."""
    made: list[list[int]] = []

    def make():
        calls: list[int] = []
        made.append(calls)

        async def call():
            calls.append(1)

        return call

    found = await time_group(Group("nothing", (awaiting(OURS, make),)), count=7, rounds=3)

    assert [len(calls) for calls in made] == [207, 207, 207]
    assert found.ratio(OURS) == 1.0
