"""Alerts and dashboard ask for metrics and labels that exist, and the handbook knows each alert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from clarion.domain.notification import Reason, Status
from clarion.domain.outcome import Outcome
from clarion.telemetry import metrics
from clarion.telemetry.metrics import Metrics

OF_PROMETHEUS = {"job", "instance"}
"""Labels that every series is given by the scrape."""
VALUES = {"status": set(Status), "reason": set(Reason), "outcome": set(Outcome)}
"""What a label may be asked for, where that is a closed vocabulary."""


def labels_of_samples() -> dict[str, set[str]]:
    """Return what `/metrics` offers: the labels of each sample, by its name."""
    metrics.circuit_state("deploy", 0)
    found = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
    registries = (Metrics("0")._registry, metrics._process)
    for registry in registries:
        for metric in registry._collector_to_names:
            labels = set(metric._labelnames)
            name = metric._name
            match metric._type:
                case "counter":
                    found[f"{name}_total"] = labels
                case "histogram":
                    found |= {f"{name}_sum": labels, f"{name}_count": labels}
                    found[f"{name}_bucket"] = labels | {"le"}
                case _:
                    found[name] = labels
    return {name: labels | OF_PROMETHEUS for name, labels in found.items()}


KNOWN = labels_of_samples()


def rules(deploy) -> list[dict]:
    groups = deploy.document("prometheus/rules.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries(deploy) -> list[str]:
    """Return every expression of rules and dashboard."""
    panels = json.loads(deploy.text("grafana/clarion.json"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return asked + [rule["expr"] for rule in rules(deploy)]


def names_in(query: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", query)
    return set(re.findall(r"\b(?:clarion|circuit_breaker)_\w+|\bup\b|\bALERTS\b", bare))


def labels_in(query: str) -> set[str]:
    matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query)
    return matched | {label.strip() for group in grouped for label in group.split(",")}


def offered(query: str) -> set[str]:
    return set().union(*(KNOWN.get(name, set()) for name in names_in(query)))


def test_every_metric_that_is_asked_for_exists(deploy):
    asked = {query: names_in(query) for query in queries(deploy)}

    assert all(asked.values())
    assert set().union(*asked.values()) - set(KNOWN) == set()


def test_every_label_that_is_asked_for_exists(deploy):
    """Where nothing has such a label, Prometheus finds nothing, and the alert never fires."""
    unknown = {query: labels_in(query) - offered(query) for query in queries(deploy)}

    assert {query: labels for query, labels in unknown.items() if labels} == {}


def test_every_word_that_is_asked_for_exists(deploy):
    asked = [
        (label, word)
        for query in queries(deploy)
        for label, word in re.findall(r"(\w+)!?=\"([a-z_]+)\"", query)
        if label in VALUES
    ]

    assert asked
    assert [(label, word) for label, word in asked if word not in VALUES[label]] == []


def test_every_alert_says_what_is_wrong_and_where_to_read_on(deploy):
    for rule in rules(deploy):
        text = rule["annotations"]
        assert rule["for"], rule
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule
        assert set(text) == {"summary", "description", "runbook"}, rule
        assert text["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        used = set(re.findall(r"\$labels\.(\w+)", text["summary"] + text["description"]))
        assert used <= offered(rule["expr"]), rule


def test_every_alert_has_its_section_in_the_handbook_and_no_other(deploy):
    page = (deploy.directory.parent / "docs/operations.md").read_text()

    sections = re.findall(r"(?m)^### (Clarion\w+)$", page)

    assert sections == [rule["alert"] for rule in rules(deploy)]


def test_every_metric_is_looked_at_but_those_that_seldom_help(deploy):
    """By an alert or on the dashboard."""
    shown = set().union(*map(names_in, queries(deploy)))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}

    seldom = {
        "clarion_notifications_purged_total", "clarion_receipts_total", "clarion_pool_connections",
        "clarion_pool_waited_seconds", "clarion_build_info", "circuit_breaker_open_total",
        "circuit_breaker_success_total",
        "circuit_breaker_failure_total", "clarion_storage_dead_rows",
    }  # fmt: skip
    there = {re.sub(r"_(bucket|sum|count)$", "", name) for name in KNOWN}
    assert there - bare == seldom


def test_panels_do_not_overlap(deploy):
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(deploy.text("grafana/clarion.json"))["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_the_alerts_fire_when_they_should(deploy):
    """By Prometheus' own rule tests: `rules.test.yml`."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: it is in Debian's package prometheus")

    done = subprocess.run(
        [promtool, "test", "rules", "rules.test.yml"], cwd=deploy.directory / "prometheus",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried(deploy):
    tests = deploy.document("prometheus/rules.test.yml")["tests"]
    tried = [alert for test in tests for alert in test["alert_rule_test"]]

    fired = {each["alertname"] for each in tried if each["exp_alerts"]}
    silent = {each["alertname"] for each in tried if not each["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in rules(deploy)}
