"""`deploy/cluster/`: several nodes on PostgreSQL and Redis, as Compose and Kubernetes start it."""

from __future__ import annotations

import re
import tomllib

import pytest

from clarion import app
from clarion.errors import SettingsError
from clarion.http import auth, connection
from clarion.settings import load

KEY = "0123456789abcdef" * 4


def faults(deploy, node) -> list[str]:
    """Return what this version finds wrong with a node's settings in a node's environment."""
    own = {name: re.sub(r"\$\{[^}]*\}", "secret", value) for name, value in node.items()}
    given = {**deploy.dockerfile.environment, **own, "CLARION_API_KEY": KEY}
    try:
        load(deploy.directory / "cluster/settings.toml", env=given)
    except SettingsError as error:
        return [each.detail for each in error.faults]
    return []


@pytest.fixture(scope="module")
def compose(deploy):
    return deploy.document("cluster/compose.cluster.yaml")


@pytest.fixture(scope="module")
def nodes(compose):
    return {name: each for name, each in compose["services"].items() if "clarion-" in name}


@pytest.fixture(scope="module")
def pod(deploy):
    return deploy.object("cluster/clarion.yaml", "Deployment")["spec"]["template"]["spec"]


def test_the_settings_are_right(deploy, nodes):
    for node in nodes.values():
        assert faults(deploy, node["environment"]) == []


@pytest.fixture(scope="module")
def needed_s(deploy) -> float:
    """What a stop may take: the drain, the last writes, the last answers."""
    settings = tomllib.loads(deploy.text("cluster/settings.toml"))
    return settings["server"]["drain"] + app.STOP_S + connection.STOP_S


def test_docker_waits_for_the_drain_of_each_node(nodes, needed_s):
    assert len(nodes) == 2
    for node in nodes.values():
        assert float(node["stop_grace_period"].removesuffix("s")) >= needed_s


def test_kubernetes_waits_for_the_pause_and_the_drain(pod, needed_s):
    (container,) = pod["containers"]
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] >= pause_s + needed_s


def test_a_drain_of_machines_leaves_a_node_running(deploy):
    deployment = deploy.object("cluster/clarion.yaml", "Deployment")["spec"]
    budget = deploy.object("cluster/clarion.yaml", "PodDisruptionBudget")["spec"]

    assert budget["maxUnavailable"] < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = deployment["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"] == deployment["selector"]["matchLabels"] == labels


def test_a_pod_is_probed_and_confined_as_the_single_one_is(deploy, pod):
    single = deploy.object("kubernetes/clarion.yaml", "StatefulSet")["spec"]["template"]["spec"]
    (ours,), (theirs,) = pod["containers"], single["containers"]
    same = ("startupProbe", "livenessProbe", "readinessProbe", "securityContext", "ports")

    assert {each: ours[each] for each in same} == {each: theirs[each] for each in same}
    assert pod["securityContext"] == single["securityContext"]
    assert ours["readinessProbe"]["httpGet"]["path"] in auth.OPEN


def test_prometheus_finds_both_nodes(deploy, nodes):
    (job,) = deploy.document("cluster/prometheus.yml")["scrape_configs"]
    (single,) = deploy.document("prometheus/prometheus.yml")["scrape_configs"]
    port = deploy.dockerfile.last("EXPOSE")

    assert job["static_configs"] == [{"targets": [f"{name}:{port}" for name in nodes]}]
    assert job["job_name"] == single["job_name"]
    assert job["authorization"] == single["authorization"]


def test_every_file_and_variable_of_compose_is_there(deploy, compose):
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service["volumes"]
    ]
    files = [each for each in mounted if each.startswith(".")]
    asked = set(re.findall(r"\$\{(\w+)", deploy.text("cluster/compose.cluster.yaml")))
    example = set(re.findall(r"(?m)^(\w+)=", deploy.text("cluster/.env.example")))

    assert [each for each in files if not (deploy.directory / "cluster" / each).exists()] == []
    assert {each for each in mounted if each not in files} == set(compose["volumes"])
    assert asked == example


def test_everything_is_published_on_loopback_and_once(compose):
    ports = [port for each in compose["services"].values() for port in each.get("ports", ())]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_the_image_of_the_nodes_is_built_with_the_driver_of_their_database(deploy, nodes):
    """The argument is one that the Dockerfile has, and that it hands to pip."""
    (install,) = (run for run in deploy.dockerfile.all("RUN") if "pip install" in run)

    for node in nodes.values():
        assert node["build"]["args"] == {"EXTRAS": "postgres"}
    assert 'EXTRAS=""' in deploy.dockerfile.all("ARG")
    assert install.endswith('".${EXTRAS:+[$EXTRAS]}"')
