"""The manifests are valid, and consistent with each other and with the programs. No cluster is needed."""

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import kubernetes_validate
import pytest
import yaml

import checks
from manifests import KUBERNETES, OVERLAYS, ROOT, Manifest, build, find, of_kind, overlay, read_yaml

# The oldest version of Kubernetes that the manifests are for, and the newest that the validator knows.
KUBERNETES_VERSIONS = ("1.31", "1.37")
EXAMPLES = {"demo": [], "managed": read_yaml(KUBERNETES / "overlays" / "managed" / "secrets.example.yaml")}


@pytest.fixture(params=OVERLAYS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each overlay."""
    return request.param


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_manifest_follows_the_schema_of_kubernetes(name: str, version: str) -> None:
    manifests = overlay(name) + EXAMPLES[name]
    assert len(manifests) > 15
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validator_refuses_a_field_that_does_not_exist(name: str) -> None:
    wrong = copy.deepcopy(find(overlay(name), "Deployment", "ingest-api"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", ["overlays/demo", "overlays/managed", "monitoring"])
def test_kustomize_builds_what_these_tests_read(folder: str) -> None:
    command = kustomize_command()
    if command is None:
        pytest.skip("neither kustomize nor kubectl 1.21 or newer is installed")
    built = subprocess.run([*command, str(KUBERNETES / folder)], capture_output=True, text=True, check=True).stdout

    def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
        return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}

    assert by_name(list(yaml.safe_load_all(built))) == by_name(build(KUBERNETES / folder))


def kustomize_command() -> list[str] | None:
    """The command of an installed kustomize that knows all that the folders use."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        version = subprocess.run(
            ["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True, check=False
        ).stdout
        try:
            minor = json.loads(version)["clientVersion"]["minor"]
        except (ValueError, KeyError):
            return None
        return ["kubectl", "kustomize"] if int(re.match(r"\d+", minor).group()) >= 21 else None
    return None


@pytest.mark.parametrize("check", checks.CHECKS)
def test_the_manifests_are_consistent(name: str, check: Callable[[list[Manifest]], None]) -> None:
    check(overlay(name))


def test_every_secret_and_every_key_exists(name: str) -> None:
    checks.check_references(overlay(name), EXAMPLES[name])


def test_the_monitors_find_the_metrics_under_the_jobs_of_the_alerts(name: str) -> None:
    monitors = of_kind(build(KUBERNETES / "monitoring"), "ServiceMonitor")
    services = of_kind(overlay(name), "Service")
    jobs = {monitor_job(services, monitor) for monitor in monitors}
    prometheus = yaml.safe_load((ROOT / "grafana" / "prometheus.yml").read_text())
    assert jobs == {config["job_name"] for config in prometheus["scrape_configs"]}


def monitor_job(services: list[Manifest], monitor: Manifest) -> str:
    """The job under which Prometheus scrapes what a monitor selects."""
    selector = monitor["spec"]["selector"]
    (service,) = (service for service in services if checks.matches(selector, service["metadata"]["labels"]))
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics" and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"], "a monitor looks in its own namespace"
    return service["metadata"]["labels"][monitor["spec"]["jobLabel"]]


def test_the_rules_are_those_of_grafana() -> None:
    sys.path.insert(0, str(KUBERNETES / "monitoring"))
    import rules

    assert (KUBERNETES / "monitoring" / "rules.yaml").read_text() == rules.prometheus_rule(), "run monitoring/rules.py"
    (rule,) = of_kind(build(KUBERNETES / "monitoring"), "PrometheusRule")
    files = sorted((ROOT / "grafana" / "rules").glob("*.yml"))
    assert rule["spec"]["groups"] == [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]


def test_the_autoscaler_uses_the_metric_of_the_adapter() -> None:
    (adapter,) = read_yaml(KUBERNETES / "examples" / "prometheus-adapter.yaml")
    (rule,) = adapter["rules"]["external"]
    scaler = find(overlay("demo"), "HorizontalPodAutoscaler", "stream-worker")
    (metric,) = (entry["external"]["metric"]["name"] for entry in scaler["spec"]["metrics"] if entry["type"] == "External")
    assert rule["name"]["as"] == metric
    assert f"`{metric}`" in (ROOT / "docs" / "metrics.md").read_text()


