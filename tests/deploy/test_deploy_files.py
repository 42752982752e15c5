"""Ports, paths, probes, variables and grace periods: what `deploy/` says is what Clarion knows."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from clarion import app
from clarion.http import auth, connection, health
from clarion.http.endpoint import ENDPOINTS
from clarion.settings import load

KEY = "0123456789abcdef" * 4
PATHS = {each.path for each in ENDPOINTS}


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return float(number) * {"s": 1, "m": 60}[unit]


def as_shipped(deploy, **env):
    """Return the settings of the image, in the environment of the image."""
    given = {**deploy.dockerfile.environment, "CLARION_API_KEY": KEY, **env}
    return load(deploy.directory / "settings.toml", env=given)


def needed_s(settings) -> float:
    """Return what a stop may take: the drain, the last writes, the last answers."""
    return settings.server.drain + app.STOP_S + connection.STOP_S


@pytest.fixture(scope="module")
def compose(deploy):
    return deploy.document("compose.yaml")


@pytest.fixture(scope="module")
def pod(deploy):
    return deploy.object("kubernetes/clarion.yaml", "StatefulSet")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (found,) = pod["containers"]
    return found


# --- the image ---------------------------------------------------------------------------------


def test_the_settings_of_the_image_are_right_in_its_environment(deploy):
    """A variable that no setting has would be a fault here."""
    settings = as_shipped(deploy)

    assert settings.server.host == "0.0.0.0"
    assert settings.server.port == int(deploy.dockerfile.last("EXPOSE"))


def test_everything_that_is_written_lies_in_the_volume(deploy):
    volume = deploy.dockerfile.last("VOLUME")
    document = tomllib.loads(deploy.text("settings.toml"))

    assert document["storage"]["url"].startswith(f"sqlite:///{volume}/")
    assert document["providers"]["outbox"]["directory"].startswith(f"{volume}/")


def test_the_volume_belongs_to_the_user_of_the_image(deploy):
    user, group = deploy.dockerfile.last("USER").split(":")

    (made,) = (run for run in deploy.dockerfile.all("RUN") if run.startswith("install "))
    assert made.endswith(f"-o {user} -g {group} {deploy.dockerfile.last('VOLUME')}")
    assert int(user) > 0


def test_the_health_check_of_the_image_asks_what_a_restart_can_help(deploy):
    """Not /readyz or /health: on a full disk they are 503, and a restart makes that worse."""
    options, command = deploy.dockerfile.health_check
    port = deploy.dockerfile.last("EXPOSE")

    assert f"'127.0.0.1', {port}" in command[-1]
    assert "'/livez'" in command[-1]
    assert seconds(options["start-period"]) >= 60


def test_what_the_image_copies_is_let_through_to_the_build(deploy):
    """The ignore file lets nothing else pass: no database, no secret."""
    rules = [line for line in deploy.text("Dockerfile.dockerignore").splitlines() if line]
    passed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for text in deploy.dockerfile.all("COPY")
        if "--from=" not in text
        for source in text.split()[:-1]
    }

    assert "*" in rules
    assert copied == passed


# --- Compose -----------------------------------------------------------------------------------


def test_docker_waits_for_the_drain(deploy, compose):
    """And systemd: the unit of the handbook has the same figure."""
    grace_s = seconds(compose["services"]["clarion"]["stop_grace_period"])
    handbook = (deploy.directory.parent / "docs/operations.md").read_text()

    assert grace_s >= needed_s(as_shipped(deploy))
    assert f"TimeoutStopSec={grace_s:g}" in handbook


def test_the_container_may_write_into_its_volume_only(deploy, compose):
    clarion = compose["services"]["clarion"]
    volume = deploy.dockerfile.last("VOLUME")

    assert clarion["read_only"] is True
    assert clarion["cap_drop"] == ["ALL"]
    assert clarion["volumes"] == [
        f"data:{volume}",
        "./settings.toml:/etc/clarion/settings.toml:ro",
    ]
    assert "data" in compose["volumes"]


def test_everything_is_published_on_loopback(deploy, compose):
    """What is published on all addresses passes by most firewalls of the host."""
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    clarion = compose["services"]["clarion"]["ports"]
    assert clarion[0].endswith(f":{deploy.dockerfile.last('EXPOSE')}")


def test_every_file_that_compose_mounts_is_there(deploy, compose):
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service["volumes"]
    ]
    files = [source for source in mounted if source.startswith(".")]

    assert [each for each in files if not (deploy.directory / each).exists()] == []
    assert {each for each in mounted if each not in files} == set(compose["volumes"])


def test_every_variable_that_compose_asks_for_is_in_the_example(deploy):
    """And the file with the real ones is never committed."""
    asked = set(re.findall(r"\$\{(\w+)", deploy.text("compose.yaml")))
    example = set(re.findall(r"(?m)^(\w+)=", deploy.text(".env.example")))

    assert asked == example
    ignored = (deploy.directory.parent / ".gitignore").read_text().splitlines()
    assert {"/deploy/.env", "/deploy/providers.env"} <= set(ignored)


# --- Kubernetes --------------------------------------------------------------------------------


def test_kubernetes_waits_for_the_drain(deploy, pod):
    assert pod["terminationGracePeriodSeconds"] >= needed_s(as_shipped(deploy))


def test_one_process_has_the_database(deploy):
    stateful = deploy.object("kubernetes/clarion.yaml", "StatefulSet")["spec"]

    assert stateful["replicas"] == 1


def test_the_pod_runs_as_the_image_does(deploy, pod, container):
    user, group = map(int, deploy.dockerfile.last("USER").split(":"))
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}

    assert pod["securityContext"]["runAsUser"] == user
    assert pod["securityContext"]["fsGroup"] == group
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["ports"][0]["containerPort"] == int(deploy.dockerfile.last("EXPOSE"))
    assert deploy.dockerfile.last("VOLUME") in mounts
    assert mounts[deploy.dockerfile.last("WORKDIR")]["name"] == "settings"


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")],
)
def test_a_probe_asks_what_needs_no_key_and_waits_for_the_answer(container, probe, path):
    """/readyz asks parts that may take `ASK_S` to answer."""
    found = container[probe]

    assert found["httpGet"] == {"path": path, "port": container["ports"][0]["name"]}
    assert path in PATHS & auth.OPEN
    assert found["timeoutSeconds"] > health.ASK_S


def test_the_service_leads_to_the_pod(deploy, container):
    service = deploy.object("kubernetes/clarion.yaml", "Service")
    stateful = deploy.object("kubernetes/clarion.yaml", "StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]

    assert service["spec"]["selector"] == stateful["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert stateful["serviceName"] == service["metadata"]["name"]


def test_the_kustomization_brings_settings_and_manifests(deploy, pod):
    kustomization = deploy.document("kustomization.yaml")
    (generated,) = kustomization["configMapGenerator"]
    volumes = {each["name"]: each for each in pod["volumes"]}

    assert all((deploy.directory / each).exists() for each in kustomization["resources"])
    assert generated["files"] == ["settings.toml"]
    assert volumes["settings"]["configMap"]["name"] == generated["name"]


# --- who watches -------------------------------------------------------------------------------


def test_prometheus_finds_the_metrics_and_has_the_key(deploy, compose):
    (job,) = deploy.document("prometheus/prometheus.yml")["scrape_configs"]
    (secret,) = compose["services"]["prometheus"]["secrets"]

    assert job["static_configs"] == [{"targets": [f"clarion:{deploy.dockerfile.last('EXPOSE')}"]}]
    assert job.get("metrics_path", "/metrics") in PATHS
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret['target']}"
    assert compose["secrets"][secret["source"]] == {"environment": "CLARION_API_KEY"}


def test_the_operator_of_prometheus_finds_them_too(deploy, pod):
    monitor = deploy.document("kubernetes/monitoring.yaml")["spec"]
    service = deploy.object("kubernetes/clarion.yaml", "Service")
    (endpoint,) = monitor["endpoints"]
    (job,) = deploy.document("prometheus/prometheus.yml")["scrape_configs"]

    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["path"] in PATHS
    secret = pod["containers"][0]["envFrom"][0]["secretRef"]["name"]
    credentials = endpoint["authorization"]["credentials"]
    assert credentials == {"name": secret, "key": "CLARION_API_KEY"}
    # Without a jobLabel the job is named after the Service.
    assert service["metadata"]["name"] == job["job_name"]


def test_grafana_is_given_prometheus_and_the_dashboard(deploy, compose):
    grafana = compose["services"]["grafana"]
    mounts = dict(reversed(each.split(":")[:2]) for each in grafana["volumes"])
    (source,) = deploy.document("grafana/datasources.yml")["datasources"]
    (provider,) = deploy.document("grafana/dashboards.yml")["providers"]

    dashboard = f"{provider['options']['path']}/clarion.json"
    assert mounts[dashboard] == "./grafana/clarion.json"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    assert source["url"] == "http://prometheus:9090"
    scrape = deploy.document("prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape


# --- the page ----------------------------------------------------------------------------------


def test_every_link_of_the_page_leads_somewhere(deploy):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", deploy.text("README.md"))

    assert [each for each in targets if not (deploy.directory / each).exists()] == []


def test_the_command_of_the_page_makes_the_rules_an_object_of_the_operator(deploy):
    command = re.search(r"(?m)^\$ (\{ printf .*\}) \| kubectl apply", deploy.text("README.md"))[1]

    made = subprocess.run(
        ["sh", "-c", command], cwd=deploy.directory.parent, capture_output=True, check=True,
    ).stdout  # fmt: skip

    found = yaml.safe_load(made)
    assert (found["kind"], found["spec"]) == (
        "PrometheusRule",
        deploy.document("prometheus/rules.yml"),
    )