def change(kind: str, of: str, *path: str | int) -> Callable[[list[Manifest], object], None]:
    """Replaces what is at this path of a manifest."""

    def replace(manifests: list[Manifest], value: object) -> None:
        place = find(manifests, kind, of)
        for step in path[:-1]:
            place = place[step]
        assert place[path[-1]] != value
        place[path[-1]] = value

    return replace


CONTAINER = ("spec", "template", "spec", "containers", 0)
MISTAKES = [
    (checks.check_ports, change("ConfigMap", "ingest-api", "data", "LISTEN_ADDR"), "0.0.0.0:8081"),
    (checks.check_ports, change("ConfigMap", "stream-worker", "data", "METRICS_ADDR"), "127.0.0.1:9101"),
    (checks.check_ports, change("Deployment", "stream-worker", *CONTAINER, "ports", 0, "containerPort"), 9100),
    (checks.check_ports, change("Deployment", "ingest-api", *CONTAINER, "livenessProbe", "httpGet", "path"), "/readyz"),
    (checks.check_ports, change("Deployment", "ingest-api", *CONTAINER, "readinessProbe", "httpGet", "path"), "/ready"),
    (checks.check_ports, change("Service", "ingest-api", "spec", "ports", 0, "targetPort"), "web"),
    (checks.check_selectors, change("Service", "ingest-api", "spec", "selector"), {"app": "ingest-api"}),
    (checks.check_selectors, change("Deployment", "ingest-api", "spec", "selector", "matchLabels"), {"app": "api"}),
    (checks.check_selectors, change("HorizontalPodAutoscaler", "stream-worker", "spec", "scaleTargetRef", "name"), "worker"),
    (
        checks.check_selectors,
        change("PodDisruptionBudget", "ingest-api", "spec", "selector", "matchLabels"),
        {"app.kubernetes.io/name": "stream-worker"},
    ),
    (checks.check_settings, change("ConfigMap", "ingest-api", "data"), {"DRAIN_GRACE": "5000"}),
    (checks.check_settings, change("Deployment", "stream-worker", *CONTAINER, "env", 0, "name"), "REDIS_FILE"),
    (checks.check_grace, change("Deployment", "ingest-api", "spec", "template", "spec", "terminationGracePeriodSeconds"), 19),
    (checks.check_grace, change("ConfigMap", "ingest-api", "data", "DRAIN_GRACE_MS"), "1000"),
    (checks.check_security, change("Job", "migrate", *CONTAINER, "securityContext", "readOnlyRootFilesystem"), False),
    (checks.check_security, change("Deployment", "ingest-api", *CONTAINER, "image"), "millrace:latest"),
    (checks.check_network, change("NetworkPolicy", "ingest-api", "spec", "ingress", 0, "ports", 0, "port"), 80),
    (checks.check_network, change("NetworkPolicy", "to-postgres", "spec", "egress", 0, "ports", 0, "port"), 5433),
    (checks.check_network, change("NetworkPolicy", "metrics", "spec", "ingress", 0, "from"), []),
    (checks.check_network, change("NetworkPolicy", "deny-all", "spec", "policyTypes"), ["Ingress"]),
]


@pytest.mark.parametrize(("check", "make", "value"), MISTAKES)
def test_a_mistake_is_found(check: Callable, make: Callable, value: object, name: str) -> None:
    manifests = copy.deepcopy(overlay(name))
    make(manifests, value)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(manifests)


@pytest.mark.parametrize(
    "make",
    [
        change("Deployment", "ingest-api", *CONTAINER, "env", 0, "value"),
        change("Deployment", "ingest-api", "spec", "template", "spec", "volumes", 0, "secret", "secretName"),
        change("Job", "migrate", "spec", "template", "spec", "serviceAccountName"),
    ],
)
def test_a_wrong_reference_is_found(make: Callable, name: str) -> None:
    manifests = copy.deepcopy(overlay(name))
    make(manifests, "/etc/millrace/servers/elsewhere")
    with pytest.raises(AssertionError):
        checks.check_references(manifests, EXAMPLES[name])
